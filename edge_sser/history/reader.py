"""Reader of the history file. It works while `listen` writes, and never changes the file.

Times are unix seconds, UTC, and ranges are half open: `since` belongs to a range, `until` does not.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from edge_sser.errors import HistoryError
from edge_sser.events import HealthState, Level
from edge_sser.history.live import Live, read_live
from edge_sser.history.schema import check_file, read_as_current

_OF_ANOTHER: Final = ": is it this user's? (sudo reads the service's)"
BUSY_SECONDS: Final = 5.0  # that a query waits while the file is being checkpointed or recovered


@dataclass(frozen=True, slots=True)
class SourceName:
    """A source of a node."""

    node: str
    source: str


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of a source.

    Attributes:
        minute: its start, unix seconds.
        readings: number of readings.
        speech: mean share of speech, 0..1.
        mean: mean rolling stress in windows with speech, 0..1; None without speech.
        max: the highest; None without speech.
        level: the highest; None without speech.
        seconds: time of the readings.
        low_s: time with speech at the level low, seconds.
        elevated_s: likewise.
        high_s: likewise.
    """

    node: str
    source: str
    minute: int
    readings: int
    speech: float
    mean: float | None
    max: float | None
    level: Level | None
    seconds: float
    low_s: float
    elevated_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class EpisodeRow:
    """An episode.

    Attributes:
        ended: unix seconds; None while the episode is open.
        duration_s: until its last window with speech, so far.
    """

    node: str
    source: str
    id: str
    started: float
    ended: float | None
    level: Level
    peak: float
    mean: float
    duration_s: float
    model: str


@dataclass(frozen=True, slots=True)
class HealthRow:
    """A change of a source's health."""

    node: str
    source: str
    ts: float
    state: HealthState
    detail: str


@dataclass(frozen=True, slots=True)
class Latest:
    """Newest rows of a source: None where there is none. `episode` is the open one."""

    node: str
    source: str
    minute: Minute | None
    health: HealthRow | None
    episode: EpisodeRow | None


class HistoryReader:
    """Reads a history file. Safe to use from several threads.

    Args:
        path: of the file.

    Raises:
        HistoryError: there is no file, it is not a history or of a newer version, or this user may not read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self.sources()

    def close(self) -> None:
        """Closes the file. Safe to call twice."""
        with self._lock:
            self._disconnect()

    def sources(self) -> list[SourceName]:
        """Returns all sources, in the order of their names."""
        return [SourceName(*row) for row in self.query("SELECT node, source FROM sources ORDER BY node, source")]

    def span(self) -> tuple[int, int] | None:
        """Returns the first and the last minute, unix seconds; None without any."""
        firsts = self.query(
            "SELECT (SELECT min(minute) FROM minutes WHERE source_id = id), "
            "(SELECT max(minute) FROM minutes WHERE source_id = id) FROM sources"
        )
        known = [(first, last) for first, last in firsts if first is not None]
        return (min(first for first, _ in known), max(last for _, last in known)) if known else None

    def minutes(self, since: float, until: float, source: str | None = None) -> list[Minute]:
        """Returns minutes that begin in a range, by source and time. The newest may not be over.

        Args:
            since: unix seconds.
            until: likewise.
            source: name of a source, or NODE/SOURCE; None for all.
        """
        rows = self._rows(
            "SELECT node, source, minute, readings, speech, mean, max, level, seconds, low_s, elevated_s, high_s "
            "FROM sources JOIN minutes ON source_id = id WHERE minute >= ? AND minute < ?",
            (since, until),
            source,
            "node, source, minute",
        )
        return [_minute(row) for row in rows]

    def episodes(
        self, since: float, until: float, source: str | None = None, level: Level | None = None
    ) -> list[EpisodeRow]:
        """Returns episodes that overlap a range, by time, the open ones included.

        Args:
            since: unix seconds.
            until: likewise.
            source: name of a source, or NODE/SOURCE; None for all.
            level: the lowest; None for all.
        """
        rows = self._rows(
            "SELECT node, source, episodes.id, started, ended, level, peak, mean, duration_s, model FROM episodes "
            "JOIN sources ON source_id = sources.id "
            "WHERE started < ? AND (ended IS NULL OR ended >= ?)",
            (until, since),
            source,
            "started",
        )
        found = [_episode(row) for row in rows]
        return found if level is None else [each for each in found if each.level.rank >= level.rank]

    def health(self, since: float, until: float, source: str | None = None) -> list[HealthRow]:
        """Returns changes of health in a range, by time; arguments as for `minutes`."""
        # CROSS JOIN fixes the order, so that SQLite searches by the key (source_id, ts) and does not scan the table.
        rows = self._rows(
            "SELECT node, source, ts, state, detail FROM sources CROSS JOIN health ON source_id = id "
            "WHERE ts >= ? AND ts < ?",
            (since, until),
            source,
            "ts",
        )
        return [_health(row) for row in rows]

    def readings(self, since: float, until: float, source: str | None = None) -> list[str]:
        """Returns readings in a range as JSON, by time; empty unless the settings ask for them. Arguments likewise."""
        rows = self._rows(
            "SELECT json FROM sources CROSS JOIN readings ON source_id = id WHERE ts >= ? AND ts < ?",
            (since, until),
            source,
            "ts",
        )
        return [json for (json,) in rows]

    def latest(self) -> list[Latest]:
        """Returns the newest rows of each source, in the order of their names."""
        found = []
        for number, node, name in self.query("SELECT id, node, source FROM sources ORDER BY node, source"):
            minute = self._first(
                "SELECT minute, readings, speech, mean, max, level, seconds, low_s, elevated_s, high_s FROM minutes "
                "WHERE source_id = ? ORDER BY minute DESC LIMIT 1",
                number,
            )
            health = self._first(
                "SELECT ts, state, detail FROM health WHERE source_id = ? ORDER BY ts DESC LIMIT 1", number
            )
            episode = self._first(
                "SELECT id, started, ended, level, peak, mean, duration_s, model FROM episodes "
                "WHERE source_id = ? AND ended IS NULL ORDER BY started DESC LIMIT 1",
                number,
            )
            found.append(
                Latest(
                    node,
                    name,
                    minute and _minute((node, name, *minute)),
                    health and _health((node, name, *health)),
                    episode and _episode((node, name, *episode)),
                )
            )
        return found

    def live(self) -> Live | None:
        """Returns the newest events, at most half a second old; None when nobody listens."""
        row = self.query("SELECT value FROM facts WHERE name = 'live'")
        return read_live(Path(row[0][0])) if row else None

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Returns the rows of a query.

        Raises:
            HistoryError: the file cannot be read.
        """
        with self._lock:
            try:
                return self._connect().execute(sql, values).fetchall()
            except sqlite3.Error as error:
                self._disconnect()
                raise HistoryError(f"{self.path}: the history cannot be read ({error}){_OF_ANOTHER}") from None

    def _rows(self, sql: str, values: Sequence[float], source: str | None, order: str) -> list[Any]:
        node, name = split_source(source)
        given = [(column, value) for column, value in (("source", name), ("node", node)) if value]
        conditions = "".join(f" AND {column} = ?" for column, _ in given)
        return self.query(f"{sql}{conditions} ORDER BY {order}", [*values, *(value for _, value in given)])

    def _first(self, sql: str, number: int) -> Any:
        rows = self.query(sql, (number,))
        return rows[0] if rows else None

    def _connect(self) -> sqlite3.Connection:
        """Opens the file; again when the writer has put another one in its place."""
        try:
            status = self.path.stat()
            identity = (status.st_dev, status.st_ino)
            if self._db is not None and identity == self._identity:
                return self._db
            self._disconnect()
            exists = check_file(self.path)
        except FileNotFoundError:
            exists = False
        except OSError as error:
            raise HistoryError(f"{self.path}: the history cannot be read ({error.strerror}){_OF_ANOTHER}") from None
        if not exists:
            self._disconnect()
            raise HistoryError(
                f"{self.path}: no history has been written here yet: check the path, or run edge-sser listen with "
                "[history] in its settings"
            )
        uri = f"file:{quote(os.path.abspath(self.path))}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        read_as_current(self._db)
        self._identity = identity
        return self._db

    def _disconnect(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def split_source(source: str | None) -> tuple[str, str]:
    """Returns node and source of a name as people write it, SOURCE or NODE/SOURCE; empty is any.

    Examples:
        >>> split_source("desk"), split_source("cab12/desk"), split_source(None)
        (('', 'desk'), ('cab12', 'desk'), ('', ''))
    """
    node, _, name = (source or "").rpartition("/")
    return node, name


def _minute(row: Sequence[Any]) -> Minute:
    node, source, minute, readings, speech, mean, highest, level, *seconds = row
    known = None if level is None else Level[level.upper()]
    return Minute(node, source, minute, readings, speech, mean, highest, known, *seconds)


def _episode(row: Sequence[Any]) -> EpisodeRow:
    node, source, name, started, ended, level, *values = row
    return EpisodeRow(node, source, name, started, ended, Level[level.upper()], *values)


def _health(row: Sequence[Any]) -> HealthRow:
    node, source, ts, state, detail = row
    return HealthRow(node, source, ts, HealthState(state), detail)
