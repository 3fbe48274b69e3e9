"""The interface of every sink."""

from __future__ import annotations

from abc import ABC, abstractmethod

from edge_sser.events import Event


class Sink(ABC):
    """A destination of events. `emit` never waits for a reader, a disk or a network: a slow sink queues or drops."""

    @property
    def active(self) -> bool:
        """True while events reach a destination."""
        return True

    @property
    def trouble(self) -> str:
        """Faults that lose or endanger events, in one line for a person; empty without a fault."""
        return ""

    @abstractmethod
    def emit(self, event: Event, line: bytes) -> None:
        """Delivers an event.

        Args:
            event: the event.
            line: the same event as JSON in UTF-8, without a line end; encoded once for all sinks.

        Raises:
            SinkError: nothing more can be written, ever (a closed pipe, for example).
        """

    def close(self) -> None:  # noqa: B027 - not every sink holds a resource
        """Delivers queued events where that is possible now, and releases the sink. Safe to call twice."""
