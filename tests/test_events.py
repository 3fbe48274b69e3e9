"""Events: the contract with other programs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_sser.events import (
    BaselineState,
    Episode,
    Event,
    Expected,
    Health,
    HealthState,
    Level,
    Phase,
    Reading,
    Status,
    StatusState,
    json_schema,
    timestamp,
    to_json,
)

COMMITTED = Path(__file__).parent.parent / "docs" / "events.schema.json"
READING: dict[str, Any] = {
    "type": "reading",
    "schema": 1,
    "id": "cab12/desk/000042",
    "node": "cab12",
    "source": "desk",
    "ts": "2026-01-02T03:04:05.678Z",
    "start_s": 18.0,
    "end_s": 21.0,
    "speech_ratio": 0.74,
    "stress": 0.62,
    "stress_rolling": 0.55,
    "level": "elevated",
    "confidence": 0.24,
    "arousal": 0.81,
    "valence": 0.22,
    "dbfs": -27.4,
    "clipped": False,
    "latency_ms": 4.1,
    "dropped_s": 0.0,
    "baseline": "ready",
    "baseline_shift": -0.25,
    "model": "sser-cnn@ab12cd34",
}
COMMON: dict[str, Any] = {"node": "cab12", "ts": "2026-01-02T03:04:05.678Z"}
EVENTS: list[Event] = [
    Reading(**{**READING, "level": Level.ELEVATED, "baseline": BaselineState.READY}),
    Reading(
        **{
            **READING,
            **dict.fromkeys(["stress", "stress_rolling", "level", "confidence", "arousal", "valence", "latency_ms"]),
            "baseline": BaselineState.OFF,
            "baseline_shift": None,
        }
    ),
    Episode(
        phase=Phase.END,
        id="cab12/desk/20260102T030405.678Z",
        source="desk",
        level=Level.HIGH,
        start_s=1.0,
        end_s=15.5,
        duration_s=14.5,
        peak=0.91,
        mean=0.78,
        evidence_s=0.5,
        declared_s=1.0,
        model="sser-cnn@ab12cd34",
        **COMMON,
    ),
    Health(
        source="desk",
        state=HealthState.OVERRUN,
        detail="audio was lost",
        read_s=3.0,
        processed_s=2.0,
        dropped_s=1.0,
        overruns=3,
        **COMMON,
    ),
    Status(state=StatusState.ONLINE, version="0.1.0", model="m@1", provider="CPUExecutionProvider", host="h", **COMMON),
    Status(
        state=StatusState.ONLINE,
        version="0.1.0",
        model="m@1",
        provider="CPUExecutionProvider",
        host="h",
        expected=Expected(
            baseline="adaptive", false_alarms_per_hour=1.0, found=0.63, delay_median_s=10.9, delay_p95_s=None
        ),
        **COMMON,
    ),
]


def test_the_committed_schema_is_the_one_that_the_program_prints() -> None:
    """Compares the files; to renew the committed one: edge-sser schema > docs/events.schema.json."""
    assert COMMITTED.read_text() == json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def test_the_schema_is_a_valid_one() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_a_reading_is_one_line_with_the_names_and_the_order_of_the_contract() -> None:
    line = to_json(EVENTS[0])
    assert line == json.dumps(READING, separators=(",", ":"))
    assert "\n" not in line


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_kind_of_event_is_valid(event: Event) -> None:
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(to_json(event)))


@pytest.mark.parametrize(
    "changes",
    [
        {"stress": "high"},
        {"level": "medium"},
        {"schema": 2},
        {"type": "measurement"},
        {"mood": "good"},
        {"ts": ...},
        {"stress": ...},
        {"clipped": None},
    ],
    ids=str,
)
def test_other_objects_are_not_valid(changes: dict[str, Any]) -> None:
    values = {name: value for name, value in {**READING, **changes}.items() if value is not ...}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema()).validate(values)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_without_json_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        to_json(Reading(**{**READING, "dbfs": value}))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_767_323_045.678, "2026-01-02T03:04:05.678Z"),
        (1_767_323_045.9996, "2026-01-02T03:04:06.000Z"),
    ],
)
def test_times_are_utc_with_milliseconds(seconds: float, text: str) -> None:
    assert timestamp(seconds) == text


def test_levels_rise() -> None:
    assert [level.rank for level in (Level.LOW, Level.ELEVATED, Level.HIGH)] == [0, 1, 2]
