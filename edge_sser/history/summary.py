"""Summaries of minutes: by hour and by day, in local time."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from edge_sser.events import Level
from edge_sser.history.reader import HistoryReader, split_source

HOUR_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Summary:
    """An hour or a day of a source.

    Attributes:
        start: unix seconds; hours and days begin by the local clock.
        seconds: time of the readings.
        speech: mean share of speech, 0..1.
        mean: mean rolling stress, each minute weighted by its speech; None without speech.
        max: the highest; None without speech.
        level: the highest; None without speech.
        levels: seconds with speech at low, elevated and high.
        episodes: number of episodes that began.
    """

    node: str
    source: str
    start: int
    seconds: float
    speech: float
    mean: float | None
    max: float | None
    level: Level | None
    levels: tuple[float, float, float]
    episodes: int


@dataclass(slots=True)
class _Sum:
    seconds: float = 0.0
    speech: float = 0.0
    weight: float = 0.0
    weighted: float = 0.0
    max: float | None = None
    levels: tuple[float, ...] = (0.0, 0.0, 0.0)
    episodes: int = 0

    def add(self, other: _Sum) -> None:
        self.seconds += other.seconds
        self.speech += other.speech
        self.weight += other.weight
        self.weighted += other.weighted
        if other.max is not None:
            self.max = other.max if self.max is None else max(self.max, other.max)
        self.levels = tuple(mine + its for mine, its in zip(self.levels, other.levels, strict=True))
        self.episodes += other.episodes

    def summary(self, node: str, source: str, start: int) -> Summary:
        low, elevated, high = self.levels
        level = Level.HIGH if high else Level.ELEVATED if elevated else Level.LOW if low else None
        return Summary(
            node,
            source,
            start,
            self.seconds,
            self.speech / self.seconds if self.seconds else 0.0,
            self.weighted / self.weight if self.weight else None,
            self.max,
            level,
            (low, elevated, high),
            self.episodes,
        )


def hours(reader: HistoryReader, since: float, until: float, source: str | None = None) -> list[Summary]:
    """Returns the hours of a range with readings or episodes, by source and time; arguments as for `minutes`.

    In zones that are not whole hours from UTC, hours begin with the local clock's.
    """
    sums = _hour_sums(reader, since, until, source)
    return [sums[key].summary(*key) for key in sorted(sums)]


def days(reader: HistoryReader, since: float, until: float, source: str | None = None) -> list[Summary]:
    """Returns the days of a range with readings or episodes, by source and time; arguments as for `minutes`."""
    sums: defaultdict[tuple[str, str, int], _Sum] = defaultdict(_Sum)
    for (node, name, start), hour in _hour_sums(reader, since, until, source).items():
        sums[node, name, start_of_day(start)].add(hour)
    return [sums[key].summary(*key) for key in sorted(sums)]


def start_of_day(seconds: float) -> int:
    """Returns the local midnight at or before a time, both in unix seconds."""
    day = datetime.fromtimestamp(seconds)
    return int(datetime(day.year, day.month, day.day).timestamp())


def _hour_sums(
    reader: HistoryReader, since: float, until: float, source: str | None
) -> dict[tuple[str, str, int], _Sum]:
    offset = time.localtime(since).tm_gmtoff % HOUR_SECONDS
    node, name = split_source(source)
    chosen = [
        each
        for each in reader.query("SELECT id, node, source FROM sources")
        if name in ("", each[2]) and node in ("", each[1])
    ]
    sums: defaultdict[tuple[str, str, int], _Sum] = defaultdict(_Sum)
    for number, of_node, of_source in chosen:
        for hour, seconds, speech, weight, weighted, highest, *levels in reader.query(
            "SELECT (minute + ?1) / 3600 AS hour, sum(seconds), sum(speech * seconds), "
            "sum(CASE WHEN mean IS NULL THEN 0 ELSE speech * readings END), total(mean * speech * readings), max(max), "
            "sum(low_s), sum(elevated_s), sum(high_s) "
            "FROM minutes WHERE source_id = ?2 AND minute >= ?3 AND minute < ?4 GROUP BY hour",
            (offset, number, since, until),
        ):
            key = of_node, of_source, hour * HOUR_SECONDS - offset
            sums[key] = _Sum(seconds, speech, weight, weighted, highest, tuple(levels))
        for hour, episodes in reader.query(
            "SELECT CAST(started + ?1 AS INTEGER) / 3600 AS hour, count(*) FROM episodes "
            "WHERE source_id = ?2 AND started >= ?3 AND started < ?4 GROUP BY hour",
            (offset, number, since, until),
        ):
            sums[of_node, of_source, hour * HOUR_SECONDS - offset].episodes = episodes
    return dict(sums)
