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
from functools import partial
from pathlib import Path
from typing import Any

from edge_sser.files import make_folder

SCHEMA = 1  # PRAGMA user_version of the file
ROW_BYTES = 64  # of a row beside its topic and payload, about

_CREATE = (
    "CREATE TABLE event (n INTEGER PRIMARY KEY, stream TEXT, topic TEXT, seq INTEGER, payload BLOB, retain INTEGER,"
    " crc INTEGER)",
    "CREATE UNIQUE INDEX event_key ON event (stream, topic, seq)",
    "CREATE TABLE topic (name TEXT PRIMARY KEY, last INTEGER)",
    "CREATE TABLE fact (name TEXT PRIMARY KEY, value)",
    f"PRAGMA user_version = {SCHEMA}",
)
COLUMNS = "n, stream, topic, seq, payload, retain, crc"
_SIZE = f"length(CAST(topic AS BLOB)) + length(payload) + {ROW_BYTES}"
_IO_ERRORS = ("unable to open", "disk i/o", "full", "readonly", "locked", "locking", "interrupted", "file support")

Key = tuple[str, str, int]


class DamagedError(sqlite3.DatabaseError):
    """The file is a database, but not a valid outbox."""


@dataclass(frozen=True, slots=True)
class Record:
    """A message to publish with QoS 1."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A record with its number.

    Attributes:
        stream: eight hexadecimal digits; a new one whenever numbers had to restart. Within a stream and topic
            `seq` is 1, 2, 3, … without a gap.
    """

    stream: str
    seq: int
    record: Record

    @property
    def key(self) -> Key:
        """Unique key among all entries ever."""
        return (self.stream, self.record.topic, self.seq)

    @property
    def size_bytes(self) -> int:
        """Size as counted against the outbox's limit."""
        return len(self.record.topic.encode()) + len(self.record.payload) + ROW_BYTES

    def crc(self, n: int) -> int:
        """Returns the CRC-32 of row number and content."""
        head = f"{n}\n{self.stream}\n{self.record.topic}\n{self.seq}\n{int(self.record.retain)}\n"
        return zlib.crc32(head.encode() + self.record.payload)


class OutboxFile:
    """An open file. Any method can raise sqlite3.Error; `is_damage` classifies the error.

    Args:
        path: created when missing, together with its directory, readable by its owner only.

    Attributes:
        destination: broker and node that the entries are for, in words; empty when the file does not say.
        stream: of the newest entry ever put; empty in a new file.
        last: the newest `seq` of each topic in that stream.
        lost: entries dropped since the file was created.
        puts: entries ever put.
        depth: number of rows.
        size_bytes: sum of their sizes.

    Raises:
        OSError: the directory or file cannot be created.
        sqlite3.Error: the file cannot be read or written, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent, 0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._db = connect(path)
        try:
            with undecodable_is_damage():
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
            db.execute("PRAGMA auto_vacuum = FULL")  # the file shrinks when its backlog is delivered
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
            self.destination = str(facts.get("destination", ""))
            self.stream = str(facts.get("stream", ""))
            self.lost = int(facts.get("lost", 0))
            self.puts = int(facts.get("puts", 0))
            self.last: Counter[str] = Counter(
                {str(name): int(last) for name, last in self._db.execute("SELECT name, last FROM topic")}
            )
            measure = f"SELECT count(*), total({_SIZE}), max(n) FROM event"  # noqa: S608
            depth, size, number = self._db.execute(measure).fetchone()
            self._db.execute(f"SELECT {COLUMNS} FROM event LIMIT 1").fetchone()  # noqa: S608
        except (ValueError, TypeError) as error:
            raise DamagedError(str(error)) from None
        self._next = int(number or 0) + 1
        if any(not 0 <= value < 2**53 for value in (*self.last.values(), self._next, self.puts)):
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
        """Changes the file in one transaction.

        Args:
            add: new entries, in order.
            drop: entries to delete; missing ones are ignored.
            last: the newest number of each topic in the stream of `add`; None to leave the stream of the file.
            lost: entries lost so far, stored for the next run.
            max_bytes: size limit, beyond which the oldest rows are deleted.
            durable: True when the change must survive a power cut.

        Returns:
            The number of entries deleted because of `max_bytes`.
        """
        depth, size, number, evicted = self.depth, self.size_bytes, self._next, 0
        with self._transaction(durable=durable) as db:
            for entry in drop:
                if db.execute("DELETE FROM event WHERE stream = ? AND topic = ? AND seq = ?", entry.key).rowcount:
                    depth, size = depth - 1, size - entry.size_bytes
            for entry in add:
                record = entry.record
                values = (entry.stream, record.topic, entry.seq, record.payload, int(record.retain), entry.crc(number))
                db.execute(f"INSERT INTO event ({COLUMNS}) VALUES (?,?,?,?,?,?,?)", (number, *values))  # noqa: S608
                depth, size, number = depth + 1, size + entry.size_bytes, number + 1
            if add:
                db.execute("INSERT OR REPLACE INTO fact VALUES ('puts', ?)", (self.puts + len(add),))
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
        self.depth, self.size_bytes, self._next, self.lost = depth, size, number, lost + evicted
        self.puts += len(add)
        if add and last is not None:
            self.stream, self.last = add[-1].stream, Counter(last)
        return evicted

    def set_destination(self, destination: str) -> None:
        """Writes broker and node that the entries are for, in words."""
        with self._transaction(durable=True) as db:
            db.execute("INSERT OR REPLACE INTO fact VALUES ('destination', ?)", (destination,))
        self.destination = destination

    def rows(self, skip_topics: Collection[str] = ()) -> Iterator[Entry]:
        """Yields the entries, oldest first.

        Raises:
            DamagedError: a row's checksum is wrong.
        """
        marks = ",".join("?" * len(skip_topics))
        query = f"SELECT {COLUMNS} FROM event WHERE topic NOT IN ({marks}) ORDER BY n"  # noqa: S608
        with undecodable_is_damage(), closing(self._db.execute(query, tuple(skip_topics))) as cursor:
            before = 0
            for row in cursor:
                entry = valid_entry(row)
                if entry is None or row[0] <= before:
                    raise DamagedError("a row is damaged")
                before = row[0]
                yield entry

    def close(self) -> None:
        """Closes the file."""
        with suppress(sqlite3.Error):
            self._db.close()

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            with undecodable_is_damage():
                yield self._db
                self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
                self._db.execute("ROLLBACK")
            raise


def is_damage(error: Exception) -> bool:
    """Returns True when an error means damaged content, and not a file that cannot be reached or written.

    I/O errors are recognised by their text, since Python 3.10 does not give SQLite's error codes.
    """
    if isinstance(error, sqlite3.OperationalError):
        return not any(text in str(error).lower() for text in _IO_ERRORS)
    return isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError)


def log_path(path: Path) -> Path:
    """Returns the log of an outbox, which `OutboxFile.close` removes once all of it is in the file."""
    return path.with_name(path.name + "-wal")


def remove_log(path: Path) -> None:
    """Removes the log of an outbox, but not its file."""
    for log in (log_path(path), path.with_name(path.name + "-shm"), path.with_name(path.name + "-journal")):
        log.unlink(missing_ok=True)


def remove_outbox(path: Path) -> None:
    """Removes an outbox: first its log, which must not be applied to the next file of that name."""
    remove_log(path)
    path.unlink(missing_ok=True)


def connect(path: Path) -> sqlite3.Connection:
    """Opens the database of an outbox."""
    db = sqlite3.connect(path, isolation_level=None, timeout=0.2)
    db.text_factory = partial(str, encoding="utf-8", errors="replace")  # a checksum detects damaged rows, not an error
    return db


@contextmanager
def undecodable_is_damage() -> Iterator[None]:
    """Turns UnicodeDecodeError, from names and error messages that quote a damaged file, into DamagedError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DamagedError(str(error)) from None


def valid_entry(row: tuple[Any, ...]) -> Entry | None:
    """Returns the entry of a row, or None when its values are damaged."""
    n, stream, topic, seq, payload, retain, crc = row
    if not (isinstance(stream, str) and isinstance(topic, str) and isinstance(payload, bytes)):
        return None
    if not (isinstance(n, int) and isinstance(seq, int) and retain in (0, 1)):
        return None
    entry = Entry(stream, seq, Record(topic, payload, bool(retain)))
    return entry if entry.crc(n) == crc else None
