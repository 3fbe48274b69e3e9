"""What Home Assistant is told: one device a node, with the entities of each of its sources.

Device discovery: one retained message under `PREFIX/device/…/config` describes everything (in Home Assistant since the
end of 2024). Every template below is Jinja, and is rendered on the JSON of an event.
Source: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from typing import Any

from edge_sser.events import HealthState, Level, Status, StatusState
from edge_sser.sinks.mqtt.connection import Message
from edge_sser.sinks.mqtt.contract import Topics

EXPIRE_SECONDS = 60  # a reading older than this says nothing about now: shown as unavailable

_AT_OR_ABOVE_ELEVATED = [level.value for level in Level if level.rank >= Level.ELEVATED.rank]


def discovery_message(topics: Topics, sources: Sequence[str], status: Status, *, prefix: str) -> Message:
    """The retained message that makes a node appear in Home Assistant.

    Args:
        topics: where the node publishes.
        sources: the names of its sources.
        status: version and model of what runs there.
        prefix: where Home Assistant looks, `homeassistant` unless it was told otherwise.
    """
    components: dict[str, Any] = {"listening": _listening(topics)}
    for source in sources:
        components |= {f"{source}_{name}": entity for name, entity in _entities(topics, source).items()}
    for name, entity in components.items():
        entity["unique_id"] = f"{topics.base}_{topics.node}_{name}"
    payload = {
        "device": {
            "identifiers": [f"{topics.base}_{topics.node}"],
            "name": topics.node,
            "manufacturer": "edge-sser",
            "model": status.model,
            "sw_version": status.version,
        },
        "origin": {"name": "edge-sser", "sw_version": status.version},
        "availability": [
            {
                "topic": topics.status,
                "value_template": "{{ 'online' if value_json.state == '"
                + StatusState.ONLINE.value
                + "' else 'offline' }}",
            }
        ],
        "components": components,
        "qos": 1,
    }
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return Message(topic=f"{prefix}/device/{_object_id(topics)}/config", payload=text.encode(), qos=1, retain=True)


def _listening(topics: Topics) -> dict[str, Any]:
    return {
        "platform": "switch",
        "name": "Listening",
        "icon": "mdi:microphone",
        "command_topic": topics.listen_set,
        "state_topic": topics.listen_state,
        "payload_on": "ON",
        "payload_off": "OFF",
    }


def _entities(topics: Topics, source: str) -> dict[str, dict[str, Any]]:
    reading = {"state_topic": topics.reading(source), "expire_after": EXPIRE_SECONDS}
    elevated = _AT_OR_ABOVE_ELEVATED
    return {
        "stress": {
            "platform": "sensor",
            "name": f"{source} stress",
            "icon": "mdi:waveform",
            "value_template": "{{ value_json.stress_rolling }}",
            "state_class": "measurement",
            "suggested_display_precision": 2,
            **reading,
        },
        "dbfs": {
            "platform": "sensor",
            "name": f"{source} sound level",
            "icon": "mdi:volume-high",
            "value_template": "{{ value_json.dbfs }}",
            "unit_of_measurement": "dBFS",
            "state_class": "measurement",
            "suggested_display_precision": 1,
            **reading,
        },
        "level": {
            "platform": "sensor",
            "name": f"{source} stress level",
            "device_class": "enum",
            "options": [level.value for level in Level],
            "value_template": "{{ value_json.level }}",
            **reading,
        },
        "elevated": {
            "platform": "binary_sensor",
            "name": f"{source} stress elevated",
            "value_template": "{{ None if value_json.level is none else "
            f"'ON' if value_json.level in {elevated} else 'OFF' }}}}",
            **reading,
        },
        "problem": {
            "platform": "binary_sensor",
            "name": f"{source} microphone",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": topics.health(source),
            "value_template": "{{ 'OFF' if value_json.state == '" + HealthState.OK.value + "' else 'ON' }}",
            "json_attributes_topic": topics.health(source),
            # An entity has a state of its own, so Home Assistant takes no attribute of that name.
            "json_attributes_template": "{{ dict(value_json, health=value_json.state) | tojson }}",
        },
    }


def _object_id(topics: Topics) -> str:
    """A name of the letters that Home Assistant takes there, another one for every base topic and node."""
    name = f"{topics.base}_{topics.node}"
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return plain if plain == name else f"{plain}_{zlib.crc32(name.encode()):08x}"
