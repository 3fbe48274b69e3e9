"""The broker's settings for a fleet, on a real broker: a node can write what it publishes, below its own name."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from components import require_programs
from mqtt_rig import NODE, Broker, Subscriber, emit, episode, eventually, health, reading

from edge_sser.sinks.mqtt.sink import MqttSink

Start = Callable[..., MqttSink]
StartBroker = Callable[..., Broker]
Subscribe = Callable[..., Subscriber]

FLEET = Path(__file__).parents[2] / "docs" / "fleet"
OTHER = "cab13"
USERS = (NODE, OTHER, "telegraf", "homeassistant")
NOT_ON_LOOPBACK = ("listener", "certfile", "keyfile", "persistence", "autosave_interval")  # which the test's broker has

OF_A_NODE = {f"edge-sser/{NODE}/{rest}" for rest in ("status", "listen/state", "a/reading", "a/episode", "a/health")}
OF_A_NODE |= {f"homeassistant/device/edge-sser_{NODE}/config", f"edge-sser/{NODE}/doctor"}
OF_OTHERS = {topic.replace(NODE, OTHER) for topic in OF_A_NODE}
OF_NOBODY = {
    "edge-sser",
    f"edge-sser/{NODE}",
    f"edge-sser/{NODE}/a/audio",
    f"edge-sser/{NODE}/a/b/reading",
    f"other/{NODE}/status",
    "homeassistant/device/anything/config",
    "homeassistant/switch/anything/config",
}
COMMANDS = {f"edge-sser/{name}/listen/set" for name in (NODE, OTHER)}
OF_HOME_ASSISTANT = {*COMMANDS, "homeassistant/status"}
EVERYTHING = OF_A_NODE | OF_OTHERS | OF_NOBODY | OF_HOME_ASSISTANT


def write_users(directory: Path, *users: str) -> Path:
    passwords = directory / "passwords"
    passwords.touch(mode=0o600)
    for user in users:
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "p"], check=True, capture_output=True)
    return passwords


@pytest.fixture
def fleet_broker(start_broker: StartBroker, tmp_path: Path) -> Broker:
    """A broker with the rules of the documentation."""
    require_programs("mosquitto_passwd", packages="mosquitto")
    rules = tmp_path / "rules"
    rules.write_text((FLEET / "mosquitto.acl").read_text())
    rules.chmod(0o600)
    files = {"acl_file": rules, "password_file": write_users(tmp_path, *USERS)}
    lines = [line for line in (FLEET / "mosquitto.conf").read_text().splitlines() if line and line[0] != "#"]
    settings = [line.split(" ", 1) for line in lines]
    ours = [f"{key} {files.get(key, value)}" for key, value in settings if key not in NOT_ON_LOOPBACK]
    assert len(ours) == len(settings) - len(NOT_ON_LOOPBACK)
    return start_broker(*ours)


def allowed(client: Subscriber, topics: set[str]) -> set[str]:
    """Topics that the broker lets a client write to: under MQTT 5 it says so."""
    answers: dict[int, bool] = {}

    def on_publish(_client: object, _data: object, mid: int, reason: object, _properties: object) -> None:
        answers[mid] = not reason.is_failure  # type: ignore[attr-defined]

    client.client.on_publish = on_publish
    sent = {client.client.publish(topic, b"x", qos=1).mid: topic for topic in sorted(topics)}
    eventually(lambda: answers.keys() >= sent.keys(), "every message is answered")
    return {topic for mid, topic in sent.items() if answers[mid]}


@pytest.mark.parametrize(
    ("user", "may"),
    [(NODE, OF_A_NODE), (OTHER, OF_OTHERS), ("telegraf", set()), ("homeassistant", OF_HOME_ASSISTANT)],
)
def test_each_user_may_write_what_is_theirs_and_nothing_else(
    user: str, may: set[str], fleet_broker: Broker, start_subscriber: Subscribe
) -> None:
    client = start_subscriber(fleet_broker.port, "nothing", login=(user, "p"))
    assert allowed(client, EVERYTHING) == may


def test_a_node_hears_its_own_commands_and_no_other_node(fleet_broker: Broker, start_subscriber: Subscribe) -> None:
    node = start_subscriber(fleet_broker.port, "#", login=(NODE, "p"))
    other = start_subscriber(fleet_broker.port, "#", login=(OTHER, "p"))
    home = start_subscriber(fleet_broker.port, "edge-sser/#", login=("homeassistant", "p"))
    telegraf = start_subscriber(fleet_broker.port, "edge-sser/#", login=("telegraf", "p"))
    other.publish(f"edge-sser/{OTHER}/desk/episode", "private")
    home.publish(f"edge-sser/{OTHER}/listen/set", "OFF")
    home.publish(f"edge-sser/{NODE}/listen/set", "OFF")
    eventually(lambda: node.on(f"edge-sser/{NODE}/listen/set"), "the command arrives")
    eventually(lambda: len(telegraf.received) == 3, "telegraf hears all of it")
    assert [message.topic for message in node.received] == [f"edge-sser/{NODE}/listen/set"]
    assert [message.topic for message in other.received] == [f"edge-sser/{OTHER}/listen/set"]


def test_a_device_has_every_right_it_needs(
    fleet_broker: Broker, start_subscriber: Subscribe, open_sink: Start, tmp_path: Path
) -> None:
    secret = tmp_path / "mqtt-password"
    secret.write_text("p\n")
    home = start_subscriber(fleet_broker.port, "edge-sser/#", "homeassistant/#", login=("homeassistant", "p"))
    sink = open_sink(fleet_broker.port, user=NODE, password_file=secret)
    emit(sink, episode(1))
    emit(sink, health())
    eventually(lambda: sink.report.stored == 2 and sink.report.outbox_depth == 0, "kept events are taken")
    emit(sink, reading(1))
    eventually(lambda: home.on(f"edge-sser/{NODE}/desk/reading"), "a reading arrives")
    eventually(lambda: home.on(f"homeassistant/device/edge-sser_{NODE}/config"), "it is announced")
    home.publish(f"edge-sser/{NODE}/listen/set", "OFF")
    eventually(lambda: not sink.switch.on, "a command arrives")
    assert sink.report.refused == ()


def test_a_name_that_the_client_chooses_for_itself_protects_nobody(
    start_broker: StartBroker, start_subscriber: Subscribe, tmp_path: Path
) -> None:
    """Reason for which the rules go by the user and not by the client id (%c), which nothing checks."""
    require_programs("mosquitto_passwd", packages="mosquitto")
    rules = tmp_path / "rules"
    rules.write_text("pattern write edge-sser/%c/#\n")
    rules.chmod(0o600)
    passwords = write_users(tmp_path, OTHER)
    broker = start_broker("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")
    client = start_subscriber(broker.port, "nothing", login=(OTHER, "p"), client_id=NODE)
    assert allowed(client, {f"edge-sser/{NODE}/status", f"edge-sser/{OTHER}/status"}) == {f"edge-sser/{NODE}/status"}
