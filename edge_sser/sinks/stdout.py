"""Events as JSON Lines on standard output, for other programs."""

from __future__ import annotations

import os
from typing import BinaryIO

from edge_sser.errors import SinkError
from edge_sser.events import Event, to_json
from edge_sser.sinks.base import Sink


class OutputClosedError(SinkError):
    """Whoever read the output has gone, as `head` does: the end of listening, not a failure."""


class JsonLines(Sink):
    """One event a line, UTF-8, handed on at once.

    A reader that does not read makes the writer wait, as pipes do: nothing is lost between two programs.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """Takes over the stream, but does not close it.

        Args:
            stream: for example `sys.stdout.buffer`.
        """
        self._stream = stream

    def emit(self, event: Event) -> None:
        """Writes one line.

        Raises:
            OutputClosedError: nobody reads any more.
            SinkError: it cannot be written.
        """
        line = to_json(event) + "\n"
        try:
            self._stream.write(line.encode())
            self._stream.flush()
        except BrokenPipeError:
            self._discard()
            raise OutputClosedError("standard output was closed by its reader") from None
        except OSError as error:
            self._discard()
            raise SinkError(f"standard output cannot be written: {error.strerror or error}") from None

    def _discard(self) -> None:
        """Leads what is still buffered to nowhere: the interpreter would try to write it as it ends, and complain."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
