"""Events as JSON Lines on standard output, for other programs."""

from __future__ import annotations

from edge_sser.events import Event
from edge_sser.sinks.base import Sink
from edge_sser.sinks.outlet import NonBlockingWriter


class JsonLines(Sink):
    """One event a line, UTF-8, handed on at once."""

    def __init__(self, outlet: NonBlockingWriter) -> None:
        self._outlet = outlet

    def emit(self, event: Event, line: bytes) -> None:
        """Writes one line.

        Raises:
            OutputClosedError: nobody reads any more.
            SinkError: it cannot be written.
        """
        self._outlet.write(line + b"\n")

    def close(self) -> None:
        """Waits a little for the reader to take the rest."""
        self._outlet.close()
