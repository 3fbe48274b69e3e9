"""`edge-sser doctor` and the broker: each fault is found and its remedy named, and a running service is left alone."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from components import require, require_programs
from doctor_report import read_report
from mqtt_certificates import Authority
from mqtt_rig import LIMIT_SECONDS, NODE, Broker, Cable, Subscriber, eventually, free_port
from unprivileged import as_ordinary_user, folder_for_all

from edge_sser.cli import main
from edge_sser.commands.doctor.broker import check_broker
from edge_sser.commands.doctor.finding import CheckContext, State
from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import MqttSettings
from edge_sser.sinks.mqtt.sink import LinkState, MqttSink

DYNAMIC_SECURITY = Path("/usr/lib")
PROBE = f"edge-sser/{NODE}/doctor"
Examine = Callable[..., dict[str, str]]
StartBroker = Callable[..., Broker]


@pytest.fixture
def examine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Examine:
    """Runs the doctor with a broker in the settings; what it found, by check. No problem is exit status 0."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    def examine(url: str, *, patience: float = LIMIT_SECONDS, **settings: object) -> dict[str, str]:
        monkeypatch.setattr("edge_sser.commands.doctor.broker.ANSWER_SECONDS", patience)
        config = tmp_path / "doctor.toml"
        lines = [f"{key} = {json.dumps(value, default=str)}" for key, value in {"url": url, **settings}.items()]
        table = "\n".join(lines)
        config.write_text(f'node = "{NODE}"\n[[source]]\ndevice = "talk.flac"\n[mqtt]\n{table}\n')
        capfd.readouterr()
        status = main(["doctor", "--config", str(config)])
        out, err = capfd.readouterr()
        assert err == ""
        found = read_report(out)
        assert status == any(line.startswith("problem") for line in found.values())
        return found

    return examine


def tls_lines(authority: Authority, name: str = "broker", **options: Any) -> list[str]:
    cert, key = authority.issue(name, **options)
    return ["allow_anonymous true", f"certfile {cert}", f"keyfile {key}"]


def write_password(directory: Path, password: str) -> Path:
    path = directory / "mqtt-password"
    path.touch(mode=0o600)
    path.write_text(password + "\n")
    return path


@pytest.fixture
def password_broker(start_broker: StartBroker, tmp_path: Path) -> Broker:
    """A broker that knows cabinet (password: correct)."""
    require_programs("mosquitto_passwd", packages="mosquitto")
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "cabinet", "correct"], check=True, capture_output=True)
    return start_broker("allow_anonymous false", f"password_file {passwords}")


def test_a_broker_that_takes_everything_is_fine(password_broker: Broker, examine: Examine, tmp_path: Path) -> None:
    found = examine(
        f"mqtt://cabinet@127.0.0.1:{password_broker.port}", password_file=write_password(tmp_path, "correct")
    )
    assert found["broker"].startswith("fine")
    assert "as cabinet" in found["broker"]
    assert "MQTT 5" in found["broker"]
    assert found["secrets"].startswith("fine")


def test_a_running_service_stays_connected_and_nothing_is_left_behind(
    broker: Broker, start_subscriber: Callable[..., Subscriber], open_sink: Callable[..., MqttSink], examine: Examine
) -> None:
    subscriber = start_subscriber(broker.port)
    sink = open_sink(broker.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    eventually(lambda: subscriber.on(f"edge-sser/{NODE}/listen/state"), "the greeting arrives")
    status = subscriber.on(f"edge-sser/{NODE}/status")
    before = len(subscriber.received)
    assert examine(f"mqtt://127.0.0.1:{broker.port}")["broker"].startswith("fine")
    messages = eventually(lambda: len(subscriber.on(PROBE)) == 2 and subscriber.on(PROBE), "the doctor's messages")
    assert [(message.payload.strip(), message.retained) for message in messages] == [(b"", False)] * 2
    assert messages[0].payload == b""
    subscriber.publish("the/end", b"")
    eventually(lambda: subscriber.on("the/end"), "what was sent before is here")
    assert [message.topic for message in subscriber.received[before:] if message.topic.startswith("edge-sser")] == [
        PROBE,
        PROBE,
    ]
    assert subscriber.on(f"edge-sser/{NODE}/status") == status
    assert (sink.report.link, sink.report.connections) == (LinkState.CONNECTED, 1)
    late = start_subscriber(broker.port)
    eventually(lambda: late.on(f"edge-sser/{NODE}/status"), "what is retained")
    assert late.on(PROBE) == []


def test_a_closed_port(examine: Examine) -> None:
    found = examine(f"mqtt://127.0.0.1:{free_port()}")
    assert found["broker"].startswith("problem")
    assert "nothing listens there" in found["broker"]
    assert "-> start the broker, or correct host and port in mqtt.url" in found["broker"]


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64 + ".example"])
def test_a_name_that_does_not_resolve(examine: Examine, host: str) -> None:
    found = examine(f"mqtt://{host}")
    assert found["broker"].startswith("problem")
    assert f"the host {host} is not found" in found["broker"]
    assert "-> check mqtt.url" in found["broker"]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("scheme", ["mqtt", "mqtts"])
def test_a_port_that_says_nothing(examine: Examine, silent_port: int, scheme: str) -> None:
    found = examine(f"{scheme}://127.0.0.1:{silent_port}", patience=1.0)
    assert found["broker"].startswith("problem")
    assert "does not answer within 1 s" in found["broker"]
    assert "mqtt.url" in found["broker"].partition("->")[2]


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("another authority", "name the certificate of the authority that signed it as mqtt.ca_file"),
        ("the system's authorities", "name the certificate of the authority that signed it as mqtt.ca_file"),
        ("another host's name", "write the host in mqtt.url as the certificate names it"),
        ("expired", "renew it on the broker; or is this device's clock wrong?"),
        ("not yet valid", "set this device's clock"),
    ],
)
def test_a_certificate_that_cannot_be_trusted(
    fault: str, remedy: str, start_broker: StartBroker, authority: Authority, tmp_path: Path, examine: Examine
) -> None:
    days = {"expired": -3, "not yet valid": 3}.get(fault, 0)
    address = "192.0.2.1" if fault == "another host's name" else "127.0.0.1"
    broker = start_broker(*tls_lines(authority, fault.replace(" ", "-"), address=address, days_from_now=days))
    ca = {"another authority": Authority(tmp_path / "other").ca, "the system's authorities": None}
    files = {"ca_file": ca.get(fault, authority.ca)}
    found = examine(f"mqtts://127.0.0.1:{broker.port}", **{key: path for key, path in files.items() if path})
    assert found["broker"].startswith("problem")
    assert "cannot be trusted" in found["broker"]
    assert remedy in found["broker"].partition("->")[2]


def test_a_broker_that_wants_a_certificate(
    start_broker: StartBroker, authority: Authority, tmp_path: Path, examine: Examine
) -> None:
    broker = start_broker(*tls_lines(authority), f"cafile {authority.ca}", "require_certificate true")
    url = f"mqtts://127.0.0.1:{broker.port}"
    found = examine(url, ca_file=authority.ca)
    assert found["broker"].startswith("problem")
    assert "mqtt.cert_file and mqtt.key_file" in found["broker"].partition("->")[2]
    cert, key = Authority(tmp_path / "stranger").issue("device")
    found = examine(url, ca_file=authority.ca, cert_file=cert, key_file=key)
    assert found["broker"].startswith("problem")
    assert "of an authority that it knows" in found["broker"].partition("->")[2]
    cert, key = authority.issue("device")
    assert examine(url, ca_file=authority.ca, cert_file=cert, key_file=key)["broker"].startswith("fine")


def test_tls_and_no_tls_taken_for_each_other(
    broker: Broker, start_broker: StartBroker, authority: Authority, examine: Examine
) -> None:
    found = examine(f"mqtts://127.0.0.1:{broker.port}", ca_file=authority.ca)
    assert found["broker"].startswith("problem")
    assert f"is {broker.port} its port for TLS? Without TLS, mqtt.url starts with mqtt://" in found["broker"]
    encrypted = start_broker(*tls_lines(authority))
    found = examine(f"mqtt://127.0.0.1:{encrypted.port}")
    assert found["broker"].startswith("problem")
    assert f"is {encrypted.port} its port for TLS? Then mqtt.url starts with mqtts://" in found["broker"]


def test_a_wrong_password_and_no_user(password_broker: Broker, examine: Examine, tmp_path: Path) -> None:
    secret = write_password(tmp_path, "mistaken-secret")
    found = examine(f"mqtt://cabinet@127.0.0.1:{password_broker.port}", password_file=secret)
    assert found["broker"].startswith("problem")
    assert "-> check the user 'cabinet' and the password" in found["broker"]
    assert "mistaken-secret" not in "".join(found.values())
    found = examine(f"mqtt://127.0.0.1:{password_broker.port}")
    assert found["broker"].startswith("problem")
    assert "-> it may want a user and a password" in found["broker"]


def test_a_password_file_that_is_missing(broker: Broker, examine: Examine) -> None:
    found = examine(f"mqtt://cabinet@127.0.0.1:{broker.port}", password_file="/nowhere/password")
    assert found["broker"].startswith("problem")
    assert "/nowhere/password cannot be read: No such file" in found["broker"]
    assert "must hold the password on its first line" in found["broker"]


def test_the_password_of_a_service_is_looked_for_beside_its_settings(
    password_broker: Broker, examine: Examine, tmp_path: Path
) -> None:
    url = f"mqtt://cabinet@127.0.0.1:{password_broker.port}"
    assert examine(url)["broker"].startswith("problem")
    secret = write_password(tmp_path, "correct")
    found = examine(url)
    assert found["broker"].startswith("fine")
    assert found["secrets"] == f"fine     secrets     {secret}"
    secret.chmod(0o644)
    assert f"-> chmod o-rwx {secret}" in examine(url)["secrets"]


def test_a_password_that_is_the_services_alone_is_no_reason_to_open_it(broker: Broker) -> None:
    settings = Settings(mqtt=MqttSettings(url=f"mqtt://cabinet@127.0.0.1:{broker.port}"))
    with folder_for_all() as folder:
        write_password(folder, "secret").chmod(0o000)
        context = CheckContext(settings, (), microphone_configured=False, settings_file=folder / "config.toml")
        with as_ordinary_user():
            finding = check_broker(context)
    assert finding.state is State.WARNING
    assert finding.detail == f"not tried: this user may not read the service's password, {folder / 'mqtt-password'}"
    assert finding.remedy == f"sudo edge-sser doctor --config {folder / 'config.toml'}"


def test_a_password_and_a_key_that_everybody_may_read(
    start_broker: StartBroker, authority: Authority, tmp_path: Path, examine: Examine
) -> None:
    broker = start_broker(*tls_lines(authority))
    secret = write_password(tmp_path, "correct")
    cert, key = authority.issue("careless")
    url = f"mqtts://cabinet@127.0.0.1:{broker.port}"
    files = {"ca_file": authority.ca, "password_file": secret, "cert_file": cert, "key_file": key}
    key.chmod(0o644)
    found = examine(url, **files)
    assert found["secrets"].startswith("warning")
    assert f"-> chmod o-rwx {key}" in found["secrets"]
    key.chmod(0o600)
    assert examine(url, **files)["secrets"].startswith("fine")
    secret.chmod(0o604)
    found = examine(url, **files)
    assert found["secrets"].startswith("warning")
    assert f"-> chmod o-rwx {secret}" in found["secrets"]


def test_access_rules_that_deny_publishing(start_broker: StartBroker, tmp_path: Path, examine: Examine) -> None:
    rules = tmp_path / "rules"
    rules.touch(mode=0o600)
    rules.write_text("topic read #\ntopic readwrite edge-sser/another/#\n")
    broker = start_broker("allow_anonymous true", f"acl_file {rules}")
    found = examine(f"mqtt://127.0.0.1:{broker.port}")
    assert found["broker"].startswith("problem")
    assert f"does not let us publish to {PROBE}: Not authorized" in found["broker"]
    assert f"must let this user write edge-sser/{NODE}/#" in found["broker"].partition("->")[2]


@pytest.mark.parametrize("document", ["mqtt.md", "fleet/mosquitto.acl"])
def test_the_access_rules_of_the_documentation_are_fine(
    start_broker: StartBroker, tmp_path: Path, examine: Examine, document: str
) -> None:
    require_programs("mosquitto_passwd", packages="mosquitto")
    parts = (Path(__file__).parents[2] / "docs" / document).read_text().split("```")
    (text,) = [part for part in parts if "edge-sser/%u/" in part]
    rules, passwords = tmp_path / "rules", tmp_path / "passwords"
    for path, content in ((rules, text.lstrip()), (passwords, "")):
        path.touch(mode=0o600)
        path.write_text(content)
    for user in (NODE, "other"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "p"], check=True, capture_output=True)
    broker = start_broker("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")
    secret = write_password(tmp_path, "p")
    assert examine(f"mqtt://{NODE}@127.0.0.1:{broker.port}", password_file=secret)["broker"].startswith("fine")
    stranger = examine(f"mqtt://other@127.0.0.1:{broker.port}", password_file=secret)
    assert f"does not let us publish to {PROBE}" in stranger["broker"]


def test_access_rules_that_deny_commands(start_broker: StartBroker, tmp_path: Path, examine: Examine) -> None:
    plugin = next(DYNAMIC_SECURITY.glob("*/mosquitto_dynamic_security.so"), None)
    require(plugin is not None, "mosquitto's plugin for dynamic security not found: apt install mosquitto")
    rules = tmp_path / "rules.json"
    access = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False, "unsubscribe": True}
    anyone = {"groupname": "anyone", "roles": [], "clients": []}
    rules.write_text(json.dumps(
        {"defaultACLAccess": access, "groups": [anyone], "anonymousGroup": "anyone", "clients": [], "roles": []}
    ))  # fmt: skip
    broker = start_broker("allow_anonymous true", f"plugin {plugin}", f"plugin_opt_config_file {rules}")
    found = examine(f"mqtt://127.0.0.1:{broker.port}")
    assert found["broker"].startswith("warning")
    assert f"does not let us hear edge-sser/{NODE}/listen/set" in found["broker"]
    assert f"must let this user read edge-sser/{NODE}/#" in found["broker"].partition("->")[2]


@pytest.fixture
def idle_broker() -> Iterator[int]:
    """A port where everybody is let in, under MQTT 5, and nothing else ever happens."""
    clients: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                clients.append(server.accept()[0])
                clients[-1].recv(65_536)
                clients[-1].sendall(b"\x20\x03\x00\x00\x00")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    for client in clients:
        client.close()


def test_a_broker_that_does_not_acknowledge(idle_broker: int, examine: Examine) -> None:
    found = examine(f"mqtt://127.0.0.1:{idle_broker}", patience=5.0)
    assert found["broker"].startswith("problem")
    assert "does not acknowledge a message -> look into the log of the broker" in found["broker"]


def test_under_mqtt_3_1_1_it_is_said_that_rules_cannot_be_seen(broker: Broker, examine: Examine) -> None:
    def old_broker(first: bytes) -> bytes | None:
        level = first[first.index(b"MQTT") + 4]
        return b"\x20\x02\x00\x01" if level == 5 else None  # unacceptable protocol version, in the words of 3.1.1

    cable = Cable(broker.port, answer=old_broker)
    found = examine(f"mqtt://127.0.0.1:{cable.port}")
    cable.close()
    assert found["broker"].startswith("fine")
    assert "MQTT 3.1.1, which cannot say what is denied" in found["broker"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("retain_available false", "keeps no retained messages"),
        ("max_qos 0", "takes QoS 0 only"),
        ("message_size_limit 1000", "the largest of this device (Packet too large)"),
        ("max_packet_size 1000", "the largest of this device (the broker takes at most 1000 bytes)"),
        ("max_packet_size 500", "takes packets of at most 500 bytes: larger events are lost"),
    ],
)
def test_it_says_what_will_be_lost_at_a_broker_with_limits(
    start_broker: StartBroker, examine: Examine, line: str, said: str
) -> None:
    found = examine(f"mqtt://127.0.0.1:{start_broker('allow_anonymous true', line).port}")
    assert found["broker"].startswith("warning"), found
    assert said in found["broker"]


@pytest.mark.parametrize("line", ["max_inflight_messages 1", "max_keepalive 10"])
def test_limits_that_cost_nothing_are_fine(start_broker: StartBroker, examine: Examine, line: str) -> None:
    found = examine(f"mqtt://127.0.0.1:{start_broker('allow_anonymous true', line).port}")
    assert found["broker"].startswith("fine"), found


def test_a_broker_that_hangs_up_on_mqtt_5_is_tried_with_3_1_1(broker: Broker, examine: Examine) -> None:
    cable = Cable(broker.port, answer=lambda first: b"" if first[first.index(b"MQTT") + 4] == 5 else None)
    found = examine(f"mqtt://127.0.0.1:{cable.port}")
    cable.close()
    assert "MQTT 3.1.1" in found["broker"]


def test_a_service_is_not_thrown_out_by_a_broker_that_takes_the_users_name_for_the_client_id(
    start_broker: StartBroker, tmp_path: Path, examine: Examine, open_sink: Callable[..., MqttSink]
) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "cabinet", "correct"], check=True, capture_output=True)
    broker = start_broker("allow_anonymous false", f"password_file {passwords}", "use_username_as_clientid true")
    secret = write_password(tmp_path, "correct")
    url = f"mqtt://cabinet@127.0.0.1:{broker.port}"
    assert "lets us in as cabinet" in examine(url, password_file=secret)["broker"], "nobody to throw out"
    sink = open_sink(broker.port, user="cabinet", password_file=secret)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    eventually(lambda: (tmp_path / "state" / "outbox.db").exists(), "the outbox is open")
    found = examine(url, password_file=secret)["broker"]
    assert found.startswith("fine")
    assert f"the service (process {os.getpid()}) is connected as cabinet" in found
    assert (sink.report.link, sink.report.connections) == (LinkState.CONNECTED, 1)
    assert "already connected" not in broker.log_text()
