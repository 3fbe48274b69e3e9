"""The examples of docs/fleet.md work, and the figures of docs/results/fleet.md are those of the files with results."""

from __future__ import annotations

import itertools
import json
import random
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from components import require_programs
from mqtt_rig import NODE, Broker, Cable, Subscriber, emit, episode, eventually, health, reading

from edge_sser.events import Phase, as_dict
from edge_sser.settings.broker import BrokerAddress, parse_address
from edge_sser.settings.load import load_settings
from edge_sser.sinks.mqtt.sink import LinkState, MqttSink

Start = Callable[..., MqttSink]
StartBroker = Callable[..., Broker]
Subscribe = Callable[..., Subscriber]

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "fleet.md").read_text()
FIGURES = (DOCS / "results" / "fleet.md").read_text()


def block(marker: str) -> str:
    """The one block of code with a marker in it."""
    (found,) = [part.partition("\n")[2] for part in DOCUMENT.split("```")[1::2] if marker in part]
    return found


def test_a_bridge_passes_on_what_is_kept_with_its_numbers_and_brings_commands_down(
    start_broker: StartBroker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    upper = start_broker()
    lines = [line for line in block("bridge_protocol_version").splitlines() if not line.startswith("bridge_cafile")]
    lines = [re.sub(r"^address .*", f"address 127.0.0.1:{upper.port}", line) for line in lines]
    lower = start_broker("allow_anonymous true", *lines)
    above = start_subscriber(upper.port, "edge-sser/#")
    below = start_subscriber(lower.port, "edge-sser/#")
    sink = open_sink(lower.port)
    eventually(lambda: below.on(f"edge-sser/{NODE}/status"), "it is online")
    eventually(lambda: above.on(f"edge-sser/{NODE}/status"), "which is known above")
    emit(sink, reading(1))
    eventually(lambda: below.on(f"edge-sser/{NODE}/desk/reading"), "a reading stays below")
    for event in (episode(1), health()):
        emit(sink, event)
    (arrived,) = eventually(above.episodes, "an episode goes up")
    (known,) = eventually(below.episodes, "and stays below")
    assert arrived.properties == known.properties
    assert arrived.properties["seq"] == "1"
    eventually(lambda: above.on(f"edge-sser/{NODE}/desk/health"), "health goes up")
    above.publish(f"edge-sser/{NODE}/listen/set", "OFF")
    eventually(lambda: not sink.switch.on, "a command comes down")
    assert not above.on(f"edge-sser/{NODE}/desk/reading")


@pytest.mark.parametrize("seed", range(20))
def test_an_episode_is_one_row_however_often_and_late_its_messages_come(seed: int) -> None:
    """At least once and in order is what is promised: a message may come again after any later one."""
    chance = random.Random(seed)
    life: list[dict[str, Any]] = []
    for index, phase in enumerate((Phase.START, Phase.UPDATE, Phase.UPDATE, Phase.END)):
        told = {**as_dict(episode(1, phase)), "duration_s": 10.0 * index, "ts": f"2026-01-02T03:04:{index:02}.000Z"}
        life.append(told)
    life[-1]["ts"] = life[-2]["ts"]  # stopped in the moment of an update
    repeated = [life[: index + 1][-chance.randint(1, index + 1) :] for index in range(len(life))]
    database = sqlite3.connect(":memory:")
    create, insert, _ = block("on conflict").split(";")
    database.execute(create)
    for message in itertools.chain(*repeated):
        columns = {key: value for key, value in message.items() if f":{key}" in insert}
        database.execute(insert, columns)
    assert database.execute("select id, phase, duration_s from episodes").fetchall() == [(life[0]["id"], "end", 30.0)]


def test_a_drop_in_that_is_the_same_everywhere_gives_each_device_its_name_and_user(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[mqtt]\nurl = "mqtts://broker.example"\nretry_min_seconds = 30\n')
    variables = dict(re.findall(r"^Environment=(\w+)=(.*)$", block("Environment="), flags=re.MULTILINE))
    environment = {name: value.replace("%H", NODE) for name, value in variables.items()}
    settings = load_settings(config, environ=environment).settings
    assert settings.node == NODE
    assert settings.mqtt is not None
    assert parse_address(settings.mqtt.url) == BrokerAddress("broker.example", 8883, True, NODE)
    assert settings.mqtt.retry_min_seconds == 30


def test_passwords_made_for_a_list_of_nodes_open_the_broker_to_each(
    start_broker: StartBroker, open_sink: Start, tmp_path: Path
) -> None:
    require_programs("bash", "openssl", "mosquitto_passwd", packages="openssl mosquitto")
    (tmp_path / "nodes.txt").write_text(f"{NODE}\ncab13\n")
    subprocess.run(["bash", "-euc", block("mosquitto_passwd -U")], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "passwords").stat().st_mode & 0o077 == 0
    broker = start_broker("allow_anonymous false", f"password_file {tmp_path / 'passwords'}")
    for node, other in ((NODE, "cab13"), ("cab13", NODE)):
        right, wrong = tmp_path / f"{node}.password", tmp_path / f"{other}.password"
        sink = open_sink(broker.port, user=node, password_file=wrong, client_id=node)
        eventually(lambda sink=sink: sink.report.link is LinkState.REFUSED, "another node's password does not fit")
        sink.close()
        sink = open_sink(broker.port, user=node, password_file=right, client_id=node)
        eventually(lambda sink=sink: sink.report.link is LinkState.CONNECTED, "its own does")
        sink.close()


@pytest.mark.parametrize(("killed", "state"), [(True, "online"), (False, "offline")])
def test_a_device_that_dies_with_its_broker_stays_online_in_its_status_unless_the_broker_stops_in_order(
    killed: bool, state: str, broker: Broker, start_subscriber: Subscribe, open_sink: Start, tmp_path: Path
) -> None:
    cable = Cable(broker.port)
    open_sink(cable.port)
    before = start_subscriber(broker.port, f"edge-sser/{NODE}/status")
    eventually(lambda: before.received, "it is online")
    before.stop()
    (database,) = eventually(lambda: list(tmp_path.rglob("mosquitto.db")), "the broker saves")
    eventually(lambda: b'"online"' in database.read_bytes(), "and the status is there")
    broker.kill() if killed else broker.stop()
    cable.shut()
    broker.start()
    after = start_subscriber(broker.port, f"edge-sser/{NODE}/status")
    (kept,) = eventually(lambda: after.received, "the broker has kept a status")
    assert (kept.retained, kept.json["state"]) == (True, state)
    cable.close()


def results() -> tuple[dict[str, Any], dict[str, Any]]:
    """Measurements with recommended settings, and with others."""
    folder = DOCS / "results"
    return json.loads((folder / "fleet-1000.json").read_text()), json.loads(
        (folder / "fleet-variants.json").read_text()
    )


def test_figures_of_the_thousand_nodes_are_those_that_were_measured() -> None:
    measured, _ = results()
    steady, took = measured["steady"], measured["steady"]["readings"]["latency_ms"]
    assert f"`{re.sub(' --out [^ ]+', '', measured['command'])}`" in FIGURES
    assert measured["nodes"] == 1000
    rows = {
        "messages a second": f"{steady['messages_per_second']:,.0f}",
        "from node to subscriber, p50 / p95 / p99": f"{took['p50']:.1f} / {took['p95']:.1f} / {took['p99']:.1f} ms",
        f"readings lost, of {steady['readings']['sent']:,}": f"{steady['readings']['lost']}",
        "the broker's processor time": f"{steady['broker']['core_percent']} % of a core",
        "its memory": f"{steady['broker']['resident_mb']} MB",
        "its open files": f"{steady['broker']['open_files']:,}",
        "MQTT bytes a second from one node": f"{steady['bytes_in_per_second_of_a_node']:.0f}",
    }
    for outage in measured["outages"]:
        rows[f"{outage['outage_seconds']:.0f} s"] = (
            f"{outage['half_back_after_seconds']:.1f} s | {outage['all_back_after_seconds']:.1f} s | "
            f"{outage['peak_accepted_in_a_second']}"
        )
        assert outage["episodes_and_health"]["lost"] == 0
    for name, value in rows.items():
        assert f"| {name} | {value} |" in FIGURES
    assert f"{steady['episodes_and_health']['sent'] / steady['seconds']:.0f} messages a second upwards" in DOCUMENT


def test_figures_of_other_settings_are_those_that_were_measured() -> None:
    measured, variants = results()
    rows = {
        "tls": "TLS",
        "no nodelay": "without `set_tcp_nodelay true`",
        "saved at every change": "`autosave_on_changes true`, `autosave_interval 1`",
        "4 readings a second": "four readings a second",
    }
    for name, title in rows.items():
        steady = variants[name]["steady"]
        took = steady["readings"]["latency_ms"]
        row = f"| {title} | {steady['broker']['core_percent']} % | {took['p50']:.1f} / {took['p99']:.1f} ms |"
        assert row in FIGURES
    saved = [variants[f"saved at every change{more}"]["steady"]["broker"] for more in (", 1 node", ", 10 nodes", "")]
    one, ten, thousand = (each["disk_mb_per_second"] for each in saved)
    assert f"{one} MB a second for one node, {ten} for ten, {thousand:.0f} for a thousand" in " ".join(FIGURES.split())
    short, enough = (variants[name]["first_connection"] for name in ("backlog, queue of 1000", "backlog"))
    assert f"{short['backlog']['lost']:,} of {short['backlog']['sent']:,} messages" in " ".join(FIGURES.split())
    assert enough["backlog"]["lost"] == 0
    assert f"{enough['broker']['resident_mb']:.0f} MB" in FIGURES
    plain, tls = (each["first_connection"]["broker"]["cpu_seconds"] for each in (measured, variants["tls"]))
    assert f"{tls - plain:.2f} ms of processor time to connect a node" in FIGURES
