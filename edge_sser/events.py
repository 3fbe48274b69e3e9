"""The events: Reading, Episode, Health, Status. Their schema is a contract with other programs.

One event is one JSON object on one line: snake_case, units in names, UTC times in RFC 3339 with milliseconds. `schema`
changes only with a breaking change. `json_schema` is generated from the classes below and committed as
docs/events.schema.json; a test keeps the two equal.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import datetime, timezone
from enum import Enum
from operator import attrgetter
from typing import Any, Final, Literal, Union

SCHEMA: Final = 1


class Word(str, Enum):
    """A string with a fixed set of values, that prints as the value: `low`, not `Level.LOW`."""

    def __str__(self) -> str:
        """Returns the value."""
        return str(self.value)


class Level(Word):
    """Rolling stress in words, in rising order."""

    rank: int  # from 0 for low

    LOW = "low", 0
    ELEVATED = "elevated", 1
    HIGH = "high", 2

    def __new__(cls, value: str, rank: int) -> Level:
        """Makes a member that is its value, a string."""
        level = str.__new__(cls, value)
        level._value_, level.rank = value, rank
        return level


class Phase(Word):
    """Phase of an episode."""

    START = "start"
    UPDATE = "update"
    END = "end"


class HealthState(Word):
    """Health of a source."""

    OK = "ok"
    SILENT = "silent"
    MISSING = "missing"
    OVERRUN = "overrun"
    STALLED = "stalled"
    PAUSED = "paused"


NO_AUDIO: Final = (HealthState.MISSING, HealthState.STALLED, HealthState.PAUSED)
"""States in which the latest reading is of the past."""


class StatusState(Word):
    """State of the program. `offline` is published by the broker as last will."""

    ONLINE = "online"
    STOPPED = "stopped"
    OFFLINE = "offline"


class BaselineCommand(Word):
    """Order of a person for the baseline of a source."""

    LEARN = "learn"
    """The next speech is calm: take it for the baseline."""
    RESET = "reset"
    """Forget the baseline."""


class BaselineState(Word):
    """Baseline of a source: none, learned from less than 30 s of speech without stress so far, or ready."""

    OFF = "off"
    LEARNING = "learning"
    READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Speech, stress and level of one window of a source; emitted every hop.

    Attributes:
        id: node/source/counter, unique across restarts: a live source counts on from the time of its opening, a
            recording from 000000.
        ts: time of the window's last sample.
        start_s: start of the window, seconds of audio since the source was opened.
        end_s: end of the window, likewise.
        speech_ratio: share of the window that is speech, 0..1.
        stress: calibrated probability of stressed speech in the window, 0..1; null when too little of it is speech.
        stress_rolling: probability that the speaker is stressed now, from the evidence of recent speech, 0..1; null
            before the first speech.
        level: low, elevated or high by the rolling stress; null before the first speech.
        confidence: distance of `stress` from undecided, times the model's trust in a window with so little speech,
            0..1; null when stress is null.
        arousal: probability that the voice is aroused, not at rest, 0..1; null with stress, or as the model has none.
        valence: probability that the voice is positive, not negative, 0..1; null likewise.
        dbfs: level of the window, dB re full scale (a full-scale sine is -3.0), at least -120.
        clipped: true when samples of the window reach full scale.
        latency_ms: from the arrival of the window's last sample to this event; null for a recording.
        dropped_s: seconds of audio lost since the reading before.
        baseline: state of the source's baseline.
        baseline_shift: log-odds by which calm speech of the source lies above that of others; null when it is off.
        model: name and first 8 hexadecimal digits of the model file's sha256.
    """

    type: Literal["reading"] = "reading"
    schema: Literal[1] = SCHEMA
    id: str
    node: str
    source: str
    ts: str
    start_s: float
    end_s: float
    speech_ratio: float
    stress: float | None
    stress_rolling: float | None
    level: Level | None
    confidence: float | None
    arousal: float | None = None
    valence: float | None = None
    dbfs: float
    clipped: bool
    latency_ms: float | None
    dropped_s: float
    baseline: BaselineState
    baseline_shift: float | None
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A time at or above a level. Start, updates and end share one id.

    Attributes:
        id: node/source/time of the start, unique across restarts.
        ts: time of this event in the audio.
        level: the highest level reached so far.
        start_s: start of the episode, seconds of audio since the source was opened.
        end_s: end of the episode so far, likewise.
        duration_s: end_s - start_s.
        peak: highest rolling stress so far, 0..1.
        mean: mean rolling stress over the readings with speech, 0..1.
        evidence_s: when the evidence began to rise: end of the window from which on the rolling stress has stayed above
            the elevated threshold less its hysteresis, seconds of audio since the source was opened.
        declared_s: when the episode was declared, likewise; never before evidence_s.
    """

    type: Literal["episode"] = "episode"
    schema: Literal[1] = SCHEMA
    phase: Phase
    id: str
    node: str
    source: str
    ts: str
    level: Level
    start_s: float
    end_s: float
    duration_s: float
    peak: float
    mean: float
    evidence_s: float
    declared_s: float
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Health of a source, emitted when it changes.

    Attributes:
        detail: one line for a person: what happened and what to do; empty when all is well.
        read_s: seconds of audio the source delivered or lost so far.
        processed_s: seconds that went through the features. read_s = processed_s + dropped_s.
        dropped_s: seconds lost because the machine fell behind or the device lost them.
        overruns: number of losses that the device itself reported.
    """

    type: Literal["health"] = "health"
    schema: Literal[1] = SCHEMA
    node: str
    source: str
    ts: str
    state: HealthState
    detail: str
    read_s: float
    processed_s: float
    dropped_s: float
    overruns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Measured figures of the settings in force, for speakers that the model never heard.

    Attributes:
        baseline: of the measurement: off, adaptive or declared.
        false_alarms_per_hour: most episodes in an hour of ordinary speech.
        found: share of 30 s stressed parts that are found, 0..1.
        delay_median_s: from the start of a stressed part to its episode, seconds; null when none was found.
        delay_p95_s: 95th percentile of the delays, seconds; null likewise.
    """

    baseline: Literal["off", "adaptive", "declared"]
    false_alarms_per_hour: float
    found: float
    delay_median_s: float | None
    delay_p95_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """State of the program, with its version, model and host.

    Attributes:
        version: of edge-sser.
        model: as in a reading.
        provider: backend that computes the model, e.g. CPUExecutionProvider.
        host: the machine's name.
        expected: what the settings in force were measured to give; null when that is not known.
    """

    type: Literal["status"] = "status"
    schema: Literal[1] = SCHEMA
    node: str
    ts: str
    state: StatusState
    version: str
    model: str
    provider: str
    host: str
    expected: Expected | None = None


Event = Union[Reading, Episode, Health, Status]

# One event is encoded for every hop of every source, so all that does not depend on its values is prepared here.
_to_json: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=asdict).encode
_NAMES: Final = {kind: tuple(field.name for field in fields(kind)) for kind in (Reading, Episode, Health, Status)}
_VALUES: Final = {kind: attrgetter(*names) for kind, names in _NAMES.items()}


def timestamp(seconds: float) -> str:
    """Returns a time in UTC as RFC 3339 with milliseconds.

    Args:
        seconds: since the epoch.
    """
    moment = datetime.fromtimestamp(round(seconds, 3), tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_seconds(ts: str) -> float:
    """Returns the time of an event as seconds since the epoch: the inverse of `timestamp`.

    Raises:
        ValueError: it is no such time.
    """
    return datetime.fromisoformat(ts.replace("Z", "+00:00")).timestamp()


def as_dict(event: Event) -> dict[str, Any]:
    """Returns the event as plain values, in the order of the contract."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def to_line(event: Event) -> bytes:
    """Returns the event as one line of JSON in UTF-8, without a line end: the bytes that every sink gets.

    Raises:
        ValueError: a value is NaN or infinite, which JSON cannot represent.
    """
    kind = type(event)
    return _to_json(dict(zip(_NAMES[kind], _VALUES[kind](event), strict=True))).encode()


def to_json(event: Event) -> str:
    """Returns `to_line` as text.

    Raises:
        ValueError: as `to_line`.
    """
    return to_line(event).decode()


def json_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of one event."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(Event).json_schema(mode="serialization")
    for definition in schema["$defs"].values():
        if definition["type"] == "object":
            definition["additionalProperties"] = False
            definition["required"] = list(definition["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edge-sser events",
        "description": f"One line of edge-sser's output, contract version {SCHEMA}.",
        **schema,
    }
