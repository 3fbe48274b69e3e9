"""The automations for Home Assistant name entities, states and fields that exist, and do what they say.

Home Assistant does not run here. Its rules that are checked are written down beside the check.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
from components import require
from mqtt_rig import STATUS, episode

from edge_sser.events import Level, Phase, as_dict, json_schema
from edge_sser.sinks.mqtt.contract import Topics, discovery_message

PACKAGE = Path(__file__).parents[2] / "docs" / "fleet" / "home-assistant.yaml"
NODES, SOURCE = ("cab12", "cab13"), "desk"


@pytest.fixture(scope="module")
def automations() -> dict[str, dict[str, Any]]:
    require(importlib.util.find_spec("yaml") is not None, "PyYAML not found: pip install pyyaml")
    import yaml

    package = yaml.safe_load(PACKAGE.read_text())
    assert package.keys() == {"automation"}
    return {each["id"].removeprefix("edge_sser_"): each for each in package["automation"]}


def entities() -> dict[str, dict[str, Any]]:
    """Returns Home Assistant's names of the nodes' entities: PLATFORM.DEVICE_ENTITY, with plain letters."""
    found = {}
    for node in NODES:
        message = discovery_message(Topics("edge-sser", node), [SOURCE], STATUS, prefix="homeassistant")
        device = json.loads(message.payload)
        for component in device["components"].values():
            name = f"{device['device']['name']} {component['name']}".lower()
            found[f"{component['platform']}.{re.sub('[^a-z0-9]+', '_', name)}"] = component
    return found


def triggers(automation: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [trigger for trigger in automation["triggers"] if trigger["trigger"] == kind]


def rendered(template: str, **values: Any) -> str:
    return jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(template).render(**values)


def test_every_entity_of_the_automations_is_one_that_discovery_makes(automations: dict[str, dict[str, Any]]) -> None:
    named = set(re.findall(r"\b(?:sensor|binary_sensor|switch)\.[a-z]+\d\w+", PACKAGE.read_text()))
    assert len(named) == 3 * len(NODES)
    assert named <= entities().keys()


def test_states_that_are_waited_for_can_come(automations: dict[str, dict[str, Any]]) -> None:
    found = entities()
    (high,) = triggers(automations["high"], "state")
    assert all(high["to"] in found[entity]["options"] for entity in high["entity_id"])
    (problem,) = triggers(automations["microphone"], "state")
    assert problem["to"] == "on"
    assert all(found[entity]["device_class"] == "problem" for entity in problem["entity_id"])
    (offline,) = triggers(automations["offline"], "state")
    assert offline["to"] == "unavailable"
    # An entity with a value that expires is unavailable for that reason too.
    assert all("expire_after" not in found[entity] for entity in offline["entity_id"])


def test_the_switch_is_turned_off_in_the_evening_and_on_in_the_morning(automations: dict[str, dict[str, Any]]) -> None:
    night = automations["night"]
    (action,) = night["actions"]
    called = {
        trigger["at"]: rendered(action["action"], trigger=SimpleNamespace(id=trigger["id"]))
        for trigger in triggers(night, "time")
    }
    assert called == {"22:00:00": "switch.turn_off", "06:00:00": "switch.turn_on"}
    switches = {name for name, component in entities().items() if component["platform"] == "switch"}
    assert set(action["target"]["entity_id"]) == switches


@pytest.mark.parametrize(
    ("phase", "level", "duration_s", "notified"),
    [
        (Phase.END, Level.HIGH, 120.0, True),
        (Phase.END, Level.HIGH, 119.0, False),
        (Phase.END, Level.ELEVATED, 500.0, False),
        (Phase.UPDATE, Level.HIGH, 500.0, False),
    ],
)
def test_an_episode_is_told_of_when_it_is_over_and_was_high_and_long(
    phase: Phase, level: Level, duration_s: float, notified: bool, automations: dict[str, dict[str, Any]]
) -> None:
    event = {**as_dict(episode(1, phase)), "level": level.value, "duration_s": duration_s}
    trigger = SimpleNamespace(payload_json=event)
    (condition,) = automations["episode"]["conditions"]
    assert rendered(condition["value_template"], trigger=trigger) == str(notified)
    (action,) = automations["episode"]["actions"]
    assert rendered(action["data"]["message"], trigger=trigger).startswith("cab12, desk:")
    (topic,) = [trigger["topic"] for trigger in triggers(automations["episode"], "mqtt")]
    assert topic == Topics("edge-sser", NODES[0]).episode(SOURCE).replace(NODES[0], "+").replace(SOURCE, "+")


def test_messages_use_only_what_a_trigger_brings(automations: dict[str, dict[str, Any]]) -> None:
    def state_attr(entity: str, name: str) -> str:
        assert entities()[entity]["json_attributes_topic"]
        assert name in json_schema()["$defs"]["Health"]["properties"]
        assert name not in ("state", "name", "icon")  # which Home Assistant does not take from a payload
        return f"the {name}"

    for kind in ("high", "microphone", "offline"):
        (waits,) = triggers(automations[kind], "state")
        trigger = SimpleNamespace(entity_id=waits["entity_id"][0], to_state=SimpleNamespace(name="cab12 desk"))
        (action,) = automations[kind]["actions"]
        for template in action["data"].values():
            assert rendered(template, trigger=trigger, state_attr=state_attr)
