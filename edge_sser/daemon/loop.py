"""The loop of `listen`: sources through their monitors to the sinks, until the sources end or a stop is requested."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final

from edge_sser.audio.portaudio import sound_cards
from edge_sser.audio.source import EndOfAudio
from edge_sser.daemon.inputs import CardWatch, Clocks, Input
from edge_sser.daemon.log import log_health
from edge_sser.daemon.reload import Reloader
from edge_sser.daemon.session import SourceSession
from edge_sser.daemon.session_state import SessionState
from edge_sser.daemon.status import status_event
from edge_sser.daemon.systemd import ServiceReporter
from edge_sser.errors import EdgeSserError, OutputClosedError, SinkError, SourceError
from edge_sser.events import Event, Health, Reading, StatusState, to_line
from edge_sser.model.model import Model
from edge_sser.monitor.baselines import BaselineStore
from edge_sser.settings.schema import Settings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.open import ConfiguredSinks
from edge_sser.sinks.pause import PauseReason

NOTE_SECONDS: Final = 10.0  # between two changes of the note that health events carry, at least: health is retained
READ_SECONDS: Final = 0.2  # for one round over all sources, at most: the delay before a stop is noticed

log = logging.getLogger("edge_sser.daemon")


class EndReason(Enum):
    """Reason for which a loop ended."""

    SOURCES_ENDED = "sources ended"
    STOPPED = "stopped"
    READER_GONE = "reader gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ListenResult:
    """Outcome of a `ListenLoop`.

    Attributes:
        reason: for the end.
        error: None unless the loop failed: no source was there, no sink is left, or no source is left and one broke.
        with_readings: names of the sources that gave a reading.
    """

    reason: EndReason
    error: EdgeSserError | None
    with_readings: frozenset[str]


class ListenLoop:
    """Runs sources through monitors until all have ended, `stop` is set, or the reader of an output has gone.

    The last episodes are closed in every case. Sources are closed as they end; sinks stay open for their owner. A
    microphone that breaks is retried until it is back. The loop ends at once when every source is a microphone that is
    missing from the start.
    """

    def __init__(
        self,
        settings: Settings,
        inputs: Sequence[Input],
        sinks: Iterable[Sink],
        model: Model,
        stop: threading.Event,
        *,
        outputs: ConfiguredSinks | None = None,
        reloader: Reloader | None = None,
        reporter: ServiceReporter | None = None,
        baselines: BaselineStore | None = None,
        on_open: Callable[[], None] = lambda: None,
        cards: Callable[[], Mapping[int, str]] = sound_cards,
        clocks: Clocks | None = None,
    ) -> None:
        """Prepares the sources; `run` opens them.

        Args:
            settings: of gate, window, rolling, baseline, episode and node.
            inputs: sources with different names.
            sinks: get every event. A sink that fails for good is left out from then on.
            model: scores the windows of all sources.
            stop: may be set by a signal handler or another thread.
            outputs: commands and faults of the configured sinks, read every round; its switch closes microphones.
            reloader: polled every round for new settings.
            reporter: notifies the service manager.
            baselines: keeps the baselines of inputs that have one; None to keep none.
            on_open: called when the sources are open; not when none could be opened.
            cards: lists the sound cards of this moment, number -> id.
            clocks: the time.

        Raises:
            SettingsError: the levels of settings and model card do not fit together.
        """
        self._clocks = Clocks() if clocks is None else clocks
        self._model = model
        self._status = partial(status_event, settings=settings, model=model)
        self._stop = stop
        self._outputs = outputs
        self._reloader = reloader
        self._reporter = reporter
        self._on_open = on_open
        self._card_watch = CardWatch(cards)
        self._sessions = [
            SourceSession(each, model=model, settings=settings, clocks=self._clocks, baselines=baselines)
            for each in inputs
        ]
        self.sessions = {session.name: session for session in self._sessions}  # also those that have ended
        self._sinks = tuple(sinks)
        self._pauses: frozenset[PauseReason] = frozenset()  # that the sources obey
        self._note = ("", -NOTE_SECONDS)  # of health events, and when it changed
        self._with_readings: set[str] = set()
        self._reason: EndReason | None = None
        self._error: EdgeSserError | None = None  # final when the reason is FAILED, or when no source is left

    def run(self) -> ListenResult:
        """Listens to the end.

        Raises:
            SourceError: a recording or pipe cannot be opened.
            ModelError: the model cannot score a window.
        """
        absent = self._open_sources()
        self._emit([self._status(StatusState.ONLINE, self._clocks.wall())])
        try:
            if absent and len(absent) == len(self._sessions):
                self._reason, self._error = EndReason.FAILED, absent[-1][1]
                for session, error in absent:
                    self._emit(session.report_missing(error))  # subscribers learn why there is no audio
            else:
                self._on_open()
                for session, error in absent:
                    self._emit(session.mark_missing(error))
            while self._sessions and not self._ends:
                self._apply_commands()
                self._apply_settings()
                self._reopen_sources()
                self._read_sources()
        finally:
            if self._reporter is not None:
                self._reporter.stopping()
            for session in self._sessions:
                self._emit(session.close())
            self._emit([self._status(StatusState.STOPPED, self._clocks.wall())])
        if self._error is not None and (self._reason is EndReason.FAILED or not self._sessions):
            return ListenResult(EndReason.FAILED, self._error, frozenset(self._with_readings))
        reason = self._reason or (EndReason.STOPPED if self._stop.is_set() else EndReason.SOURCES_ENDED)
        return ListenResult(reason, None, frozenset(self._with_readings))

    @property
    def _ends(self) -> bool:
        return self._reason is not None or self._stop.is_set()

    def _open_sources(self) -> list[tuple[SourceSession, SourceError]]:
        """Opens the sources, but no microphone while listening is paused; returns the microphones that are missing.

        Raises:
            SourceError: a recording or pipe is missing.
        """
        absent: list[tuple[SourceSession, SourceError]] = []
        try:
            self._switch_listening()
            for session in self._sessions:
                if session.state is SessionState.PAUSED:
                    continue
                try:
                    session.open()
                except SourceError as error:
                    if not session.reopens:
                        raise
                    absent.append((session, error))
        except BaseException:
            for session in self._sessions:
                session.close()
            raise
        return absent

    def _apply_commands(self) -> None:
        """Obeys commands, and puts faults of the outputs into health."""
        if self._outputs is None:
            return
        self._switch_listening()
        for source, command in self._outputs.take_baseline_commands():
            for session in self._sessions:
                if session.name == source:
                    session.command_baseline(command)
        text, now = self._outputs.trouble, self._clocks.monotonic()
        noted, noted_at = self._note
        if text != noted and now - noted_at >= NOTE_SECONDS:
            self._note = text, now
            for session in self._sessions:
                self._emit(session.note(text))

    def _switch_listening(self) -> None:
        outputs, before = self._outputs, self._pauses
        if outputs is None or (reasons := outputs.switch.reasons) == before:
            return
        self._pauses = reasons
        outputs.announce_pause()
        for session in self._sessions:
            if not session.reopens:
                if not before:
                    log.warning("%s is no microphone and cannot be paused: it goes on", session.name)
            elif reasons:
                self._emit(session.pause(reasons))
            else:
                session.resume()

    def _apply_settings(self) -> None:
        """Hands settings that were read again to the sources."""
        settings = None if self._reloader is None else self._reloader.poll()
        if settings is not None:
            for session in self._sessions:
                session.retune(settings)
            self._status = partial(status_event, settings=settings, model=self._model)
            self._emit([self._status(StatusState.ONLINE, self._clocks.wall())])  # also to outputs that were opened anew

    def _reopen_sources(self) -> None:
        """Closes every microphone when a sound card was plugged in while one is missing; the next reads open them.

        PortAudio lists devices only while none is open. Otherwise a microphone that is plugged in again beside one that
        works would never be found.
        """
        for session in self._sessions:
            if session.state is SessionState.MISSING:
                break
        else:
            return
        if self._card_watch.new_card():
            for session in self._sessions:
                if session.reopens and session.state is not SessionState.PAUSED:
                    self._emit(session.reopen())

    def _read_sources(self) -> None:
        """Reads one block of each source; ends the loop when all have been missing for too long."""
        timeout_seconds = READ_SECONDS / len(self._sessions)
        for session in tuple(self._sessions):
            if self._ends:
                break
            try:
                events = session.read(timeout_seconds)
            except EndOfAudio:
                self._sessions.remove(session)
                events = session.close()
            except SourceError as error:
                self._sessions.remove(session)
                if self._sessions:
                    log.error("%s; the other sources go on", error)
                self._error = error
                events = [*session.report_missing(error), *session.close()]
            if events:
                self._emit(events)
        if not self._sessions:
            return
        if self._reporter is not None:
            self._reporter.report(self._sessions)
        idle = [session for session in self._sessions if session.state is not SessionState.OPEN]
        if len(idle) < len(self._sessions):
            return
        if all(session.gave_up for session in idle):
            if self._reason is not EndReason.FAILED:
                self._reason, self._error = EndReason.FAILED, self._sessions[-1].error
        elif not any(session.is_open for session in idle):
            self._clocks.sleep(READ_SECONDS)

    def _emit(self, events: Iterable[Event]) -> None:
        """Encodes each event once and hands it to all sinks."""
        for event in events:
            if isinstance(event, Reading):
                self._with_readings.add(event.source)
            elif isinstance(event, Health):
                log_health(event)
            line = to_line(event)
            for sink in self._sinks:
                try:
                    sink.emit(event, line)
                except SinkError as error:
                    self._remove_sink(sink, error)

    def _remove_sink(self, sink: Sink, error: SinkError) -> None:
        """Goes on without a sink; ends the loop when its reader has gone, or when no other sink works."""
        self._sinks = tuple(other for other in self._sinks if other is not sink)
        if isinstance(error, OutputClosedError):
            self._reason = self._reason or EndReason.READER_GONE
        elif any(other.active for other in self._sinks):
            log.error("%s; the other outputs go on", error)
        elif self._reason is None:
            self._reason, self._error = EndReason.FAILED, error
