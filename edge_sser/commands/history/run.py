"""The work of `edge-sser history`: find the file, read a range, print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

from edge_sser.commands.history.moments import parse_moment, start_of
from edge_sser.commands.history.overview import overview, range_text, summary_table
from edge_sser.commands.history.rows import HistoryFormat, Row, check_output, write_bytes, write_rows
from edge_sser.errors import HistoryError, UsageError
from edge_sser.events import Level
from edge_sser.history import summary
from edge_sser.history.reader import EpisodeRow, HealthRow, HistoryReader, Minute, split_source
from edge_sser.history.summary import Summary

_Choice = TypeVar("_Choice", bound=Enum)


class RowKind(str, Enum):
    """Rows to print."""

    ALL = "all"
    MINUTES = "minutes"
    EPISODES = "episodes"
    HEALTH = "health"
    READINGS = "readings"


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Options of `edge-sser history`, as typed; None where they were not given."""

    since: str | None = None
    until: str | None = None
    day: str | None = None
    source: str | None = None
    level: str | None = None
    rows: str | None = None
    form: str = HistoryFormat.TABLE.value
    out: Path | None = None
    plot: Path | None = None


_CLASSES: Final[dict[RowKind, type[Row]]] = {
    RowKind.MINUTES: Minute,
    RowKind.EPISODES: EpisodeRow,
    RowKind.HEALTH: HealthRow,
}


def show_history(path: Path, request: HistoryRequest) -> None:
    """Prints a range of the history, or draws it.

    Args:
        path: of the history file.
        request: options.

    Raises:
        EdgeSserError: an option is wrong, or the file cannot be read.
    """
    form = _choice("--format", request.form, HistoryFormat)
    level = None if request.level is None else _choice("--level", request.level, Level)
    kind = _row_kind(request, form)
    check_output(form, request.out)
    if request.plot is not None:
        from edge_sser.commands.plot import check_plot

        check_plot(request.plot)
    since, until = read_range(request, datetime.now().astimezone())
    reader = open_history(path, request.source)
    minutes = reader.minutes(since, until, request.source)
    episodes = reader.episodes(since, until, request.source, level)
    if request.plot is not None:
        if not minutes:
            raise HistoryError(f"nothing to draw from {range_text(since, until)}. {_holds(reader)}")
        from edge_sser.commands.history.plot import draw_history

        draw_history(request.plot, minutes, episodes, since, until)
        if form is HistoryFormat.TABLE:
            print(f"{request.plot}: {range_text(since, until)}")
            return
    if kind is RowKind.READINGS:
        readings = reader.readings(since, until, request.source)
        write_bytes("".join(f"{each}\n" for each in readings).encode(), request.out)
        return
    health = reader.health(since, until, request.source)
    shown: dict[RowKind, Sequence[Row]] = {
        RowKind.MINUTES: [each for each in minutes if level is None or _at_least(each.level, level)],
        RowKind.EPISODES: episodes,
        RowKind.HEALTH: health,
    }
    if form is HistoryFormat.TABLE:
        text = overview(minutes, episodes, health) if minutes or episodes or health else f"nothing. {_holds(reader)}"
        write_bytes(f"{range_text(since, until)}\n\n{text}\n".encode(), request.out)
    elif kind is RowKind.ALL:
        write_rows([row for rows in shown.values() for row in rows], Minute, form, request.out)
    else:
        write_rows(shown[kind], _CLASSES[kind], form, request.out)


def show_summary(path: Path, request: HistoryRequest, unit: str) -> None:
    """Prints hours or days of the history.

    Args:
        path: of the history file.
        request: options.
        unit: hour or day.

    Raises:
        EdgeSserError: an option is wrong, or the file cannot be read.
    """
    form = _choice("--format", request.form, HistoryFormat)
    if unit not in ("hour", "day"):
        raise UsageError(f"--by {unit}: expected hour or day")
    check_output(form, request.out)
    since, until = read_range(request, datetime.now().astimezone())
    reader = open_history(path, request.source)
    found = (summary.days if unit == "day" else summary.hours)(reader, since, until, request.source)
    if form is HistoryFormat.TABLE:
        text = summary_table(found, unit) or f"nothing. {_holds(reader)}"
        write_bytes(f"{range_text(since, until)}\n\n{text}\n".encode(), request.out)
    else:
        write_rows(found, Summary, form, request.out)


def read_range(request: HistoryRequest, now: datetime) -> tuple[float, float]:
    """Returns the range of the options, unix seconds: today until now when none is given.

    Raises:
        UsageError: a moment is wrong, or the range is empty.
    """
    if request.day is not None:
        if request.since or request.until:
            raise UsageError("--day is a range of its own: leave out --since and --until")
        day = parse_moment("--day", request.day, now).date()
        return start_of(day).timestamp(), start_of(day + timedelta(days=1)).timestamp()
    since = parse_moment("--since", request.since or "today", now)
    until = now if request.until is None else parse_moment("--until", request.until, now)
    if since >= until:
        raise UsageError(f"--since {request.since or 'today'} is not before --until {request.until or 'now'}")
    return since.timestamp(), until.timestamp()


def open_history(path: Path, source: str | None) -> HistoryReader:
    """Opens a history that has a source.

    Raises:
        HistoryError: the file cannot be read.
        UsageError: there is no such source.
    """
    reader = HistoryReader(path)
    node, name = split_source(source)
    known = reader.sources()
    if source is not None and not any(name == each.source and node in ("", each.node) for each in known):
        names = ", ".join(each.source for each in known) or "none yet"
        raise UsageError(f"--source {source}: there is no such source in {path}: it has {names}")
    return reader


def _row_kind(request: HistoryRequest, form: HistoryFormat) -> RowKind:
    tabular = form in (HistoryFormat.CSV, HistoryFormat.PARQUET)
    kind = _choice("--rows", request.rows or ("minutes" if tabular else "all"), RowKind)
    if kind is RowKind.READINGS and form is not HistoryFormat.JSONL:
        raise UsageError("--rows readings are lines of JSON: add --format jsonl")
    if kind is RowKind.ALL and tabular:
        raise UsageError(
            f"--rows all does not fit one table: with --format {form.value} name minutes, episodes or health"
        )
    if form is HistoryFormat.TABLE and request.rows not in (None, "all"):
        raise UsageError("--rows is for --format jsonl, csv and parquet")
    return kind


def _choice(option: str, text: str, kind: type[_Choice]) -> _Choice:
    for member in kind:
        if member.value == text:
            return member
    raise UsageError(f"{option} {text}: expected one of {', '.join(member.value for member in kind)}")


def _at_least(level: Level | None, lowest: Level) -> bool:
    return level is not None and level.rank >= lowest.rank


def _holds(reader: HistoryReader) -> str:
    span = reader.span()
    return (
        "The history holds no minute yet: edge-sser listen adds one a minute"
        if span is None
        else f"The history holds {range_text(*span)}"
    )
