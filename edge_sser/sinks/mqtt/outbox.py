"""Queue of events on disk until the broker has acknowledged them.

`put` is one durable transaction: its records survive a crash and a power cut. Episodes are a few a minute at most, so
that flushing each of them costs little time and flash wear. `remove` is not flushed: when a power cut undoes it, an
event is sent twice, which subscribers recognise by its number.

A file that cannot be written (disk full, read-only, locked by another process) stops nothing: events stay in memory,
`fault` says why, and the file is retried from time to time. A damaged file is replaced, in one step, by one with its
readable rows. Numbers that cannot be stored, or that a power cut may have taken back, belong to a new stream, so that
no number is ever used twice.

An outbox belongs to one thread and may wait for the disk.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from uuid import uuid4

from edge_sser.sinks.mqtt.outbox_destination import open_outbox, waiting_text
from edge_sser.sinks.mqtt.outbox_file import Entry, Key, OutboxFile, Record, is_damage
from edge_sser.sinks.mqtt.outbox_mark import OutboxMark
from edge_sser.sinks.mqtt.outbox_rescue import finish_rescue, rescue

log = logging.getLogger("edge_sser.outbox")

MEMORY_BYTES = 4 * 2**20  # limit while the disk fails
RETRY_SECONDS = 10.0  # between attempts to use a disk that failed

__all__ = ["Entry", "Key", "Outbox", "Record"]


class Outbox:
    """A queue of records on disk, in the order of `put`.

    Args:
        path: the file; its directory is created, readable by its owner only.
        destination: broker and node that the events are for, in words; empty for an outbox of any.
        max_bytes: limit, beyond which the oldest entries are dropped and counted in `lost`.
        clock: monotonic seconds.
        retry_seconds: between attempts to use a disk that failed; RETRY_SECONDS when not given.

    Attributes:
        fault: why events are in memory only, for a person; None when the file works.
        lost: entries dropped for lack of space or by damage, since the file was created.
        damaged: damaged files renamed by this object.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        destination: str = "",
        clock: Callable[[], float] = time.monotonic,
        retry_seconds: float | None = None,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._destination = destination
        self._clock = clock
        self._retry_seconds = RETRY_SECONDS if retry_seconds is None else retry_seconds
        self._mark_path = path.with_name("outbox.mark")
        self._mark = OutboxMark(self._mark_path)
        self._file: OutboxFile | None = None
        self._memory: list[Entry] = []
        self._removed: dict[Key, Entry] = {}  # acknowledged, but still in a file that cannot be written
        self._stream = ""
        self._last: Counter[str] = Counter()
        self._damage: Exception | None = None  # the error that showed damage of the file's content
        self._retry_at = 0.0
        self.fault: str | None = None
        self.lost = 0
        self.damaged = 0
        self._recover()

    @property
    def depth(self) -> int:
        """Number of entries without an acknowledgement."""
        return (self._file.depth if self._file else 0) - len(self._removed) + len(self._memory)

    @property
    def waiting(self) -> str:
        """Entries without an acknowledgement, for a person; empty without any, or while the file fails."""
        if not self.depth or self.fault is not None:
            return ""
        recipient = f" for {self._destination}" if self._destination else ""
        return f"outbox {self._path}: {waiting_text(self.depth)}{recipient}"

    @property
    def size_bytes(self) -> int:
        """Approximate size of the entries."""
        return (self._file.size_bytes if self._file else 0) + sum(entry.size_bytes for entry in self._memory)

    @property
    def retry_in(self) -> float | None:
        """Seconds until `retry_if_due` retries the file; None without a fault."""
        return None if self.fault is None else max(0.0, self._retry_at - self._clock())

    def put(self, records: Sequence[Record]) -> None:
        """Appends records. They are on disk when this returns, unless `fault` is set."""
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
        self._drop_oldest()
        self.retry_if_due()

    def remove(self, entries: Iterable[Entry]) -> None:
        """Removes entries that the broker has acknowledged."""
        removed = {entry.key: entry for entry in entries}
        in_memory = {entry.key for entry in self._memory}
        self._memory = [entry for entry in self._memory if entry.key not in removed]
        removed = {key: entry for key, entry in removed.items() if key not in in_memory}
        if not removed:
            return
        if self._file is not None and self.fault is None:
            try:
                self._commit(drop=removed.values(), durable=False)
                return
            except sqlite3.Error as error:
                self._fail(error)
        self._removed.update(removed)
        self.retry_if_due()

    def give_up(self, entries: Sequence[Entry]) -> None:
        """Removes entries that no broker will ever take, and counts them as lost."""
        self.lost += len(entries)
        self.remove(entries)

    def pending(self, limit: int, *, skip: Collection[Key] = (), skip_topics: Collection[str] = ()) -> list[Entry]:
        """Returns the oldest entries, in order, without those of `skip` (such as those in flight) and `skip_topics`."""
        found: list[Entry] = []
        try:
            for entry in self._file.rows(skip_topics) if self._file is not None else ():
                if len(found) >= limit:
                    return found
                if entry.key not in skip and entry.key not in self._removed:
                    found.append(entry)
        except sqlite3.Error as error:
            self._fail(error)
            self.retry_if_due()
            return []  # the next call returns the entries that could be saved, in order
        for entry in self._memory:
            if len(found) < limit and entry.key not in skip and entry.record.topic not in skip_topics:
                found.append(entry)
        return found

    def retry_if_due(self) -> None:
        """Retries a file that failed, when it is time."""
        if self.fault is not None and self._clock() >= self._retry_at:
            self._recover()

    def close(self) -> None:
        """Closes the file, which keeps its entries. Entries that never got there are counted and logged."""
        if self._memory:
            self._retry_at = self._clock()
            self.retry_if_due()
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

    def _drop_oldest(self) -> None:
        limit = min(self._max_bytes, MEMORY_BYTES)
        size = sum(entry.size_bytes for entry in self._memory)
        while self._memory and size > limit:
            size -= self._memory.pop(0).size_bytes
            self.lost += 1

    def _commit(self, *, add: Sequence[Entry] = (), drop: Collection[Entry] = (), durable: bool) -> None:
        assert self._file is not None
        self.lost += self._file.commit(
            add=add, drop=drop, last=self._last, lost=self.lost, max_bytes=self._max_bytes, durable=durable
        )
        if durable:
            self._mark.write(self._file.puts, self._stream)

    def _fail(self, error: Exception) -> None:
        """Continues in memory, with numbers of a new stream."""
        if self.fault is None:
            self._stream, self._last = uuid4().hex[:8], Counter()
            log.warning("outbox %s: %s; events are kept in memory until it works again", self._path, _reason(error))
        self.fault = _reason(error)
        self._damage = error if is_damage(error) else None
        self._retry_at = self._clock() + (0.0 if self._damage else self._retry_seconds)

    def _recover(self) -> None:
        """Opens the file, for the first time or again, and moves the entries in memory to it."""
        try:
            self._open()
            self._commit(add=self._memory, drop=self._removed.values(), durable=True)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
            return
        self._memory, self._removed = [], {}
        if self.fault is not None:
            log.warning("outbox %s works again", self._path)
            self.fault = None

    def _open(self) -> None:
        before = self._file
        self._release()
        if self._damage is not None:
            self._rescue(self._damage, before)
        finish_rescue(self._path)
        try:
            self._file = open_outbox(self._path, self._destination, self._mark_path)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            self._rescue(error, before)
            self._file = open_outbox(self._path, self._destination, self._mark_path)
        self.lost = max(self.lost, self._file.lost)
        if not self._stream:
            self._continue_stream(self._file)

    def _continue_stream(self, file: OutboxFile) -> None:
        """Continues the numbers of the file, or begins a new stream when some of them may be in use already."""
        missing = self._mark.missing(file.puts, file.stream)
        if file.stream and missing == 0:
            self._stream, self._last = file.stream, file.last.copy()
            return
        self._stream, self._last = uuid4().hex[:8], Counter()
        if missing:
            log.warning(
                "outbox %s: its newest changes are missing, as after a power cut: %d events, unless they were sent "
                "before; numbers begin again in a new stream",
                *(self._path, missing),
            )
        elif file.stream:
            log.info("outbox %s: numbers begin in a new stream, as after each start of the machine", self._path)

    def _rescue(self, error: Exception, before: OutboxFile | None) -> None:
        """Replaces a damaged file by one with its readable entries; `before` knows it as it was, if it was open."""
        depth, destination = (before.depth, before.destination) if before is not None else (0, "")
        known = {entry.key for entry in self._memory} | self._removed.keys()
        saved = rescue(self._path, known=known, lost=self.lost, max_bytes=self._max_bytes, destination=destination)
        self._damage = None
        self.damaged += 1
        self.lost += max(0, depth - saved)
        log.warning(
            "outbox %s was damaged (%s): %d events saved, the file moved to %s.damaged",
            *(self._path, error, saved, self._path.name),
        )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror or error}"
    text = str(error)
    return "in use by another edge-sser" if "locked" in text else text
