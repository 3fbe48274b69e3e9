"""Questions of the page to the history: curves in bins, episodes, health."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from edge_sser.errors import UsageError
from edge_sser.events import Level
from edge_sser.files import as_cell
from edge_sser.history.minutes import MINUTE_SECONDS
from edge_sser.history.reader import EpisodeRow, HistoryReader

MAX_BINS: Final = 3000  # of one source in an answer
MAX_SPAN_SECONDS: Final = 36_500 * 86_400
MAX_EPISODES: Final = 500  # in an answer to the page; a CSV file has all
EPISODE_COLUMNS: Final = (
    "started",
    "ended",
    "duration_s",
    "level",
    "peak",
    "mean",
    "node",
    "source",
    "model",
    "id",
)


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time, and the sources in it.

    Attributes:
        since: first second, unix seconds.
        until: the second after the last.
        keys: NODE/SOURCE of the sources; empty for all.
    """

    since: int
    until: int
    keys: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not 0 < self.until - self.since <= MAX_SPAN_SECONDS:
            raise UsageError("until must lie after since, and at most 36,500 days after it")


def curves(reader: HistoryReader, span: Span, bin_seconds: int) -> dict[str, list[list[Any]]]:
    """Returns the bins of each source that have readings, by NODE/SOURCE.

    Args:
        reader: of the history.
        span: to cut into bins, from its begin on.
        bin_seconds: length of a bin, whole minutes.

    Returns:
        Of each bin: number, mean rolling stress and highest (None without speech), share of speech, seconds of scored
        speech at low, elevated and high.

    Raises:
        UsageError: there would be too many bins.
        HistoryError: the history cannot be read.
    """
    if bin_seconds < MINUTE_SECONDS or bin_seconds % MINUTE_SECONDS:
        raise UsageError("bin must be a multiple of 60 seconds")
    if (span.until - span.since) / bin_seconds > MAX_BINS:
        raise UsageError(f"more than {MAX_BINS} bins: choose longer ones, or a shorter time")
    sql = (
        "SELECT (minute - ?2) / ?4 AS bin, avg(mean), max(max), avg(speech), total(low_s), total(elevated_s), "
        "total(high_s) FROM minutes WHERE source_id = ?1 AND minute >= ?2 AND minute < ?3 GROUP BY bin"
    )
    found = {}
    for number, node, source in reader.query("SELECT id, node, source FROM sources ORDER BY node, source"):
        key = f"{node}/{source}"
        if not span.keys or key in span.keys:
            rows = reader.query(sql, (number, span.since, span.until, bin_seconds))
            found[key] = [[each if each is None else round(each, 3) for each in row] for row in rows]
    return found


def episodes(reader: HistoryReader, span: Span, level: Level | None) -> list[EpisodeRow]:
    """Returns the episodes that overlap a span, the newest first.

    Args:
        reader: of the history.
        span: of time and sources.
        level: the lowest; None for all.

    Raises:
        HistoryError: the history cannot be read.
    """
    found = reader.episodes(span.since, span.until, level=level)
    return [each for each in reversed(found) if not span.keys or f"{each.node}/{each.source}" in span.keys]


def episodes_csv(rows: Sequence[EpisodeRow]) -> str:
    """Returns episodes as CSV, times in UTC."""
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(EPISODE_COLUMNS)
    for row in rows:
        values = [getattr(row, name) for name in EPISODE_COLUMNS]
        values[:4] = [_utc(row.started), _utc(row.ended), round(row.duration_s, 1), row.level.value]
        table.writerow([as_cell(value) for value in values])
    return out.getvalue()


def _utc(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
