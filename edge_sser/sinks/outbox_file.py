"""The SQLite file under the outbox: rows in order, each with a checksum, changed in whole transactions.

WAL mode. A durable commit runs under `synchronous=FULL`, which flushes the log to the medium before it returns: it
survives a power cut. The file is locked for this process alone, which also spares the shared-memory file of WAL.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1  # PRAGMA user_version of the file
ROW_BYTES = 64  # what a row takes beyond its topic and payload, about

_CREATE = (
    "CREATE TABLE event (n INTEGER PRIMARY KEY, stream TEXT, topic TEXT, seq INTEGER, payload BLOB, retain INTEGER,"
    " crc INTEGER)",
    "CREATE UNIQUE INDEX event_key ON event (stream, topic, seq)",
    "CREATE TABLE topic (name TEXT PRIMARY KEY, last INTEGER)",
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value)",
    f"PRAGMA user_version = {SCHEMA}",
)
_COLUMNS = "stream, topic, seq, payload, retain, crc"
_SIZE = f"length(CAST(topic AS BLOB)) + length(payload) + {ROW_BYTES}"

Key = tuple[str, str, int]


class DamagedError(sqlite3.DatabaseError):
    """The file is a database, but not a sound outbox."""


@dataclass(frozen=True, slots=True)
class Record:
    """Something to publish with QoS 1."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with its number.

    Attributes:
        stream: eight hexadecimal digits; a new one whenever numbering had to start over. Within a stream and topic
            `seq` is 1, 2, 3, … without a gap.
    """

    stream: str
    seq: int
    record: Record

    @property
    def key(self) -> Key:
        """What tells this entry from every other one, ever."""
        return (self.stream, self.record.topic, self.seq)

    @property
    def size_bytes(self) -> int:
        """What it counts against the outbox's bound."""
        return len(self.record.topic.encode()) + len(self.record.payload) + ROW_BYTES

    @property
    def crc(self) -> int:
        """CRC-32 of everything that a subscriber would see."""
        head = f"{self.stream}\n{self.record.topic}\n{self.seq}\n{int(self.record.retain)}\n"
        return zlib.crc32(head.encode() + self.record.payload)


class OutboxFile:
    """An open file. Any method can raise sqlite3.Error; `is_damage` tells what the error means.

    Args:
        path: made when missing, together with its directory, readable by its owner only.

    Attributes:
        stream: of the newest entry ever put; empty in a new file.
        last: the newest `seq` of each topic in that stream.
        lost: entries dropped since the file was begun.
        depth: rows.
        size_bytes: sum of their sizes.

    Raises:
        OSError: the directory or file cannot be made.
        sqlite3.Error: it cannot be read or written, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, timeout=0.2)
        try:
            self._prepare()
            self._load()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version == 0 and tables == 0:
            db.execute("PRAGMA auto_vacuum = FULL")  # a backlog that is gone gives its room on the disk back
            db.execute("PRAGMA journal_mode = WAL")
            with self._transaction(durable=True):
                for statement in _CREATE:
                    db.execute(statement)
        elif version != SCHEMA:
            raise DamagedError(f"schema {version} instead of {SCHEMA}")
        else:
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA wal_autocheckpoint = 256")
        db.execute("PRAGMA journal_size_limit = 1048576")
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise DamagedError(verdict)

    def _load(self) -> None:
        try:
            facts: dict[str, Any] = dict(self._db.execute("SELECT name, value FROM fact"))
            self.stream = str(facts.get("stream", ""))
            self.lost = int(facts.get("lost", 0))
            self.last: Counter[str] = Counter(
                {str(name): int(last) for name, last in self._db.execute("SELECT name, last FROM topic")}
            )
            depth, size = self._db.execute(f"SELECT count(*), total({_SIZE}) FROM event").fetchone()  # noqa: S608
            self._db.execute(f"SELECT {_COLUMNS} FROM event LIMIT 1").fetchone()  # noqa: S608
        except (ValueError, TypeError) as error:
            raise DamagedError(str(error)) from None
        except sqlite3.OperationalError as error:
            if "no such" in str(error):
                raise DamagedError(str(error)) from None
            raise
        if any(not 0 <= last < 2**53 for last in self.last.values()):
            raise DamagedError("a number is out of range")
        self.depth = int(depth)
        self.size_bytes = int(size)

    def commit(
        self,
        *,
        add: Sequence[Entry] = (),
        drop: Collection[Entry] = (),
        last: Mapping[str, int] | None = None,
        lost: int,
        max_bytes: int,
        durable: bool,
    ) -> int:
        """Changes the file as a whole or not at all.

        Args:
            add: new entries, in order.
            drop: entries to delete; those that are not there do not matter.
            last: the newest number of each topic in the stream of `add`.
            lost: entries lost so far, for the next run to know.
            max_bytes: when the rows take more, the oldest are deleted.
            durable: whether the change must survive a power cut.

        Returns:
            How many entries had to go because of `max_bytes`.
        """
        depth, size, evicted = self.depth, self.size_bytes, 0
        with self._transaction(durable=durable) as db:
            for entry in drop:
                if db.execute("DELETE FROM event WHERE stream = ? AND topic = ? AND seq = ?", entry.key).rowcount:
                    depth, size = depth - 1, size - entry.size_bytes
            for entry in add:
                record = entry.record
                values = (entry.stream, record.topic, entry.seq, record.payload, int(record.retain), entry.crc)
                if db.execute(f"INSERT OR IGNORE INTO event ({_COLUMNS}) VALUES (?,?,?,?,?,?)", values).rowcount:  # noqa: S608
                    depth, size = depth + 1, size + entry.size_bytes
            if add and last is not None:
                if add[-1].stream != self.stream:
                    db.execute("DELETE FROM topic")
                    db.execute("INSERT OR REPLACE INTO fact VALUES ('stream', ?)", (add[-1].stream,))
                db.executemany("INSERT OR REPLACE INTO topic VALUES (?, ?)", last.items())
            while size > max_bytes:
                row = db.execute(f"SELECT n, {_SIZE} FROM event ORDER BY n LIMIT 1").fetchone()  # noqa: S608
                if row is None or row[1] is None:
                    raise DamagedError("the rows do not add up")
                db.execute("DELETE FROM event WHERE n = ?", (row[0],))
                depth, size, evicted = depth - 1, size - row[1], evicted + 1
            if lost + evicted != self.lost:
                db.execute("INSERT OR REPLACE INTO fact VALUES ('lost', ?)", (lost + evicted,))
        self.depth, self.size_bytes, self.lost = depth, size, lost + evicted
        if add and last is not None:
            self.stream, self.last = add[-1].stream, Counter(last)
        return evicted

    def rows(self, skip_topics: Collection[str] = ()) -> Iterator[Entry]:
        """The entries, oldest first.

        Raises:
            DamagedError: a row's checksum is wrong.
        """
        marks = ",".join("?" * len(skip_topics))
        query = f"SELECT {_COLUMNS} FROM event WHERE topic NOT IN ({marks}) ORDER BY n"  # noqa: S608
        with closing(self._db.execute(query, tuple(skip_topics))) as cursor:
            for row in cursor:
                entry = _sound(row)
                if entry is None:
                    raise DamagedError("a row is damaged")
                yield entry

    def close(self) -> None:
        """Releases the file."""
        with suppress(sqlite3.Error):
            self._db.close()

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                self._db.execute("ROLLBACK")
            raise


def is_damage(error: Exception) -> bool:
    """Whether an error means that the content of the file is wrong, rather than that it cannot be reached or written.

    Python raises plain DatabaseError for SQLITE_CORRUPT and SQLITE_NOTADB, OperationalError for troubles of the disk.
    """
    if isinstance(error, sqlite3.OperationalError):
        return "decode to UTF-8" in str(error)
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError)


def salvage(path: Path) -> list[Entry]:
    """Every row of a damaged file that can still be read and whose checksum is right, in order."""
    entries: list[Entry] = []
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, isolation_level=None, timeout=0.2)) as db:
        for row in db.execute(f"SELECT {_COLUMNS} FROM event ORDER BY n"):  # noqa: S608
            entry = _sound(row)
            if entry is not None:
                entries.append(entry)
    return entries


def _sound(row: tuple[Any, ...]) -> Entry | None:
    """The entry of a row, or None when its values are not what was stored."""
    stream, topic, seq, payload, retain, crc = row
    if not (isinstance(stream, str) and isinstance(topic, str) and isinstance(payload, bytes)):
        return None
    if not (isinstance(seq, int) and retain in (0, 1)):
        return None
    entry = Entry(stream, seq, Record(topic, payload, bool(retain)))
    return entry if entry.crc == crc else None
