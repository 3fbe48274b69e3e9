"""Messages for people and programs: an event as JSON, with one line of text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from string import Template
from typing import Any, Final

from edge_sser.events import HealthState, Phase, epoch_seconds
from edge_sser.settings.notify import MESSAGE_FIELDS, TEXT_FIELD

TEST_FIELD: Final = "test"  # of a message that `edge-sser notify test` sends
TITLE: Final = "edge-sser"


def message_of(line: bytes, *, test: bool = False) -> dict[str, Any]:
    """Returns the message for an event.

    Args:
        line: the event as JSON.
        test: marks the message as a test.
    """
    event: dict[str, Any] = json.loads(line)
    text = describe(event)
    return event | ({TEXT_FIELD: f"TEST, no alarm: {text}", TEST_FIELD: True} if test else {TEXT_FIELD: text})


def describe(event: Mapping[str, Any]) -> str:
    """Returns one line for a person.

    Examples:
        >>> describe({"type": "health", "node": "cab12", "source": "desk", "state": "missing", "detail": "unplugged",
        ...           "ts": "2026-01-02T03:04:05.678Z"})
        'desk on cab12 is missing: unplugged'
    """
    where = f"{event['source']} on {event['node']}"
    if event["type"] == "health":
        if event["state"] == HealthState.OK.value:
            return f"{where} is ok again"
        return f"{where} is {event['state']}" + (f": {event['detail']}" if event["detail"] else "")
    at = _local_time(event["ts"])
    if event["phase"] == Phase.END.value:
        return (
            f"{where}: {event['level']} stress has ended after {event['duration_s']:.0f} s, peak {event['peak']:.2f}, "
            f"at {at}"
        )
    return f"{where}: {event['level']} stress, {event['peak']:.2f} of 1, at {at}"


def body_of(message: Mapping[str, Any], template: str | None) -> bytes:
    """Returns the JSON to send: the message, or a template with its fields, in UTF-8."""
    if template is None:
        return json.dumps(message, ensure_ascii=False).encode()
    values = dict.fromkeys(MESSAGE_FIELDS, "") | {
        name: "" if value is None else json.dumps(str(value), ensure_ascii=False)[1:-1]
        for name, value in message.items()
    }
    return Template(template).substitute(values).encode()


def _local_time(ts: str) -> str:
    return datetime.fromtimestamp(epoch_seconds(ts)).strftime("%H:%M:%S")
