"""Standard output, written so that a reader who does not read never stops the audio."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from typing import IO, Any, Final

from edge_sser.errors import SinkError

log = logging.getLogger("edge_sser.output")

# A pipe that is ready takes this many bytes without waiting (POSIX: PIPE_BUF is at least 512, on Linux 4096).
CHUNK_BYTES: Final = 4096
HELD_BYTES: Final = 8 * 2**20  # for a reader who does not read, before the oldest lines go: hours of one source
CLOSE_SECONDS: Final = 3.0  # for a reader to take the last lines
_LOOK_SECONDS: Final = 0.2  # how often a patient outlet looks whether it is still to wait


class OutputClosedError(SinkError):
    """Whoever read the output has gone, as `head` does: the end of listening, not a failure."""


class NonBlockingWriter:
    """Lines to a pipe, a file or a terminal.

    What the reader does not take at once is held and handed on with a later line. It needs no thread: a pipe is written
    to only when it says that it is ready, a little at a time.

    Args:
        stream: an open stream, text or binary; nothing may be buffered in it. It is not closed.
        patient_until: for audio that can wait, such as a recording's: `write` then waits for the reader, as pipes do,
            until this is set. None never waits.

    Attributes:
        encoding: of text.
        dropped: lines that went because the reader took none for too long.
    """

    def __init__(self, stream: IO[Any], *, patient_until: threading.Event | None = None) -> None:
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"
        self._fd = stream.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._patient_until = patient_until
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._begun = False  # whether a part of the first line is out
        self._dropping = False
        self.dropped = 0

    @property
    def clear(self) -> bool:
        """Whether the reader has taken everything, as far as can be told without waiting.

        Raises:
            SinkError: as `write`.
        """
        self._hand_on(0.0)
        return not self._held

    def write(self, line: bytes) -> None:
        """Hands a line on, or holds it.

        Raises:
            OutputClosedError: nobody reads any more.
            SinkError: it cannot be written.
        """
        self._held.append(line)
        self._held_bytes += len(line)
        self._hand_on(0.0)
        while self._held and self._patient_until is not None and not self._patient_until.is_set():
            self._hand_on(_LOOK_SECONDS)
        self._bound()

    def say(self, text: str) -> None:
        """Writes text; a character that the terminal cannot show becomes a question mark.

        Raises:
            SinkError: as `write`.
        """
        self.write(text.encode(self.encoding, "replace"))

    def close(self) -> None:
        """Waits a little for the reader to take the rest. Safe to call twice.

        Raises:
            SinkError: as `write`.
        """
        deadline = time.monotonic() + CLOSE_SECONDS
        while self._held and (left := deadline - time.monotonic()) > 0.0:
            self._hand_on(left)

    def _hand_on(self, seconds: float) -> None:
        """Writes until all is out, or the reader makes it wait for that long."""
        try:
            while self._held and self._poll.poll(seconds * 1000):
                self._take_off(os.write(self._fd, self._held[0][:CHUNK_BYTES]))
        except BlockingIOError:  # the descriptor is shared with somebody who set it so
            return
        except BrokenPipeError:
            self._forget()
            raise OutputClosedError("standard output was closed by its reader") from None
        except OSError as error:
            self._forget()
            raise SinkError(f"standard output cannot be written: {error.strerror or error}") from None
        if not self._held and self._dropping:
            self._dropping = False
            log.warning("standard output is read again; %d lines were dropped so far", self.dropped)

    def _take_off(self, written: int) -> None:
        rest = self._held[0][written:]
        self._held_bytes -= written
        self._begun = bool(rest)
        if rest:
            self._held[0] = rest
        else:
            self._held.popleft()

    def _bound(self) -> None:
        """Lets the oldest lines go, but never the rest of one whose beginning is out."""
        oldest = int(self._begun)
        while self._held_bytes > HELD_BYTES and len(self._held) > oldest + 1:
            self._held_bytes -= len(self._held[oldest])
            del self._held[oldest]
            self.dropped += 1
            if not self._dropping:
                self._dropping = True
                log.warning("standard output is not read; the oldest lines go from now on")

    def _forget(self) -> None:
        self._held.clear()
        self._held_bytes = 0
