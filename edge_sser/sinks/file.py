"""Events as JSON Lines in a file with rotation: PATH, and older files as PATH.1, PATH.2 and so on.

A file that was moved or deleted, as by logrotate, is opened anew. A file that holds anything else is left as it is.

The file holds whole lines only: a line that did not fit on the disk is truncated away, and a line that a power cut left
unfinished is removed at the next start. A thread writes, because a disk can hang and `emit` must not. Events that
the disk does not take are dropped and counted.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path

from edge_sser.errors import SinkError
from edge_sser.events import Event
from edge_sser.files import make_private_below_state
from edge_sser.settings.sinks import FileSinkSettings
from edge_sser.sinks.base import Sink

REMEDY = "make room, or set file.path to a place that this user may write"

log = logging.getLogger("edge_sser.file")

MAX_QUEUED_LINES = 10_000  # for a disk that does not answer, before the oldest go
RETRY_SECONDS = 5.0  # between attempts to write to a disk that failed
CLOSE_SECONDS = 3.0  # for a slow disk to take the last lines
TAIL_BYTES = 65_536  # searched at most for the end of the last whole line
MODE = 0o640  # of a new file, whatever the umask: its group may collect events
EVENT_START = b'{"type":"'  # of every line
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC


class RotatingFileSink(Sink):
    """Appends every event to a file, and rotates before the size limit is passed.

    Args:
        settings: path, size limit, and number of older files.
        retry_seconds: between attempts to write to a disk that failed.

    Attributes:
        fault: why nothing can be written at present, for a person; None without a fault.
        dropped: events that never reached the file.

    Raises:
        SinkError: the file cannot be opened at the start, or it or an older one holds something else than events.
    """

    def __init__(self, settings: FileSinkSettings, *, retry_seconds: float = RETRY_SECONDS) -> None:
        self._settings = settings
        self._retry_seconds = retry_seconds
        self._queue: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._fd = -1
        self._size = 0
        self.fault: str | None = None
        self.dropped = 0
        try:
            for number in range(1, settings.keep + 1):
                check_event_file(_numbered(settings.path, number))
            self._open()
        except OSError as error:
            raise SinkError(f"the event file {settings.path} cannot be opened: {error.strerror}") from None
        self._thread = threading.Thread(target=self._run, name="edge-sser-file", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """The fault in a sentence; empty without one."""
        fault = self.fault
        return "" if fault is None else f"the event file cannot be written: {fault}"

    def emit(self, event: Event, line: bytes) -> None:
        """Queues an event; never waits.

        Raises:
            SinkError: the sink is closed.
        """
        if self._stop.is_set():
            raise SinkError("the event file is closed")
        with self._lock:
            if len(self._queue) >= MAX_QUEUED_LINES:
                self._queue.popleft()
                self.dropped += 1
            self._queue.append(line + b"\n")
        self._wake.set()

    def close(self) -> None:
        """Writes the queued lines and closes the file. Safe to call twice."""
        self._stop.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.is_set()
            self._write_queued()
            if not stopping and self.fault is None:
                self._wake.wait()
            elif not stopping:
                self._stop.wait(self._retry_seconds)
            self._wake.clear()
        self.dropped += len(self._queue)
        if self._fd >= 0:
            os.close(self._fd)

    def _write_queued(self) -> None:
        """Writes the queued lines, or as many as the disk takes."""
        while self._queue:
            with self._lock:
                line = self._queue.popleft()
            try:
                if self._fd >= 0 and self._moved():
                    os.close(self._fd)
                    self._fd = -1
                if self._fd < 0:
                    self._open()
                self._write(line)
            except OSError as error:
                with self._lock:
                    self._queue.appendleft(line)
                self._fail(error)
                return
            if self.fault is not None:
                log.warning("event file %s: written again", self._settings.path)
                self.fault = None

    def _write(self, line: bytes) -> None:
        if self._size and self._size + len(line) > self._settings.max_bytes:
            self._rotate()
        done = 0
        try:
            while done < len(line):
                done += os.write(self._fd, line[done:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)  # no half line stays behind
            raise
        self._size += len(line)

    def _moved(self) -> bool:
        """Returns True when the path no longer leads to the open file."""
        try:
            return not os.path.samestat(os.stat(self._settings.path), os.fstat(self._fd))
        except FileNotFoundError:
            return True

    def _rotate(self) -> None:
        path, keep = self._settings.path, self._settings.keep
        for number in range(keep, 0, -1):
            newer = path if number == 1 else _numbered(path, number - 1)
            with suppress(FileNotFoundError):
                os.replace(newer, _numbered(path, number))
        if keep == 0:
            path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1
        self._open()

    def _open(self) -> None:
        path = self._settings.path
        make_private_below_state(path.parent)
        check_event_file(path)
        try:
            self._fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, MODE)
            os.fchmod(self._fd, MODE)
        except FileExistsError:
            self._fd = os.open(path, _FLAGS | os.O_CREAT, MODE)  # a link may lead to a file that is not there yet
        size = os.fstat(self._fd).st_size
        start = max(0, size - TAIL_BYTES)
        tail = os.pread(self._fd, TAIL_BYTES, start)
        whole = start + tail.rfind(b"\n") + 1
        if size > whole and (tail.find(b"\n") >= 0 or start == 0):
            os.ftruncate(self._fd, whole)
            size = whole
        self._size = size

    def _fail(self, error: OSError) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1
        if self.fault is None:
            log.warning("event file %s: %s: %s; trying again", self._settings.path, error.strerror, REMEDY)
        self.fault = error.strerror or str(error)


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def check_event_file(path: Path) -> None:
    """Checks that a file holds events, or nothing.

    Raises:
        OSError: it holds something else, is no regular file, or cannot be read.
    """
    if not path.exists():
        return
    if not path.is_file():
        raise OSError(errno.EINVAL, "it is no file" if not path.is_dir() else "it is a folder")
    with path.open("rb") as file:
        start = file.read(len(EVENT_START))
    if not EVENT_START.startswith(start):
        raise OSError(errno.EINVAL, f"{path} holds something else than events, and is left as it is: name another file")
