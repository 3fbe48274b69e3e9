"""Writer of the history file: events become rows, rows become transactions. For one thread.

Every commit runs under `synchronous=FULL`, one fsync each, and survives a power cut. The caller commits at most once a
minute, and at once for the start and the end of an episode. A lock file keeps a second writer out.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from edge_sser.errors import HistoryError
from edge_sser.events import Episode, Event, Health, Phase, Reading, epoch_seconds
from edge_sser.files import make_private_below_state
from edge_sser.history.minutes import HOP_SECONDS, OpenMinute, start_of_minute
from edge_sser.history.schema import SUFFIXES, DamagedHistoryError, check_file, create, foreign, is_damage, upgrade

DAY_SECONDS: Final = 86_400
MAX_PENDING_ROWS: Final = 20_000  # for a disk that does not take them, before the oldest go
VACUUM_PAGES: Final = 256  # given back to the system in one transaction
_BUSY_SECONDS: Final = 2.0
_LOG_BYTES: Final = 4 * 2**20  # of the write-ahead log, kept after a checkpoint
_MODE: Final = 0o600

_MINUTE: Final = (  # of a minute that a restart has cut in two, the larger part is kept
    "INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET readings = excluded.readings, speech = excluded.speech, mean = excluded.mean, "
    "max = excluded.max, level = excluded.level, seconds = excluded.seconds, low_s = excluded.low_s, "
    "elevated_s = excluded.elevated_s, high_s = excluded.high_s WHERE excluded.readings >= readings"
)
_HEALTH: Final = "INSERT OR REPLACE INTO health (source_id, ts, state, detail) VALUES (?, ?, ?, ?)"
_READING: Final = "INSERT OR REPLACE INTO readings (source_id, ts, json) VALUES (?, ?, ?)"
_EPISODE: Final = (
    "INSERT INTO episodes (source_id, id, started, ended, level, peak, mean, duration_s, model) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET ended = CASE WHEN excluded.ended IS NULL "
    "THEN NULL ELSE started + excluded.duration_s END, level = excluded.level, peak = excluded.peak, "
    "mean = excluded.mean, duration_s = excluded.duration_s"
)
_TABLES: Final = (("minutes", "minute"), ("readings", "ts"), ("health", "ts"), ("episodes", "started"))

_Source = tuple[str, str]
_Row = tuple[str, _Source, Sequence[Any]]


class HistoryWriter:
    """Sums up readings by minute, and writes minutes, episodes and health.

    Rows wait in memory until `commit`, so that a disk that fails for a while loses none.

    Args:
        path: of the file; made with its folder when it is missing.
        live: path of the live file, for readers.
        readings: write each reading as well.
        hop_seconds: between two readings.

    Attributes:
        dropped: rows given up because the disk did not take them for too long.
    """

    def __init__(self, path: Path, *, live: Path, readings: bool = False, hop_seconds: float = HOP_SECONDS) -> None:
        self.path = path
        self.dropped = 0
        self._live = live
        self._readings = readings
        self._hop_seconds = hop_seconds
        self._db: sqlite3.Connection | None = None
        self._lock_fd = -1
        self._open_minutes: dict[_Source, OpenMinute] = {}
        self._pending: deque[_Row] = deque(maxlen=MAX_PENDING_ROWS)
        self._numbers: dict[_Source, int] = {}
        self._changed = False  # since the last commit

    def add(self, event: Event, line: bytes) -> bool:
        """Takes an event with its JSON. Returns True when it should be committed at once."""
        self._changed = True
        if isinstance(event, Reading):
            self._add_reading(event, line)
        elif isinstance(event, Episode):
            started = epoch_seconds(event.ts) - (0.0 if event.phase is Phase.START else event.duration_s)
            ended = started + event.duration_s if event.phase is Phase.END else None
            values = (
                event.id,
                started,
                ended,
                event.level.value,
                event.peak,
                event.mean,
                event.duration_s,
                event.model,
            )
            self._keep(_EPISODE, (event.node, event.source), values)
            return event.phase is not Phase.UPDATE
        elif isinstance(event, Health):
            change = (epoch_seconds(event.ts), event.state.value, event.detail)
            self._keep(_HEALTH, (event.node, event.source), change)
        return False

    def commit(self) -> None:
        """Writes all rows in one transaction, and waits until they are on the disk.

        Minutes that are not over are among them; a later commit completes them.

        Raises:
            DamagedHistoryError: the file is damaged: call `set_aside`.
            HistoryError: the file is not a history, or of a newer version, or another process writes it.
            OSError: it cannot be made or read.
            sqlite3.Error: it cannot be written. The rows are kept.
        """
        if not self._changed and self._db is not None:
            return
        unfinished = [(_MINUTE, source, minute.row()) for source, minute in self._open_minutes.items()]
        try:
            db = self._connect()
            db.execute("BEGIN IMMEDIATE")
            try:
                for sql, source, values in (*self._pending, *unfinished):
                    db.execute(sql, (self._number(db, source), *values))
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                self._numbers.clear()  # some may have been made in this transaction
                raise
        except sqlite3.Error as error:
            self._disconnect()
            if is_damage(error):
                raise DamagedHistoryError(f"{self.path}: the history file is damaged ({error})") from None
            raise
        self._pending.clear()
        self._changed = False

    def prune(self, *, keep_days: int, max_bytes: int) -> None:
        """Deletes rows older than `keep_days`, and the oldest days while the file is larger than `max_bytes`.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        db = self._connect()
        try:
            self._delete_before(db, time.time() - keep_days * DAY_SECONDS)
            while _used_bytes(db) > max_bytes:
                oldest = _oldest(db)
                if oldest is None:
                    break
                self._delete_before(db, (oldest // DAY_SECONDS + 1) * DAY_SECONDS)
            while db.execute("PRAGMA freelist_count").fetchone()[0]:
                db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            self._disconnect()
            if is_damage(error):
                raise DamagedHistoryError(f"{self.path}: the history file is damaged ({error})") from None
            raise

    def set_aside(self) -> Path:
        """Renames a damaged file, in place of one set aside before, and returns the new name.

        Raises:
            OSError: the file cannot be renamed.
        """
        self._disconnect()
        aside = self.path.with_name(f"{self.path.name}.damaged")
        for suffix in SUFFIXES:
            with suppress(FileNotFoundError):
                os.replace(f"{self.path}{suffix}", f"{aside}{suffix}")
        return aside

    def close(self) -> None:
        """Closes the file, and lets other processes write it."""
        self._disconnect()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _add_reading(self, reading: Reading, line: bytes) -> None:
        source, ts = (reading.node, reading.source), epoch_seconds(reading.ts)
        minute = self._open_minutes.get(source)
        if minute is None or minute.minute != start_of_minute(ts):
            if minute is not None:
                self._keep(_MINUTE, source, minute.row())
            minute = self._open_minutes[source] = OpenMinute(start_of_minute(ts), self._hop_seconds)
        minute.add(reading)
        if self._readings:
            self._keep(_READING, source, (ts, line.decode()))

    def _keep(self, sql: str, source: _Source, values: Sequence[Any]) -> None:
        self.dropped += len(self._pending) == MAX_PENDING_ROWS
        self._pending.append((sql, source, values))

    def _number(self, db: sqlite3.Connection, source: _Source) -> int:
        if source not in self._numbers:
            db.execute("INSERT OR IGNORE INTO sources (node, source) VALUES (?, ?)", source)
            row = db.execute("SELECT id FROM sources WHERE node = ? AND source = ?", source).fetchone()
            self._numbers[source] = row[0]
        return self._numbers[source]

    def _connect(self) -> sqlite3.Connection:
        if self._db is not None:
            return self._db
        make_private_below_state(self.path.parent)
        self._lock()
        exists = check_file(self.path)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))  # for its owner alone
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            if not exists or not db.execute("PRAGMA user_version").fetchone()[0]:
                if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    raise foreign(self.path)
                create(db)
            upgrade(db)
            db.execute("PRAGMA journal_mode = WAL").fetchone()
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}").fetchone()
            db.execute("INSERT OR REPLACE INTO facts VALUES ('live', ?)", (str(self._live),))
            # Of a process that was killed: an episode ends with the program.
            db.execute("UPDATE episodes SET ended = started + duration_s WHERE ended IS NULL")
        except BaseException:
            db.close()
            raise
        self._db = db
        return db

    def _lock(self) -> None:
        if self._lock_fd >= 0:
            return
        descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise HistoryError(
                f"{self.path}: another edge-sser writes this history: stop it, or give each a path of its own"
            ) from None
        self._lock_fd = descriptor

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        self._numbers.clear()
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    def _delete_before(self, db: sqlite3.Connection, ts: float) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            numbers = [number for (number,) in db.execute("SELECT id FROM sources")]
            for table, column in _TABLES:
                for number in numbers:
                    db.execute(f"DELETE FROM {table} WHERE source_id = ? AND {column} < ?", (number, ts))  # noqa: S608
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise


def _used_bytes(db: sqlite3.Connection) -> int:
    size, pages, free = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return int(size * (pages - free))


def _oldest(db: sqlite3.Connection) -> float | None:
    """Returns the time of the oldest row, unix seconds."""
    numbers = [number for (number,) in db.execute("SELECT id FROM sources")]
    found = [
        db.execute(f"SELECT min({column}) FROM {table} WHERE source_id = ?", (number,)).fetchone()[0]  # noqa: S608
        for table, column in _TABLES
        for number in numbers
    ]
    return min((ts for ts in found if ts is not None), default=None)
