"""Events in the history file on this device, and the newest of them in the live file.

A thread writes both, because a disk can hang and `emit` must not. The live file is replaced twice a second, the history
once a minute, and at once for the start and the end of an episode. A disk that is full, or a file that cannot be used,
is told and tried again; listening goes on. A damaged file is set aside and a new one begun.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from typing import Final

from edge_sser.errors import HistoryError, SinkError, short
from edge_sser.events import Event, Status
from edge_sser.history.live import HEARTBEAT_SECONDS, WRITE_SECONDS, LiveFile, live_path
from edge_sser.history.minutes import HOP_SECONDS
from edge_sser.history.schema import DamagedHistoryError
from edge_sser.history.writer import HistoryWriter
from edge_sser.settings.sinks import HistorySettings
from edge_sser.sinks.base import Sink

log = logging.getLogger("edge_sser.history")

MAX_QUEUED_EVENTS: Final = 10_000  # for a disk that does not answer, before the oldest go
COMMIT_SECONDS: Final = 60.0  # between two transactions, beside those of episodes
PRUNE_SECONDS: Final = 3600.0  # between two deletions of what is old
CLOSE_SECONDS: Final = 3.0  # for a slow disk to take the last rows
MEGABYTE: Final = 1_000_000
REMEDY: Final = "make room, or set history.path to a place that this user may write"


class HistorySink(Sink):
    """Writes every event into the history.

    Args:
        settings: with an absolute path.
        hop_seconds: between two readings.
        commit_seconds: between two transactions, and between attempts to write to a disk that failed.

    Attributes:
        fault: why nothing can be written at present, for a person; empty without a fault.
    """

    def __init__(
        self, settings: HistorySettings, *, hop_seconds: float = HOP_SECONDS, commit_seconds: float = COMMIT_SECONDS
    ) -> None:
        self._settings = settings
        self._commit_seconds = commit_seconds
        live = live_path(settings.path)
        self._live = LiveFile(live)
        self._live_works = True
        self._writer = HistoryWriter(settings.path, live=live, readings=settings.readings, hop_seconds=hop_seconds)
        self._queue: deque[tuple[Event, bytes]] = deque(maxlen=MAX_QUEUED_EVENTS)
        self._stop = threading.Event()
        self.fault = ""
        self._thread = threading.Thread(target=self._run, name="edge-sser-history", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """The fault in a sentence; empty without one."""
        fault = self.fault
        return f"the history cannot be written: {fault}" if fault else ""

    def emit(self, event: Event, line: bytes) -> None:
        """Queues an event; never waits.

        Raises:
            SinkError: the sink is closed.
        """
        if self._stop.is_set():
            raise SinkError("the history is closed")
        if not isinstance(event, Status):
            self._queue.append((event, line))

    def close(self) -> None:
        """Writes the queued events, also of the minute that is not over, and closes the file. Safe to call twice."""
        self._stop.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        next_commit = next_prune = 0.0  # at once: readers and faults should not wait a minute for the first
        next_live = 0.0
        stopping = False
        while not stopping:
            stopping = self._stop.wait(WRITE_SECONDS)
            now = time.monotonic()
            new, urgent = self._take_queued()
            if new or now >= next_live:
                self._write_live()
                next_live = now + HEARTBEAT_SECONDS
            if now >= next_commit or stopping or (urgent and not self.fault):
                prune = now >= next_prune and not stopping
                if self._commit(prune=prune) and prune:
                    next_prune = now + PRUNE_SECONDS
                next_commit = now + self._commit_seconds
        self._live.remove()
        self._writer.close()

    def _take_queued(self) -> tuple[bool, bool]:
        """Hands the queued events to the writer. Returns True when there were any, and when one is urgent."""
        new = urgent = False
        while self._queue:
            event, line = self._queue.popleft()
            self._live.add(event, line)
            urgent |= self._writer.add(event, line)
            new = True
        return new, urgent

    def _commit(self, *, prune: bool) -> bool:
        """Writes all rows. Returns True when they are on the disk."""
        try:
            try:
                self._write(prune=prune)
            except DamagedHistoryError as error:
                aside = self._writer.set_aside()
                log.warning("%s: kept as %s, and a new one begun", error, aside)
                self._write(prune=prune)
        except (HistoryError, OSError, sqlite3.Error) as error:
            self._fail(error)
            return False
        except Exception as error:  # a defect must end neither the thread nor listening
            log.debug("history", exc_info=True)
            self._fail(error)
            return False
        if self.fault:
            log.warning("history %s: written again", self._settings.path)
            self.fault = ""
        return True

    def _write(self, *, prune: bool) -> None:
        self._writer.commit()
        if prune:
            self._writer.prune(keep_days=self._settings.keep_days, max_bytes=self._settings.max_mb * MEGABYTE)

    def _fail(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, HistoryError) else f"{self._settings.path}: {_reason(error)}: {REMEDY}"
        if not self.fault:
            log.warning("the history cannot be written: %s; trying again", reason)
        self.fault = reason

    def _write_live(self) -> None:
        try:
            self._live.write(time.time())
        except OSError as error:
            if self._live_works:
                log.warning("live file %s: %s; programs that show live values wait", self._live.path, _reason(error))
            self._live_works = False
        else:
            self._live_works = True


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or short(error)
