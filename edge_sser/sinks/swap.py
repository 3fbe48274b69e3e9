"""A sink that can be replaced while events come."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Final

from edge_sser.errors import SinkError
from edge_sser.events import Event, Health
from edge_sser.sinks.base import Sink

log = logging.getLogger("edge_sser.output")

MAX_QUEUED_EVENTS: Final = 10_000  # while one sink closes and the next opens, before the oldest go


class SwappableSink(Sink):
    """Forwards events to an inner sink, which may be absent.

    Between `detach` and `attach` events are queued, so that none is lost between two sinks. A new inner sink first gets
    the latest health of each source: health is emitted when it changes, which may be long ago. An inner sink that fails
    for good is logged once and left out until another is attached.

    Attributes:
        failure: why the inner sink was left out, for a person; empty when it was not.
    """

    def __init__(self) -> None:
        self._inner: Sink | None = None
        self._queue: deque[tuple[Event, bytes]] | None = None  # None while events are forwarded
        self._health: dict[str, tuple[Health, bytes]] = {}  # the latest of each source
        self.failure = ""
        self._lock = threading.RLock()  # `attach` emits

    @property
    def active(self) -> bool:
        """True while there is an inner sink, or one is about to come."""
        return self._inner is not None or self._queue is not None

    def emit(self, event: Event, line: bytes) -> None:
        """Forwards or queues an event."""
        with self._lock:
            if self._queue is not None:
                self._queue.append((event, line))
                return
            if isinstance(event, Health):
                self._health[event.source] = event, line
            if self._inner is not None:
                try:
                    self._inner.emit(event, line)
                except SinkError as error:
                    self._inner, self.failure = None, str(error)
                    log.error("%s; the other outputs go on", error)

    def detach(self) -> None:
        """Removes the inner sink and queues events from now on, or still. The removed sink may then be closed."""
        with self._lock:
            self._inner = None
            if self._queue is None:
                self._queue = deque(maxlen=MAX_QUEUED_EVENTS)

    def attach(self, sink: Sink | None) -> None:
        """Sets the inner sink, or none, and forwards the queued events."""
        with self._lock:
            queue, self._queue = self._queue or (), None
            self._inner, self.failure = sink, ""
            for event, line in (*self._health.values(), *queue):
                self.emit(event, line)
