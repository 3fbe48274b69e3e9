"""Lines of results: readings and episodes as JSON Lines, or readings as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

from edge_sser.events import Episode, Event, Reading, as_dict, to_json
from edge_sser.files import as_cell

FILE_COLUMN = "file"  # last of CSV; names of sources are short and Latin, those of files are not


class OutputFormat(str, Enum):
    """Formats of the results."""

    JSONL = "jsonl"
    CSV = "csv"
    TEXT = "text"
    """A summary for a person."""


def csv_header() -> str:
    """Returns the first line of CSV: the fields of a reading, and the file."""
    return _csv_line((*(field.name for field in fields(Reading)), FILE_COLUMN))


def write_events(events: Iterable[Event], path: Path, form: OutputFormat, out: TextIO) -> int:
    """Writes readings and, as JSON Lines, episodes of the recording at `path`. Returns the number of readings.

    Nothing is written in the format text, which is a summary of all.
    """
    readings = 0
    for event in events:
        if isinstance(event, Reading):
            readings += 1
            if form is OutputFormat.CSV:
                out.write(_csv_line((*as_dict(event).values(), str(path))))
            elif form is OutputFormat.JSONL:
                out.write(to_json(event) + "\n")
        elif isinstance(event, Episode) and form is OutputFormat.JSONL:
            out.write(to_json(event) + "\n")
    return readings


def _csv_line(values: Iterable[Any]) -> str:
    buffer = io.StringIO()
    texts = {None: "", True: "true", False: "false"}
    csv.writer(buffer, lineterminator="\n").writerow(
        texts[value] if value is None or isinstance(value, bool) else as_cell(value) for value in values
    )
    return buffer.getvalue()
