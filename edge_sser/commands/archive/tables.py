"""Tables of an archive: their columns, and rows collected into them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from edge_sser.events import Episode, Reading

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS: Final = 4096  # collected before they become a record batch


class Rows:
    """Rows of a table, as columns."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows: list[dict[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []

    def add(self, row: dict[str, Any]) -> None:
        """Adds a row."""
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._flush()

    def table(self) -> pa.Table:
        """Returns all rows."""
        import pyarrow as pa

        self._flush()
        return pa.Table.from_batches(self._batches, schema=self._schema)

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._batches.append(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def reading_row(reading: Reading, path: str, started: float | None) -> dict[str, Any]:
    """Returns the row of a reading; `started` is the time of its recording, unix seconds, or None."""
    return {
        "path": path,
        "ts": None if started is None else milliseconds(started + reading.end_s),
        "start_s": reading.start_s,
        "end_s": reading.end_s,
        "speech_ratio": reading.speech_ratio,
        "stress": reading.stress,
        "stress_rolling": reading.stress_rolling,
        "level": None if reading.level is None else reading.level.value,
        "confidence": reading.confidence,
        "arousal": reading.arousal,
        "valence": reading.valence,
        "dbfs": reading.dbfs,
        "clipped": reading.clipped,
        "baseline": reading.baseline.value,
        "baseline_shift": reading.baseline_shift,
    }


def episode_row(episode: Episode, path: str, started: float | None) -> dict[str, Any]:
    """Returns the row of an episode's end; `started` likewise."""
    return {
        "path": path,
        "started": None if started is None else milliseconds(started + episode.start_s),
        "ended": None if started is None else milliseconds(started + episode.end_s),
        "level": episode.level.value,
        **{
            name: getattr(episode, name)
            for name in ("start_s", "end_s", "duration_s", "peak", "mean", "evidence_s", "declared_s")
        },
    }


def reading_schema() -> pa.Schema:
    """Returns the columns of readings: those of the events, with the path."""
    import pyarrow as pa

    return pa.schema(
        [("path", pa.string()), ("ts", _time()), ("start_s", pa.float64()), ("end_s", pa.float64())]
        + [(name, pa.float32()) for name in ("speech_ratio", "stress", "stress_rolling")]
        + [("level", pa.string())]
        + [(name, pa.float32()) for name in ("confidence", "arousal", "valence", "dbfs")]
        + [("clipped", pa.bool_())]
        + [("baseline", pa.string()), ("baseline_shift", pa.float32())]
    )


def episode_schema() -> pa.Schema:
    """Returns the columns of episodes: those of their ends, with the path."""
    import pyarrow as pa

    numbers = ("start_s", "end_s", "duration_s", "peak", "mean", "evidence_s", "declared_s")
    return pa.schema(
        [("path", pa.string()), ("started", _time()), ("ended", _time()), ("level", pa.string())]
        + [(name, pa.float64()) for name in numbers]
    )


def file_schema() -> pa.Schema:
    """Returns the columns of files."""
    import pyarrow as pa

    return pa.schema(
        [("path", pa.string()), ("status", pa.string()), ("reason", pa.string()), ("started", _time())]
        + [(name, pa.float64()) for name in ("seconds", "speech_s", "low_s", "elevated_s", "high_s")]
        + [("readings", pa.int64()), ("episodes", pa.int64()), ("bytes", pa.int64())]
        + [("modified", _time()), ("analyzed", _time()), ("model", pa.string())]
    )


def _time() -> pa.DataType:
    import pyarrow as pa

    return pa.timestamp("ms", tz="UTC")


def milliseconds(seconds: float | None) -> int | None:
    """Returns a time in whole milliseconds."""
    return None if seconds is None else round(seconds * 1000)
