"""The contract with subscribers: topics of one node, and its description for Home Assistant.

Device discovery: one retained message under `PREFIX/device/…/config` describes the node with the entities of its
sources (in Home Assistant since the end of 2024). Every template is Jinja, rendered on the JSON of an event.
Source: https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_sser.errors import SettingsError
from edge_sser.events import BaselineCommand, HealthState, Level, Status, StatusState
from edge_sser.sinks.mqtt.connection import Message

EXPIRE_SECONDS = 60  # Home Assistant shows a reading older than this as unavailable

_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_AT_OR_ABOVE_ELEVATED = [level.value for level in Level if level.rank >= Level.ELEVATED.rank]
_NO_PROBLEM = [HealthState.OK.value, HealthState.PAUSED.value]


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics below `BASE/NODE/`.

    Attributes:
        base: without a slash at either end, without wildcards.
        node: one level of a topic.

    Raises:
        SettingsError: the node's name cannot be a level of a topic.
    """

    base: str
    node: str

    def __post_init__(self) -> None:
        if not _NODE.fullmatch(self.node):
            raise SettingsError(
                f"node {self.node!r} cannot name this device in topics: "
                "1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or digit"
            )

    @property
    def status(self) -> str:
        """Topic of the status: retained, QoS 1, also the last will."""
        return f"{self.base}/{self.node}/status"

    @property
    def listen_set(self) -> str:
        """Topic of commands to the node: ON or OFF."""
        return f"{self.base}/{self.node}/listen/set"

    @property
    def listen_state(self) -> str:
        """Topic that says if the node listens: ON or OFF, retained, QoS 1."""
        return f"{self.base}/{self.node}/listen/state"

    @property
    def baseline_set(self) -> str:
        """Topic of commands for baselines: `learn SOURCE` or `reset SOURCE`."""
        return f"{self.base}/{self.node}/baseline/set"

    def reading(self, source: str) -> str:
        """Topic of readings: QoS 0, the latest retained."""
        return f"{self.base}/{self.node}/{source}/reading"

    def episode(self, source: str) -> str:
        """Topic of episodes: QoS 1, through the outbox."""
        return f"{self.base}/{self.node}/{source}/episode"

    def health(self, source: str) -> str:
        """Topic of health: QoS 1, through the outbox, retained."""
        return f"{self.base}/{self.node}/{source}/health"


def discovery_message(topics: Topics, sources: Sequence[str], status: Status, *, prefix: str) -> Message:
    """Returns the retained message that makes a node with its sources appear in Home Assistant.

    Its topic begins with `prefix`, `homeassistant` by default.
    """
    components: dict[str, Any] = {"listening": _listening(topics)}
    for source in sources:
        components |= {f"{source}_{name}": entity for name, entity in _entities(topics, source).items()}
    for name, entity in components.items():
        entity["unique_id"] = f"{_device_id(topics)}/{name}"
    payload = {
        "device": {
            "identifiers": [_device_id(topics)],
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


def birth_topic(prefix: str) -> str:
    """Returns the topic where Home Assistant says that it has started."""
    return f"{prefix}/status"


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
        "learn": {
            "platform": "button",
            "name": f"{source} learn calm voice",
            "icon": "mdi:account-voice",
            "entity_category": "config",
            "command_topic": topics.baseline_set,
            "payload_press": f"{BaselineCommand.LEARN.value} {source}",
        },
        "stress": {"name": f"{source} stress", **_probability("stress_rolling", "mdi:waveform"), **reading},
        "arousal": {"name": f"{source} arousal", **_probability("arousal", "mdi:speedometer"), **reading},
        "valence": {"name": f"{source} valence", **_probability("valence", "mdi:emoticon-outline"), **reading},
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
        "last_reading": _last_reading(topics, source),
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
            "value_template": f"{{{{ 'OFF' if value_json.state in {_NO_PROBLEM} else 'ON' }}}}",
            "json_attributes_topic": topics.health(source),
            # An entity has a state of its own, so Home Assistant takes no attribute of that name.
            "json_attributes_template": "{{ dict(value_json, health=value_json.state) | tojson }}",
        },
    }


def _probability(field: str, icon: str) -> dict[str, Any]:
    """Returns a sensor of a field of the reading, 0..1."""
    return {
        "platform": "sensor",
        "icon": icon,
        "value_template": f"{{{{ value_json.{field} }}}}",
        "state_class": "measurement",
        "suggested_display_precision": 2,
    }


def _last_reading(topics: Topics, source: str) -> dict[str, Any]:
    """Returns the time of the last reading, which does not expire: its age is the news."""
    return {
        "platform": "sensor",
        "name": f"{source} last reading",
        "device_class": "timestamp",
        "entity_category": "diagnostic",
        "state_topic": topics.reading(source),
        "value_template": "{{ value_json.ts[:16] }}:00Z",  # to the minute, for the sake of the recorder's database
    }


def _device_id(topics: Topics) -> str:
    """Returns an id that no two nodes share: names of nodes and sources have underscores, but no slash."""
    return f"{topics.base}/{topics.node}"


def _object_id(topics: Topics) -> str:
    """Returns an id with the letters that Home Assistant accepts, different for every base topic and node."""
    name = f"{topics.base}_{topics.node}"
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain == name and "_" not in topics.base:  # then the first underscore parts the two
        return plain
    return f"{plain}_{zlib.crc32(_device_id(topics).encode()):08x}"
