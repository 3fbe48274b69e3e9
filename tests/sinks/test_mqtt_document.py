"""The recipe of docs/mqtt.md for a broker works: certificates, passwords and access rules."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

from components import require_programs
from mqtt_rig import MOSQUITTO, NODE, Subscriber, emit, eventually, free_port, reading

from edge_sser.sinks.mqtt.sink import LinkState, MqttSink

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = re.findall(r"```\w*\n(.*?)```", (DOCS / "mqtt.md").read_text("utf-8"), re.DOTALL)


def block(marker: str) -> str:
    """The one block of code with a marker in it."""
    (found,) = [text for text in BLOCKS if marker in text]
    return found


def test_the_broker_of_the_recipe_lets_the_device_in_and_the_dashboard_read(
    tmp_path: Path, open_sink: Callable[..., MqttSink], start_subscriber: Callable[..., Subscriber]
) -> None:
    require_programs("openssl", "mosquitto_passwd", packages="openssl mosquitto")
    place, port = str(tmp_path), free_port()
    (tmp_path / "certs").mkdir()
    recipe = block("ca.key").replace("/etc/mosquitto", place).replace("cabinet", NODE).replace("chown", "true")
    recipe = recipe.replace("DNS:broker.example", "IP:127.0.0.1")
    recipe = re.sub(r"mosquitto_passwd (-c )?(\S+) (\w+)", r"mosquitto_passwd \1-b \2 \3 of-\3", recipe)
    subprocess.run(["bash", "-euc", recipe], check=True, capture_output=True, timeout=60)
    (tmp_path / "edge-sser.acl").write_text(block("pattern readwrite"))
    (tmp_path / "password").write_text(f"of-{NODE}\n")
    configuration = (DOCS / "fleet" / "mosquitto.conf").read_text("utf-8").replace("/etc/mosquitto", place)
    configuration = configuration.replace("listener 8883", f"listener {port} 127.0.0.1")
    (tmp_path / "broker.conf").write_text(f"user root\npersistence_location {place}/\n{configuration}")
    ca_file = tmp_path / "certs" / "ca.pem"
    broker = subprocess.Popen([str(MOSQUITTO), "-c", str(tmp_path / "broker.conf")], stderr=subprocess.DEVNULL)
    try:
        tls = ssl.create_default_context(cafile=ca_file)
        tls.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python does from 3.13 on
        dashboard = start_subscriber(port, "edge-sser/#", tls=tls, login=("dashboard", "of-dashboard"))
        sink = open_sink(port, scheme="mqtts", user=NODE, password_file=tmp_path / "password", ca_file=ca_file)
        eventually(lambda: sink.report.link is LinkState.CONNECTED, "the device is let in")
        emit(sink, reading(1))
        eventually(lambda: dashboard.on(f"edge-sser/{NODE}/desk/reading"), "the dashboard reads")
    finally:
        broker.kill()
        broker.wait()
