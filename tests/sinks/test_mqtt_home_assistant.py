"""Home Assistant finds the device, shows it, and turns listening on and off."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mqtt_rig import NODE, STATUS, Broker, Cable, Subscriber, eventually, health, reading

from edge_sser.events import Event, HealthState, Level, StatusState, as_dict
from edge_sser.files import state_directory
from edge_sser.settings.sinks import MqttSettings
from edge_sser.sinks.mqtt.contract import Topics, discovery_message
from edge_sser.sinks.mqtt.sink import LinkState, MqttNode, MqttSink
from edge_sser.sinks.pause import PauseSwitch

Start = Callable[..., MqttSink]
Subscribe = Callable[..., Subscriber]

CONFIG = f"homeassistant/device/edge-sser_{NODE}/config"
SET, STATE = f"edge-sser/{NODE}/listen/set", f"edge-sser/{NODE}/listen/state"


def described(*sources: str) -> Any:
    topics = Topics("edge-sser", NODE)
    return json.loads(discovery_message(topics, sources, STATUS, prefix="homeassistant").payload)


def shown(entity: dict[str, Any], event: Event) -> str:
    """Returns the value that Home Assistant shows for an event."""
    return jinja2.Template(entity["value_template"]).render(value_json=as_dict(event))


def test_the_device_is_announced_retained_on_every_connection(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    cable = Cable(broker.port)
    subscriber = start_subscriber(broker.port, "homeassistant/#", "edge-sser/#")
    sink = open_sink(cable.port)
    (first,) = eventually(lambda: subscriber.on(CONFIG), "announced")
    cable.cut()
    eventually(lambda: len(subscriber.on(CONFIG)) == 2, "announced again")
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    late = start_subscriber(broker.port, CONFIG)
    (kept,) = eventually(lambda: late.on(CONFIG), "retained")
    assert kept.payload == first.payload == subscriber.on(CONFIG)[1].payload
    cable.close()


def test_everything_is_repeated_when_home_assistant_announces_itself(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port)
    open_sink(broker.port)
    eventually(lambda: subscriber.on(CONFIG), "announced")
    subscriber.publish("homeassistant/status", "offline")
    subscriber.publish("homeassistant/status", "online")
    eventually(lambda: len(subscriber.on(CONFIG)) == 2, "announced again")
    eventually(lambda: len(subscriber.on(STATE)) == 2, "with the state of the switch")
    assert [m.json["state"] for m in subscriber.on(f"edge-sser/{NODE}/status")] == ["online", "online"]


def test_discovery_can_be_turned_off(broker: Broker, start_subscriber: Subscribe, open_sink: Start) -> None:
    subscriber = start_subscriber(broker.port)
    open_sink(broker.port, discovery=False)
    eventually(lambda: subscriber.on(STATE), "connects")
    assert not [message for message in subscriber.received if message.topic.startswith("homeassistant/")]


def test_every_source_has_its_entities_and_every_entity_a_name_of_its_own() -> None:
    components = described("desk", "hall")["components"]
    kinds = {name: entity["platform"] for name, entity in components.items()}
    assert kinds == {
        "listening": "switch",
        **{f"{source}_learn": "button" for source in ("desk", "hall")},
        **{
            f"{source}_{name}": "sensor"
            for source in ("desk", "hall")
            for name in ("stress", "arousal", "valence", "dbfs", "level", "last_reading")
        },
        **{f"{source}_{name}": "binary_sensor" for source in ("desk", "hall") for name in ("elevated", "problem")},
    }
    assert len({entity["unique_id"] for entity in components.values()}) == len(components)
    assert len({entity["name"] for entity in components.values()}) == len(components)


BASES = st.text("ab_-/", min_size=1, max_size=5).filter(lambda base: base[0] != "/" and base[-1] != "/")
NODES = st.from_regex(r"[ab1][ab1_.-]{0,4}", fullmatch=True)
SOURCES = st.from_regex(r"[ab1][ab1_-]{0,4}", fullmatch=True)
DEVICES = st.tuples(BASES, NODES, SOURCES)


@settings(max_examples=300, deadline=None)
@given(one=DEVICES, other=DEVICES)
@example(one=("b", "cab", "1_desk"), other=("b", "cab_1", "desk"))
@example(one=("a_b", "c", "desk"), other=("a", "b_c", "desk"))
def test_no_two_nodes_share_an_id(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    if one[:2] == other[:2]:
        return
    seen: set[str] = set()
    for base, node, source in (one, other):
        message = discovery_message(Topics(base, node), [source], STATUS, prefix="homeassistant")
        payload = json.loads(message.payload)
        ids = {message.topic, *payload["device"]["identifiers"]}
        ids |= {entity["unique_id"] for entity in payload["components"].values()}
        assert not ids & seen
        seen |= ids


def test_state_topics_are_those_that_are_published() -> None:
    components = described("desk")["components"]
    topics = {name: entity["state_topic"] for name, entity in components.items() if "state_topic" in entity}
    readings = f"edge-sser/{NODE}/desk/reading"
    assert topics == {
        "listening": STATE,
        "desk_stress": readings,
        "desk_arousal": readings,
        "desk_valence": readings,
        "desk_dbfs": readings,
        "desk_level": readings,
        "desk_elevated": readings,
        "desk_last_reading": readings,
        "desk_problem": f"edge-sser/{NODE}/desk/health",
    }
    assert components["listening"]["command_topic"] == SET
    learn = components["desk_learn"]
    assert (learn["command_topic"], learn["payload_press"]) == (f"edge-sser/{NODE}/baseline/set", "learn desk")


@pytest.mark.parametrize(
    ("level", "stress", "word", "elevated"),
    [
        (Level.LOW, "0.55", "low", "OFF"),
        (Level.ELEVATED, "0.55", "elevated", "ON"),
        (Level.HIGH, "0.55", "high", "ON"),
        (None, "None", "None", "None"),  # which Home Assistant shows as unknown
    ],
)
def test_what_is_shown_of_a_reading(level: Level | None, stress: str, word: str, elevated: str) -> None:
    components = described("desk")["components"]
    event = reading(1, level=level)
    assert shown(components["desk_stress"], event) == stress
    assert shown(components["desk_level"], event) == word
    assert shown(components["desk_elevated"], event) == elevated
    assert shown(components["desk_dbfs"], event) == "-27.4"
    assert level is None or word in components["desk_level"]["options"]


@pytest.mark.parametrize(("arousal", "valence"), [(0.81, 0.22), (None, None)])
def test_arousal_and_valence_are_shown_or_unknown(arousal: float | None, valence: float | None) -> None:
    components = described("desk")["components"]
    event = replace(reading(1), arousal=arousal, valence=valence)
    assert shown(components["desk_arousal"], event) == str(arousal)
    assert shown(components["desk_valence"], event) == str(valence)


def test_the_age_of_the_last_reading_is_shown_and_outlives_the_figures() -> None:
    components = described("desk")["components"]
    last = components["desk_last_reading"]
    event = replace(reading(1), ts="2026-01-02T03:04:05.678Z")
    assert shown(last, event) == "2026-01-02T03:04:00Z"
    assert last["device_class"] == "timestamp"
    assert "expire_after" not in last
    figures = [components[f"desk_{name}"] for name in ("stress", "dbfs", "level", "elevated")]
    assert all(figure["expire_after"] == 60 for figure in figures)


@pytest.mark.parametrize("state", HealthState)
def test_whatever_is_not_ok_nor_wanted_is_a_problem_of_the_microphone(state: HealthState) -> None:
    problem = described("desk")["components"]["desk_problem"]
    event = health(state, 'say "what"')
    assert shown(problem, event) == ("OFF" if state in (HealthState.OK, HealthState.PAUSED) else "ON")
    attributes = json.loads(jinja2.Template(problem["json_attributes_template"]).render(value_json=as_dict(event)))
    assert (attributes["health"], attributes["detail"]) == (state.value, 'say "what"')


@pytest.mark.parametrize("state", StatusState)
def test_only_an_online_device_is_available(state: StatusState) -> None:
    (availability,) = described("desk")["availability"]
    assert availability["topic"] == f"edge-sser/{NODE}/status"
    template = jinja2.Template(availability["value_template"])
    assert template.render(value_json={"state": state.value}) == (
        "online" if state is StatusState.ONLINE else "offline"
    )


def test_names_that_home_assistant_does_not_take_in_a_topic_stay_apart() -> None:
    topics = [discovery_message(Topics("edge-sser", node), [], STATUS, prefix="ha").topic for node in ("a.b", "a_b")]
    assert len(set(topics)) == 2
    assert all("." not in topic for topic in topics)


def test_commands_turn_listening_off_and_on_and_the_state_follows(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port, STATE)
    sink = open_sink(broker.port)
    eventually(lambda: subscriber.on(STATE), "connects")
    for payload in ("OFF", "ON", "OFF"):
        subscriber.publish(SET, payload)
    eventually(lambda: [m.payload for m in subscriber.on(STATE)] == [b"ON", b"OFF", b"ON", b"OFF"], "the state follows")
    assert not sink.switch.on
    late = start_subscriber(broker.port, STATE)
    eventually(lambda: [m.payload for m in late.on(STATE)] == [b"OFF"], "retained")


def test_paused_stays_paused_across_a_restart(broker: Broker, start_subscriber: Subscribe, open_sink: Start) -> None:
    subscriber = start_subscriber(broker.port, STATE)
    first = open_sink(broker.port)
    assert first.switch.on
    eventually(lambda: len(subscriber.on(STATE)) == 1, "connects")
    subscriber.publish(SET, "OFF")
    eventually(lambda: len(subscriber.on(STATE)) == 2, "paused")
    first.close()
    second = open_sink(broker.port)
    assert not second.switch.on
    eventually(lambda: len(subscriber.on(STATE)) == 3, "connects")
    subscriber.publish(SET, "ON")
    eventually(lambda: second.switch.on, "listens again")
    second.close()
    assert open_sink(broker.port).switch.on


def test_commands_that_are_none_are_ignored_with_a_line_each(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = start_subscriber(broker.port, STATE)
    sink = open_sink(broker.port)
    eventually(lambda: subscriber.on(STATE), "connects")
    bad: list[bytes] = [b"", b"off", b"OFF ", b"\xff\xfe", b"O" * 60_000, b'{"state":"OFF"}']
    with caplog.at_level(logging.WARNING, logger="edge_sser.mqtt"):
        for payload in bad:
            subscriber.publish(SET, payload)
        subscriber.publish(SET, b"OFF")
        eventually(lambda: not sink.switch.on, "the good one is heard")
    lines = [record.getMessage() for record in caplog.records]
    assert len([line for line in lines if line.startswith("ignored")]) == len(bad)
    assert max(map(len, lines)) < 300


def test_a_retained_command_from_before_is_no_command(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    subscriber = start_subscriber(broker.port, STATE)
    subscriber.publish(SET, "OFF", retain=True)
    with caplog.at_level(logging.WARNING, logger="edge_sser.mqtt"):
        sink = open_sink(broker.port)
        eventually(lambda: any("retained" in record.getMessage() for record in caplog.records), "said")
    assert sink.switch.on


@settings(deadline=None)
@example(payload=b"OFF", retained=False, topic="")
@example(payload=b"ON", retained=False, topic="")
@given(payload=st.binary(max_size=200), retained=st.booleans(), topic=st.text(max_size=40))
def test_no_message_whatever_harms_the_sink(payload: bytes, retained: bool, topic: str) -> None:
    decided: list[bool] = []

    class Switch(PauseSwitch):
        def turn(self, on: bool) -> None:
            decided.append(on)

    class Worker:
        def submit(self, job: Callable[[], None]) -> None:
            job()

    class Link:
        def send(self, *_: Any) -> None:
            pass

    node = MqttNode(
        MqttSettings(url="mqtt://127.0.0.1"),
        topics=Topics("edge-sser", NODE),
        sources=["desk"],
        status=STATUS,
        switch=Switch(None),
        link=Link(),  # type: ignore[arg-type]
        worker=Worker(),  # type: ignore[arg-type]
    )
    for name in (topic, SET, "homeassistant/status"):
        node.on_message(name, payload, retained)
    expected = [payload == b"ON"] if payload in (b"ON", b"OFF") and not retained else []
    assert decided == expected * (2 if topic == SET else 1)


def test_the_switch_holds_without_a_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    switch = PauseSwitch(tmp_path / "file" / "paused")
    switch.turn(False)
    assert not switch.on
    assert "will not survive a restart" in caplog.text


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/edge-sser"}, "/var/lib/edge-sser"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"XDG_STATE_HOME": "/home/u/state"}, "/home/u/state/edge-sser"),
        ({"XDG_STATE_HOME": "relative"}, str(Path.home() / ".local/state/edge-sser")),
        ({}, str(Path.home() / ".local/state/edge-sser")),
    ],
)
def test_where_state_lives(environ: dict[str, str], expected: str) -> None:
    assert str(state_directory(environ)) == expected
