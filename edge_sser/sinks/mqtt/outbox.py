"""Events that wait on disk until the broker has acknowledged them.

What `put` has returned for survives a crash and a power cut: it is one durable transaction. Episodes are a few a minute
at most, so that flushing each to the medium costs neither time nor flash wear worth saving. `remove` is not flushed:
when a power cut undoes it, an event is sent twice, which subscribers can tell by its number.

A file that cannot be written (disk full, read-only, held by another process) stops nothing: events are kept in memory,
`fault` says why, and the file is tried again from time to time. A damaged file is moved aside, what can be read of it
is kept, and a new one is begun. While numbers cannot be written down they run in a new stream, so that no number is
ever given twice, whatever is forgotten.

An outbox belongs to one thread and may wait for the disk.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from edge_sser.sinks.mqtt.outbox_file import Entry, Key, OutboxFile, Record, is_damage, salvage

log = logging.getLogger("edge_sser.outbox")

MEMORY_BYTES = 4 * 2**20  # kept at most while the disk fails
RETRY_SECONDS = 10.0  # between attempts to use a disk that failed

__all__ = ["Entry", "Key", "Outbox", "Record"]


class Outbox:
    """A queue of records on disk, in the order they were put.

    Args:
        path: the file; its directory is made, readable by its owner only.
        max_bytes: beyond it the oldest entries go and are counted in `lost`.
        clock: seconds, monotonic.
        retry_seconds: between attempts to use a disk that failed; RETRY_SECONDS when not given.

    Attributes:
        fault: why events are in memory only, for a person; None when the file works.
        lost: entries dropped for want of room or to damage, since the file was begun.
        damaged: how often this object moved a damaged file aside.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        retry_seconds: float | None = None,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._clock = clock
        self._retry_seconds = RETRY_SECONDS if retry_seconds is None else retry_seconds
        self._file: OutboxFile | None = None
        self._memory: list[Entry] = []
        self._gone: dict[Key, Entry] = {}  # acknowledged, but still in a file that cannot be written
        self._stream = ""
        self._last: Counter[str] = Counter()
        self._damage: Exception | None = None  # what is wrong with the content of the file
        self._retry_at = 0.0
        self.fault: str | None = None
        self.lost = 0
        self.damaged = 0
        self._recover()

    @property
    def depth(self) -> int:
        """Entries that wait for an acknowledgement."""
        return (self._file.depth if self._file else 0) - len(self._gone) + len(self._memory)

    @property
    def size_bytes(self) -> int:
        """What they take, about."""
        return (self._file.size_bytes if self._file else 0) + sum(entry.size_bytes for entry in self._memory)

    @property
    def retry_in(self) -> float | None:
        """Seconds until `tend` has something to do; None when it has not."""
        return None if self.fault is None else max(0.0, self._retry_at - self._clock())

    def put(self, records: Sequence[Record]) -> None:
        """Takes records, in order. They are on disk when this returns, unless `fault` says otherwise."""
        if not records:
            return
        if self._file is not None and self.fault is None:
            last = self._last.copy()
            try:
                self._commit(add=self._number(records), durable=True)
                return
            except sqlite3.Error as error:
                self._last = last
                self._fail(error)
        self._memory += self._number(records)
        self._bound_memory()
        self.tend()

    def remove(self, entries: Iterable[Entry]) -> None:
        """Forgets entries that the broker has acknowledged."""
        gone = {entry.key: entry for entry in entries}
        held = {entry.key for entry in self._memory}
        self._memory = [entry for entry in self._memory if entry.key not in gone]
        gone = {key: entry for key, entry in gone.items() if key not in held}
        if not gone:
            return
        if self._file is not None and self.fault is None:
            try:
                self._commit(drop=gone.values(), durable=False)
                return
            except sqlite3.Error as error:
                self._fail(error)
        self._gone.update(gone)
        self.tend()

    def waiting(self, limit: int, *, skip: Collection[Key] = (), skip_topics: Collection[str] = ()) -> list[Entry]:
        """The oldest entries, in order.

        Args:
            limit: how many at most.
            skip: entries to leave out: those in flight, for example.
            skip_topics: topics to leave out.
        """
        found: list[Entry] = []
        try:
            for entry in self._file.rows(skip_topics) if self._file is not None else ():
                if len(found) >= limit:
                    return found
                if entry.key not in skip and entry.key not in self._gone:
                    found.append(entry)
        except sqlite3.Error as error:
            self._fail(error)
            self.tend()
            return []  # what could be saved is there, in order, the next time
        for entry in self._memory:
            if len(found) < limit and entry.key not in skip and entry.record.topic not in skip_topics:
                found.append(entry)
        return found

    def tend(self) -> None:
        """Tries a disk that failed again, when it is time."""
        if self.fault is not None and self._clock() >= self._retry_at:
            self._recover()

    def close(self) -> None:
        """Releases the file. What is in it stays there; what never got there is counted and told of."""
        if self._memory:
            self._retry_at = self._clock()
            self.tend()
        if self._memory:
            self.lost += len(self._memory)
            log.error("outbox %s: %s; %d events were lost with it", self._path, self.fault, len(self._memory))
            self._memory = []
        self._release()

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _number(self, records: Sequence[Record]) -> list[Entry]:
        entries = []
        for record in records:
            self._last[record.topic] += 1
            entries.append(Entry(self._stream, self._last[record.topic], record))
        return entries

    def _bound_memory(self) -> None:
        room = min(self._max_bytes, MEMORY_BYTES)
        size = sum(entry.size_bytes for entry in self._memory)
        while self._memory and size > room:
            size -= self._memory.pop(0).size_bytes
            self.lost += 1

    def _commit(self, *, add: Sequence[Entry] = (), drop: Collection[Entry] = (), durable: bool) -> None:
        assert self._file is not None
        self.lost += self._file.commit(
            add=add, drop=drop, last=self._last, lost=self.lost, max_bytes=self._max_bytes, durable=durable
        )

    def _fail(self, error: Exception) -> None:
        """Goes on in memory, with numbers that no file has given."""
        if self.fault is None:
            self._stream, self._last = uuid4().hex[:8], Counter()
            log.warning("outbox %s: %s; events are kept in memory until it works again", self._path, _why(error))
        self.fault = _why(error)
        self._damage = error if is_damage(error) else None
        self._retry_at = self._clock() + (0.0 if self._damage else self._retry_seconds)

    def _recover(self) -> None:
        """Opens the file, for the first time or again, and moves what is in memory to it."""
        try:
            self._open()
            self._commit(add=self._memory, drop=self._gone.values(), durable=True)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            return
        self._memory, self._gone = [], {}
        if self.fault is not None:
            log.warning("outbox %s works again", self._path)
            self.fault = None

    def _open(self) -> None:
        depth = self._file.depth if self._file is not None else 0
        self._release()
        if self._damage is not None:
            self._set_aside(self._damage, depth)
        try:
            self._file = OutboxFile(self._path)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self._set_aside(error, depth)
            self._file = OutboxFile(self._path)
        self.lost = max(self.lost, self._file.lost)
        if not self._stream:  # the first time: numbering goes on where the file says it stopped
            self._stream, self._last = self._file.stream or uuid4().hex[:8], self._file.last.copy()

    def _set_aside(self, error: Exception, depth: int) -> None:
        """Moves a damaged file out of the way; its sound entries go to memory, before those put since."""
        saved = salvage(self._path)
        aside = self._path.with_name(self._path.name + ".damaged")  # one at most, so that they cannot pile up
        os.replace(self._path, aside)
        for suffix in ("-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                os.unlink(self._path.with_name(self._path.name + suffix))
        held = {entry.key for entry in self._memory} | self._gone.keys()
        self._memory = [entry for entry in saved if entry.key not in held] + self._memory
        self._damage = None
        self.damaged += 1
        self.lost += max(0, depth - len(saved))
        log.warning(
            "outbox %s was damaged (%s): %d events saved, the file moved to %s", self._path, error, len(saved), aside
        )


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error}"
    text = str(error)
    return "in use by another edge-sser" if "locked" in text else text
