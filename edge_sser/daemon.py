"""Several sources through their monitors to the sinks, until they end or somebody says stop."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from edge_sser import __version__
from edge_sser.audio.block import EndOfAudio, Source
from edge_sser.errors import SinkError, SourceError
from edge_sser.events import Event, HealthState, Status, StatusState, timestamp
from edge_sser.model import Model
from edge_sser.monitor import Monitor
from edge_sser.node import node_name
from edge_sser.settings import Settings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.stdout import OutputClosedError

READ_SECONDS: Final = 0.2  # one round over all sources waits at most this long: how soon a stop is noticed
STALLED_SECONDS: Final = 2.0  # without audio from an open source before it is called stalled

log = logging.getLogger("edge_sser.daemon")


class Stop(threading.Event):
    """Tells `listen` to end.

    Attributes:
        signal_number: what set it; None when it was not a signal.
    """

    signal_number: int | None = None


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Lets SIGTERM and SIGINT end listening properly; a second one of a kind ends the program at once.

    Only the main thread may enter. It must not wait on `stop` meanwhile: the handler would wait for a lock of its own.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if stop.signal_number is None:
            stop.signal_number = number
            stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(
    settings: Settings,
    sources: Sequence[Source],
    sinks: Sequence[Sink],
    model: Model,
    stop: threading.Event,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
) -> None:
    """Runs sources through monitors until all have ended, `stop` is set, or the reader of an output has gone.

    The last episodes are closed in every case. Sources are closed as they end; sinks stay open, they are the caller's.

    Args:
        settings: of gate, window, rolling, episode and node.
        sources: opened, with different names.
        sinks: get every event. One that fails for good is left out from then on.
        model: scores the windows of all sources.
        stop: may be set by a signal handler or another thread.
        clock: seconds on a clock that never goes back.
        wall_clock: seconds since the epoch.

    Raises:
        SourceError: all sources are gone, and one of them broke; the last one's error.
        SinkError: no sink is left.
        SettingsError: the levels of settings and model card do not fit together.
    """
    node = node_name(settings)
    watched = [
        _Watched(source, _monitor(source, node, model, settings, clock, wall_clock), clock()) for source in sources
    ]
    outputs = _Outputs(sinks)
    outputs.emit([_status(StatusState.ONLINE, node, model, wall_clock())])
    broken: SourceError | None = None
    try:
        while watched and not stop.is_set() and outputs.wanted:
            for each in list(watched):
                if stop.is_set() or not outputs.wanted:
                    break
                try:
                    events = each.read(READ_SECONDS / len(watched), clock)
                except EndOfAudio:
                    events = each.end()
                    watched.remove(each)
                except SourceError as error:
                    broken = error
                    events = [*each.monitor.report(HealthState.MISSING, str(error)), *each.end()]
                    watched.remove(each)
                    if watched:
                        log.error("%s; the other sources go on", error)
                outputs.emit(events)
    finally:
        for each in watched:
            outputs.emit(each.end())
        outputs.emit([_status(StatusState.STOPPED, node, model, wall_clock())])
    if outputs.failure is not None:
        raise outputs.failure
    if broken is not None and not watched:
        raise broken


@dataclass(slots=True)
class _Watched:
    """One source, its monitor, and when it last gave audio."""

    source: Source
    monitor: Monitor
    audio_at: float

    def read(self, timeout_seconds: float, clock: Callable[[], float]) -> list[Event]:
        """Events of the next block, if one comes within the timeout."""
        block = self.source.read(timeout_seconds)
        if block is None:
            silent_seconds = clock() - self.audio_at
            if silent_seconds < STALLED_SECONDS:
                return []
            return self.monitor.report(
                HealthState.STALLED,
                f"no audio for {STALLED_SECONDS:.0f} s: check the device or the program that sends it",
            )
        self.audio_at = clock()
        if self.monitor.counters.read == 0:
            self.monitor.started_at = self.source.started_at  # a live source knows it now
        return self.monitor.push(block, self.source.overruns)

    def end(self) -> list[Event]:
        """The last events of a source that is let go of."""
        self.source.close()
        return self.monitor.finish()


class _Outputs:
    """All sinks as one that never fails in the middle.

    Attributes:
        wanted: whether anybody still takes events.
        failure: why nobody does; None when the reader of an output has simply gone.
    """

    def __init__(self, sinks: Iterable[Sink]) -> None:
        self._sinks = list(sinks)
        self.wanted = True
        self.failure: SinkError | None = None

    def emit(self, events: Iterable[Event]) -> None:
        for event in events:
            for sink in list(self._sinks):
                try:
                    sink.emit(event)
                except OutputClosedError:
                    self._sinks.remove(sink)
                    self.wanted = False
                except SinkError as error:
                    self._sinks.remove(sink)
                    self._lost(error)

    def _lost(self, error: SinkError) -> None:
        if self._sinks:
            log.error("%s; the other outputs go on", error)
        elif self.wanted:
            self.wanted, self.failure = False, error


def _monitor(
    source: Source,
    node: str,
    model: Model,
    settings: Settings,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> Monitor:
    return Monitor(
        node=node,
        source_name=source.name,
        started_at=source.started_at,
        live=source.live,
        model=model,
        settings=settings,
        clock=clock,
        wall_clock=wall_clock,
    )


def _status(state: StatusState, node: str, model: Model, now: float) -> Status:
    return Status(
        node=node,
        ts=timestamp(now),
        state=state,
        version=__version__,
        model=model.label,
        provider=model.provider,
        host=socket.gethostname(),
    )
