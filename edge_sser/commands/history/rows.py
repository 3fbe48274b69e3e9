"""Rows of the history as JSON Lines, CSV or Parquet. Times are UTC, as in events."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from enum import Enum
from io import StringIO
from pathlib import Path
from typing import Any, Final

from edge_sser.errors import SinkError, UsageError, need_package
from edge_sser.events import timestamp
from edge_sser.files import as_cell, atomic_replace
from edge_sser.history.reader import EpisodeRow, HealthRow, Minute
from edge_sser.history.summary import Summary

Row = Minute | EpisodeRow | HealthRow | Summary
_TIMES: Final = frozenset(("minute", "started", "ended", "ts", "start"))  # columns in unix seconds
_LEVEL_SECONDS: Final = ("low_s", "elevated_s", "high_s")
_KINDS: Final[Mapping[type[Any], str]] = {
    Minute: "minute",
    EpisodeRow: "episode",
    HealthRow: "health",
    Summary: "summary",
}


class HistoryFormat(str, Enum):
    """Formats of `edge-sser history`."""

    TABLE = "table"
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


def check_output(form: HistoryFormat, out: Path | None) -> None:
    """Checks that a format can be written where it should go.

    Raises:
        MissingComponentError: Parquet without pyarrow.
        UsageError: Parquet on a terminal.
    """
    if form is HistoryFormat.PARQUET:
        need_package("pyarrow", "parquet", "--format parquet")
        if out is None and sys.stdout.isatty():
            raise UsageError("--format parquet is not for a terminal: name a file with --out, or redirect the output")


def write_rows(rows: Sequence[Row], kind: type[Row], form: HistoryFormat, out: Path | None) -> None:
    """Writes rows to a file, or standard output.

    Args:
        rows: of one kind; for JSON Lines of several, each with its `type`.
        kind: of the rows, also when there are none.
        form: JSON Lines, CSV or Parquet.
        out: file to replace; None for standard output.

    Raises:
        SinkError: the file cannot be written.
    """
    if form is HistoryFormat.PARQUET:
        content = _parquet(rows, kind)
    elif form is HistoryFormat.CSV:
        content = _csv(rows, kind).encode()
    else:
        content = "".join(
            json.dumps({"type": _KINDS[type(row)], **_values(row)}, ensure_ascii=False) + "\n" for row in rows
        ).encode()
    write_bytes(content, out)


def write_bytes(content: bytes, out: Path | None) -> None:
    """Writes to a file, or standard output.

    Raises:
        SinkError: the file cannot be written.
    """
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    with atomic_replace(out, SinkError) as temporary:
        temporary.write_bytes(content)


def _csv(rows: Sequence[Row], kind: type[Row]) -> str:
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_columns(kind))
    writer.writerows(["" if value is None else as_cell(value) for value in _values(row).values()] for row in rows)
    return buffer.getvalue()


def _parquet(rows: Sequence[Row], kind: type[Row]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "time": pa.timestamp("ms", tz="UTC")}
    schema = pa.schema([(name, types[of]) for name, of in _columns(kind).items()])
    plain = [
        values
        | {
            name: datetime.fromisoformat(values[name].replace("Z", "+00:00"))
            for name in _TIMES & values.keys()
            if values[name]
        }
        for values in map(_values, rows)
    ]
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(plain, schema=schema), sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _columns(kind: type[Row]) -> dict[str, str]:
    """Returns the columns of a kind of row, each with its type: str, int, float or time."""
    columns = {}
    for field in fields(kind):
        of = str(field.type).partition(" ")[0]  # annotations are text: "float | None"
        columns[field.name] = "time" if field.name in _TIMES else of if of in ("int", "float") else "str"
    if columns.pop("levels", None):
        episodes = columns.pop("episodes")
        columns |= dict.fromkeys(_LEVEL_SECONDS, "float") | {"episodes": episodes}
    return columns


def _values(row: Row) -> dict[str, Any]:
    values = asdict(row)
    values |= dict(zip(_LEVEL_SECONDS, values.pop("levels", ()), strict=False))
    return {name: _plain(name, values[name]) for name in _columns(type(row))}


def _plain(name: str, value: Any) -> Any:
    if name in _TIMES and value is not None:
        return timestamp(value)
    if isinstance(value, Enum):
        return value.value
    return round(value, 4) if isinstance(value, float) else value
