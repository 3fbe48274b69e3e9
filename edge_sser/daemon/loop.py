"""Several sources through their monitors to the sinks, until they end or somebody says stop."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

from edge_sser import __version__
from edge_sser.audio.portaudio import sound_cards
from edge_sser.audio.source import EndOfAudio, Source
from edge_sser.daemon.session import Input, SourceSession
from edge_sser.daemon.systemd import Supervisor
from edge_sser.errors import SinkError, SourceError
from edge_sser.events import Event, Health, HealthState, Status, StatusState, timestamp, to_line
from edge_sser.model.model import Model
from edge_sser.monitor import Monitor
from edge_sser.settings.node import node_name
from edge_sser.settings.schema import Settings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.outlet import OutputClosedError

NOTE_SECONDS: Final = 10.0  # at least between two changes of what health events say beside the state of the source
READ_SECONDS: Final = 0.2  # one round over all sources waits at most this long: how soon a stop is noticed

log = logging.getLogger("edge_sser.daemon")


class Operator:
    """What may be asked of listening while it goes on. This one asks for nothing."""

    @property
    def listening(self) -> bool:
        """Whether to listen at the moment."""
        return True

    @property
    def trouble(self) -> str:
        """What health events are to say beside the state of the source; empty when nothing."""
        return ""

    def news(self) -> Settings | None:
        """Settings whose levels and episodes are to be used from now on; None when none have changed."""
        return None


class Stop(threading.Event):
    """Tells `listen` to end.

    Attributes:
        signal_number: what set it; None when it was not a signal.
        hangups: SIGHUPs so far that did not set it.
    """

    signal_number: int | None = None
    hangups: int = 0


@contextmanager
def stop_on_signals(stop: Stop, *, hangup_ends: bool = True) -> Iterator[None]:
    """Lets SIGTERM and SIGINT end listening properly; a second one of a kind ends the program at once.

    Only the main thread may enter. It must not wait on `stop` meanwhile: the handler would wait for a lock of its own.

    Args:
        stop: is set.
        hangup_ends: whether SIGHUP ends listening as well; otherwise it is counted. One that is ignored (`nohup`)
            stays so.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if stop.signal_number is None:
            stop.signal_number = number
            stop.set()

    def count(_number: int, _frame: FrameType | None) -> None:
        stop.hangups += 1

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    if (hangup := signal.getsignal(signal.SIGHUP)) is not signal.SIG_IGN:
        before[signal.SIGHUP] = hangup
        signal.signal(signal.SIGHUP, handle if hangup_ends else count)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def listen(
    settings: Settings,
    sources: Sequence[Source | Input],
    sinks: Sequence[Sink],
    model: Model,
    stop: threading.Event,
    *,
    operator: Operator | None = None,
    cards: Callable[[], Mapping[int, str]] = sound_cards,
    supervisor: Supervisor | None = None,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Runs sources through monitors until all have ended, `stop` is set, or the reader of an output has gone.

    The last episodes are closed in every case. Sources are closed as they end; sinks stay open, they are the caller's.
    A microphone that breaks is looked for until it is back. One that is not there to begin with is an error, unless
    another source is.

    Args:
        settings: of gate, window, rolling, episode and node.
        sources: opened, or to be opened here, with different names.
        sinks: get every event. One that fails for good is left out from then on.
        model: scores the windows of all sources.
        stop: may be set by a signal handler or another thread.
        operator: asked every round. While it does not want to listen, microphones are let go of.
        cards: the sound cards of this moment, number -> id.
        supervisor: is told how it goes.
        clock: seconds on a clock that never goes back.
        wall_clock: seconds since the epoch.
        sleep: waits for seconds, while no source is open.

    Raises:
        SourceError: a source is not there to begin with; or all are gone, and one of them broke: the last one's error.
        SinkError: no sink is left.
        SettingsError: the levels of settings and model card do not fit together.
    """
    node = node_name(settings)
    inputs = [each if isinstance(each, Input) else Input.of(each) for each in sources]
    operator = Operator() if operator is None else operator
    tuning = _Tuning(settings)
    captures = [
        SourceSession(each, _monitors(each.name, node, model, tuning, clock, wall_clock), clock) for each in inputs
    ]
    listening = operator.listening
    notes = _Notes(clock)
    plugged = _Plugged(cards)
    lost = _open(captures, listening)
    absent = bool(lost) and len(lost) == len(captures)
    outputs = _Outputs(sinks)
    outputs.emit([status_event(StatusState.ONLINE, node, model, wall_clock())])
    broken: SourceError | None = None
    try:
        if absent:  # those who wait for its audio hear why there is none
            outputs.emit(event for each, error in lost for event in each.report_missing(error))
        else:
            outputs.emit(event for each, error in lost for event in each.lose(error))
        while not absent and captures and not stop.is_set() and outputs.wanted:
            if operator.listening is not listening:
                listening = not listening
                outputs.emit(_switch(captures, listening))
            if (news := operator.news()) is not None:
                tuning.settings = news
                for each in captures:
                    each.retune(news)
            if notes.changed(operator.trouble):
                outputs.emit(event for each in captures for event in each.note(notes.text))
            if any(each.error is not None for each in captures) and plugged.anew():
                outputs.emit(_let_go(captures))
            for each in list(captures):
                if stop.is_set() or not outputs.wanted:
                    break
                try:
                    events = each.turn(READ_SECONDS / len(captures))
                except EndOfAudio:
                    events = each.end()
                    captures.remove(each)
                except SourceError as error:
                    broken = error
                    events = [*each.report_missing(error), *each.end()]
                    captures.remove(each)
                    if captures:
                        log.error("%s; the other sources go on", error)
                outputs.emit(events)
            if supervisor is not None and captures:
                supervisor.look(captures)
            if captures and all(each.hopeless for each in captures):
                broken = captures[-1].error
                break
            if captures and not any(each.is_open for each in captures):
                sleep(READ_SECONDS)
    finally:
        if supervisor is not None:
            supervisor.stopping()
        for each in captures:
            outputs.emit(each.end())
        outputs.emit([status_event(StatusState.STOPPED, node, model, wall_clock())])
    if absent:
        raise lost[-1][1]
    if outputs.failure is not None:
        raise outputs.failure
    if broken is not None and all(each.hopeless for each in captures):
        raise broken


def _open(captures: Sequence[SourceSession], listening: bool) -> list[tuple[SourceSession, SourceError]]:
    """Opens what is to be heard; returns the microphones that are missing.

    Raises:
        SourceError: a recording or pipe is.
    """
    lost: list[tuple[SourceSession, SourceError]] = []
    try:
        if not listening:
            _switch(captures, False)
        for each in captures:
            if each.paused:
                continue
            try:
                each.open()
            except SourceError as error:
                if not each.reopens:
                    raise
                lost.append((each, error))
    except BaseException:
        for each in captures:
            each.end()
        raise
    return lost


def _switch(captures: Sequence[SourceSession], listening: bool) -> list[Event]:
    """Pauses or resumes what can be; returns the last events of what was paused."""
    events: list[Event] = []
    for each in captures:
        if not each.reopens:
            if not listening:
                log.warning("%s is no microphone and cannot be paused: it goes on", each.name)
        elif listening:
            each.resume()
        else:
            events += each.pause()
    return events


def _let_go(captures: Sequence[SourceSession]) -> list[Event]:
    """Closes every microphone, to be opened again at once; returns their last events.

    PortAudio looks for devices only when nobody uses it. Without this, one that is plugged in again beside another that
    works would never be found.
    """
    ours = [each for each in captures if each.reopens and not each.paused]
    events = [event for each in ours if each.is_open for event in each.end()]
    for each in ours:
        each.retry_now()
    return events


class _Tuning:
    """The settings that the next monitor gets."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings


class _Notes:
    """What health events say beside the state of the source. Health is for keeps, so it must not babble."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed_at = -NOTE_SECONDS
        self.text = ""

    def changed(self, text: str) -> bool:
        """Takes in what there is to say now; whether `text` has changed."""
        now = self._clock()
        if text == self.text or now - self._changed_at < NOTE_SECONDS:
            return False
        self.text, self._changed_at = text, now
        return True


class _Plugged:
    """Notices when a sound card is plugged in."""

    def __init__(self, cards: Callable[[], Mapping[int, str]]) -> None:
        self._cards = cards
        self._known = set(cards().items())

    def anew(self) -> bool:
        """Whether there is a card that was not there when this was asked before."""
        now = set(self._cards().items())
        known, self._known = self._known, now
        return not now <= known


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
            if isinstance(event, Health):
                _log_health(event)
            line = to_line(event)
            for sink in list(self._sinks):
                try:
                    sink.emit(event, line)
                except OutputClosedError:
                    self._sinks.remove(sink)
                    self.wanted = False
                except SinkError as error:
                    self._sinks.remove(sink)
                    self._lost(error)

    def _lost(self, error: SinkError) -> None:
        if any(sink.works for sink in self._sinks):
            log.error("%s; the other outputs go on", error)
        elif self.wanted:
            self.wanted, self.failure = False, error


def _log_health(health: Health) -> None:
    """A line a change, for who reads the log alone. What is missing is logged where it is looked for."""
    if health.state is HealthState.MISSING:
        return
    level = logging.WARNING if health.detail else logging.INFO
    log.log(level, "%s is %s%s", health.source, health.state.value, f": {health.detail}" if health.detail else "")


def _monitors(
    name: str,
    node: str,
    model: Model,
    tuning: _Tuning,
    clock: Callable[[], float],
    wall_clock: Callable[[], float],
) -> Callable[[Source | None, int], Monitor]:
    """What makes a source's monitors, one for each time that it is opened."""

    def make(source: Source | None, first_reading: int) -> Monitor:
        return Monitor(
            node=node,
            source_name=name,
            started_at=wall_clock() if source is None else source.started_at,
            live=source is None or source.live,
            model=model,
            settings=tuning.settings,
            first_reading=first_reading,
            clock=clock,
            wall_clock=wall_clock,
        )

    return make


def status_event(state: StatusState, node: str, model: Model, now: float) -> Status:
    """What runs here, as it is at a time in seconds since the epoch."""
    return Status(
        node=node,
        ts=timestamp(now),
        state=state,
        version=__version__,
        model=model.label,
        provider=model.provider,
        host=socket.gethostname(),
    )
