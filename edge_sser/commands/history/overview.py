"""The history as text for a person, in local time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby

from edge_sser.errors import printable
from edge_sser.events import Level
from edge_sser.history.reader import EpisodeRow, HealthRow, Minute
from edge_sser.history.summary import Summary

_DAY, _CLOCK = "%a %d %b %Y", "%a %d %b %H:%M"


def range_text(since: float, until: float) -> str:
    """Returns a range in words, with the zone."""
    begin, end = (datetime.fromtimestamp(each).astimezone() for each in (since, until))
    zones = begin.tzname() if begin.tzname() == end.tzname() else f"{begin.tzname()}, then {end.tzname()}"
    return f"{begin:{_DAY} %H:%M} to {end:{_DAY} %H:%M} (local time, {zones})"


def overview(minutes: Sequence[Minute], episodes: Sequence[EpisodeRow], health: Sequence[HealthRow]) -> str:
    """Returns a line for each source, the episodes, and the changes of health."""
    sources = [_source_line(list(own)) for _, own in groupby(minutes, key=lambda each: (each.node, each.source))]
    return "\n\n".join(
        (
            _table(("source", "listened", "speech", "low", "elevated", "high", "peak"), sources) or "no minutes",
            _table(
                ("episode", "lasted", "level", "peak", "mean", "source"),
                [_episode_line(each) for each in episodes],
            )
            or "no episodes",
            _table(
                ("health", "state", "source", "detail"),
                [(_clock(each.ts), each.state.value, each.source, printable(each.detail)) for each in health],
            )
            or "no changes of health",
        )
    )


def summary_table(summaries: Sequence[Summary], unit: str) -> str:
    """Returns the hours or days of each source.

    Args:
        summaries: in order.
        unit: hour or day.
    """
    form = _DAY if unit == "day" else _CLOCK
    rows = [
        (
            f"{datetime.fromtimestamp(each.start):{form}}",
            each.source,
            duration_text(each.seconds),
            duration_text(each.seconds * each.speech),
            *_shares(each.levels),
            _value(each.mean),
            _value(each.max),
            str(each.episodes),
        )
        for each in summaries
    ]
    heads = (unit, "source", "listened", "speech", "low", "elevated", "high", "mean", "peak", "episodes")
    return _table(heads, rows)


def _source_line(minutes: Sequence[Minute]) -> tuple[str, ...]:
    at_levels = [sum(getattr(each, f"{level.value}_s") for each in minutes) for level in Level]
    return (
        f"{minutes[0].node}/{minutes[0].source}",
        duration_text(sum(each.seconds for each in minutes)),
        duration_text(sum(each.seconds * each.speech for each in minutes)),
        *_shares(at_levels),
        _value(max((each.max for each in minutes if each.max is not None), default=None)),
    )


def _episode_line(episode: EpisodeRow) -> tuple[str, ...]:
    lasted = duration_text(episode.duration_s) + (" so far" if episode.ended is None else "")
    level = episode.level.value
    return _clock(episode.started), lasted, level, _value(episode.peak), _value(episode.mean), episode.source


def _shares(seconds: Sequence[float]) -> Iterable[str]:
    """Returns the shares of the time with speech."""
    total = sum(seconds)
    return (_percent(each / total) if total else "-" for each in seconds)


def _percent(share: float) -> str:
    return "<1 %" if 0.0 < share < 0.005 else f"{100 * share:.0f} %"


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds):%a %d %b %H:%M:%S}"


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def duration_text(seconds: float) -> str:
    """Returns a duration in seconds, minutes, or hours and minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns aligned columns; empty without rows."""
    if not rows:
        return ""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows))
    return "\n".join(map(str.rstrip, lines))
