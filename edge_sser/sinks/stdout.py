"""Events as JSON Lines on standard output, written so that a reader who does not read never stops the audio."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from typing import IO, Any, Final

from edge_sser.errors import OutputClosedError, SinkError
from edge_sser.events import Event
from edge_sser.sinks.base import Sink

log = logging.getLogger("edge_sser.output")

# A pipe that is ready takes this many bytes without blocking (POSIX: PIPE_BUF is at least 512, on Linux 4096).
CHUNK_BYTES: Final = 4096
MAX_QUEUED_BYTES: Final = 8 * 2**20  # for a reader who does not read, before the oldest lines go: hours of one source
CLOSE_SECONDS: Final = 3.0  # for a reader to take the last lines
_WAIT_SECONDS: Final = 0.2  # between two checks of `wait_until`


class NonBlockingWriter:
    """Lines to a pipe, a file or a terminal.

    Lines that the reader does not take at once are queued and written with a later line. No thread is needed: a pipe is
    written to only when it is ready, a little at a time.

    Args:
        stream: an open stream, text or binary, without buffered data. It is not closed.
        wait_until: for audio that can wait, such as a recording: `write` then waits for the reader, as pipes do, until
            this event is set. None never waits.

    Attributes:
        encoding: of text.
        dropped: lines dropped because the reader took none for too long.
    """

    def __init__(self, stream: IO[Any], *, wait_until: threading.Event | None = None) -> None:
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"
        self._fd = stream.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._wait_until = wait_until
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._line_begun = False  # a part of the first line is written
        self._dropping = False
        self.dropped = 0

    def write(self, line: bytes) -> None:
        """Writes or queues a line.

        Raises:
            OutputClosedError: the reader has gone.
            SinkError: the output cannot be written.
        """
        self._queue.append(line)
        self._queued_bytes += len(line)
        self.flush()
        while self._queue and self._wait_until is not None and not self._wait_until.is_set():
            self.flush(_WAIT_SECONDS)
        if self._queued_bytes > MAX_QUEUED_BYTES:
            self._drop_oldest()

    def write_text(self, text: str) -> None:
        """Writes text; a character that the terminal cannot show becomes a question mark.

        Raises:
            SinkError: as `write`.
        """
        self.write(text.encode(self.encoding, "replace"))

    def flush(self, seconds: float = 0.0) -> bool:
        """Writes until the queue is empty, or the reader takes nothing for `seconds`.

        Returns:
            True when the queue is empty.

        Raises:
            SinkError: as `write`.
        """
        try:
            while self._queue and self._poll.poll(seconds * 1000):
                written = os.write(self._fd, self._queue[0][:CHUNK_BYTES])
                self._queued_bytes -= written
                rest = self._queue[0][written:]
                self._line_begun = bool(rest)
                if rest:
                    self._queue[0] = rest
                else:
                    self._queue.popleft()
        except BlockingIOError:  # another program that shares the descriptor has set it so
            return False
        except OSError as error:
            self._queue.clear()
            self._queued_bytes = 0
            if isinstance(error, BrokenPipeError):
                raise OutputClosedError("standard output was closed by its reader") from None
            raise SinkError(f"standard output cannot be written: {error.strerror or error}") from None
        if self._dropping and not self._queue:
            self._dropping = False
            log.warning("standard output is read again; %d lines were dropped so far", self.dropped)
        return not self._queue

    def close(self) -> None:
        """Waits up to CLOSE_SECONDS for the reader to take the rest. Safe to call twice.

        Raises:
            SinkError: as `write`.
        """
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._queue and (left := deadline - time.monotonic()) > 0.0:
            self.flush(left)

    def _drop_oldest(self) -> None:
        """Drops the oldest lines until the queue fits, but never the rest of a line whose beginning is written."""
        oldest = int(self._line_begun)
        while self._queued_bytes > MAX_QUEUED_BYTES and len(self._queue) > oldest + 1:
            self._queued_bytes -= len(self._queue[oldest])
            del self._queue[oldest]
            self.dropped += 1
            if not self._dropping:
                self._dropping = True
                log.warning("standard output is not read; the oldest lines are dropped from now on")


class WriterSink(Sink):
    """Base of the sinks that write each event as one line."""

    def __init__(self, writer: NonBlockingWriter) -> None:
        self._writer = writer

    def close(self) -> None:
        """Waits up to CLOSE_SECONDS for the reader to take the rest."""
        self._writer.close()


class JsonLines(WriterSink):
    """One event a line, UTF-8, written at once."""

    def emit(self, event: Event, line: bytes) -> None:
        """Writes one line.

        Raises:
            OutputClosedError: the reader has gone.
            SinkError: the output cannot be written.
        """
        self._writer.write(line + b"\n")
