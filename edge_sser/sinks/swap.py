"""A place for a sink that may be exchanged for another while events come."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Final

from edge_sser.errors import SinkError
from edge_sser.events import Event, Health
from edge_sser.sinks.base import Sink

log = logging.getLogger("edge_sser.output")

HELD_EVENTS: Final = 10_000  # while one sink closes and the next opens, before the oldest go


class SwappableSink(Sink):
    """Hands events on to the sink in it, which may be none.

    Between `hold` and `put` events wait here, so that none falls between two sinks. What is put in hears first how each
    source is: health is told when it changes, which may be long ago. A sink that fails for good is told of once and
    left out until another is put in.

    Attributes:
        failure: why the sink in it was left out, for a person; empty when it was not.
    """

    def __init__(self) -> None:
        self._inner: Sink | None = None
        self._held: deque[tuple[Event, bytes]] | None = None
        self._health: dict[str, tuple[Health, bytes]] = {}  # the latest of each source
        self.failure = ""
        self._lock = threading.Lock()

    @property
    def works(self) -> bool:
        """Whether there is a sink in it, or one to come."""
        return self._inner is not None or self._held is not None

    def emit(self, event: Event, line: bytes) -> None:
        """Hands an event on, or holds it."""
        with self._lock:
            if self._held is not None:
                self._held.append((event, line))
                return
            if isinstance(event, Health):
                self._health[event.source] = (event, line)
            self._pass(event, line)

    def hold(self) -> None:
        """Takes the sink out. Events wait from now on, or still; the sink may be closed."""
        with self._lock:
            self._inner = None
            if self._held is None:
                self._held = deque(maxlen=HELD_EVENTS)

    def put(self, sink: Sink | None) -> None:
        """Puts a sink in, or none, and hands on what has waited."""
        with self._lock:
            self._inner = sink
            self.failure = ""
            for health, line in self._health.values():
                self._pass(health, line)
            held, self._held = self._held or (), None
            for event, line in held:
                if isinstance(event, Health):
                    self._health[event.source] = (event, line)
                self._pass(event, line)

    def _pass(self, event: Event, line: bytes) -> None:
        if self._inner is None:
            return
        try:
            self._inner.emit(event, line)
        except SinkError as error:
            self._inner = None
            self.failure = str(error)
            log.error("%s; the other outputs go on", error)
