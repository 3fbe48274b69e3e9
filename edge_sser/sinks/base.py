"""Where events go."""

from __future__ import annotations

from abc import ABC, abstractmethod

from edge_sser.events import Event


class Sink(ABC):
    """Takes events. `emit` never waits for a reader or a network: a slow sink drops or queues on its own account."""

    @property
    def works(self) -> bool:
        """Whether events arrive anywhere."""
        return True

    @abstractmethod
    def emit(self, event: Event, line: bytes) -> None:
        """Delivers an event.

        Args:
            event: the event.
            line: the same event as JSON in UTF-8, without a line end; made once for all sinks.

        Raises:
            SinkError: nothing more can be written, ever (a closed pipe, for example).
        """

    def close(self) -> None:  # noqa: B027 - not every sink holds something
        """Delivers what can be delivered now and releases the sink. Safe to call twice."""
