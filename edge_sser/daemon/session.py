"""One source while the program runs: its states, its retries, and the events of its monitor."""

from __future__ import annotations

import logging
from typing import Final

from edge_sser.audio.source import Source
from edge_sser.daemon.inputs import Clocks, Input
from edge_sser.daemon.session_state import TRANSITIONS, Absence, SessionState
from edge_sser.errors import SourceError
from edge_sser.events import BaselineCommand, Event, HealthState
from edge_sser.model.model import Model
from edge_sser.monitor.baselines import SAVE_SECONDS, BaselineStore
from edge_sser.monitor.judge import Lesson
from edge_sser.monitor.monitor import Monitor
from edge_sser.monitor.stream_clock import StreamClock
from edge_sser.pipeline.baseline import Baseline
from edge_sser.pipeline.rolling import Thresholds
from edge_sser.settings.names import node_name
from edge_sser.settings.schema import Settings
from edge_sser.sinks.pause import PauseReason

STALLED_SECONDS: Final = 2.0  # without audio from an open source before its health is stalled
REOPEN_MIN_SECONDS: Final = 1.0  # before the first retry of a missing microphone; doubled after each failure
REOPEN_MAX_SECONDS: Final = 30.0  # between two retries, at most
# Numbers of live readings start at the time in this unit, so that no run repeats those of another: a hop has at least
# 0.1 s, and a pipe that is fed from a file gives some 700 readings a second.
READINGS_A_SECOND: Final = 1000
LESSON_SECONDS: Final = 60.0  # of calm speech that the command learn takes
GIVE_UP_MINUTES: Final = 10.0  # without any source before the program ends, for a fresh process to try
_COMMAND, _KEY = frozenset({PauseReason.COMMAND}), frozenset({PauseReason.KEY})
PAUSED_DETAILS: Final = {
    _COMMAND: "a command has turned listening off; the microphone stays closed until one turns it on",
    _KEY: "the key p has turned listening off; the microphone stays closed until p is pressed again",
    _COMMAND | _KEY: "a command and the key p have turned listening off; the microphone stays closed until a command "
    "turns it on and p is pressed again",
}

log = logging.getLogger("edge_sser.daemon")


class SourceSession:
    """The source of one input, which may come and go, and its monitor.

    A source that is opened again gets a new monitor, because audio from before a gap says nothing about audio after it.
    Levels start again, and times count from the opening; only the baseline and the numbers of the readings continue.

    Attributes:
        name: of the source.
        reopens: as in `Input`.
        state: see `SessionState`.
    """

    def __init__(
        self,
        origin: Input,
        *,
        model: Model,
        settings: Settings,
        clocks: Clocks,
        baselines: BaselineStore | None = None,
    ) -> None:
        """Prepares a source that is not open yet.

        Args:
            origin: the source.
            model: scores the windows; may be shared.
            settings: of node, gate, window, rolling, baseline and episode.
            clocks: the time.
            baselines: keeps the baseline of an input that has one; None to keep none.

        Raises:
            SettingsError: the levels of settings and model card do not fit together.
        """
        self.name = origin.name
        self.reopens = origin.reopens
        self.state = SessionState.WAITING
        self._open_source = origin.open
        self._node = node_name(settings)
        self._model = model
        self._settings = settings
        self._clocks = clocks
        self._source: Source | None = None
        self._absence: Absence | None = None
        self._note = ""
        self._processed_before = 0
        self._times = StreamClock(clocks.monotonic, clocks.wall)
        self._baselines = baselines if origin.keeps_baseline else None
        baseline = None if self._baselines is None else self._baselines.load(self.name)
        self._monitor = self._new_monitor(started_at=clocks.wall(), live=True, first_reading=0, baseline=baseline)
        self._sync_at = clocks.monotonic() + SAVE_SECONDS
        if self._monitor.baseline.declared:
            log.info("%s: a declared baseline is in use: %s", self.name, self._monitor.rule.outlook)
        self._audio_at = clocks.monotonic()

    @property
    def is_open(self) -> bool:
        """True while the source is held."""
        return self._source is not None

    @property
    def receiving(self) -> bool:
        """True while the source is open and gave audio within the last `STALLED_SECONDS`."""
        return self.is_open and self._clocks.monotonic() - self._audio_at < STALLED_SECONDS

    @property
    def error(self) -> SourceError | None:
        """Reason for which the source is missing; None in any other state."""
        return None if self._absence is None else self._absence.error

    @property
    def gave_up(self) -> bool:
        """True once the source has been missing for `GIVE_UP_MINUTES`."""
        absence = self._absence
        return absence is not None and self._clocks.monotonic() - absence.since >= 60.0 * GIVE_UP_MINUTES

    @property
    def processed(self) -> int:
        """Samples processed so far, over all openings."""
        return self._processed_before + self._monitor.counters.processed

    @property
    def thresholds(self) -> Thresholds:
        """Thresholds in force."""
        return self._monitor.rule.thresholds

    @property
    def status_line(self) -> str:
        """Name and stress level, or the state without audio, for a person."""
        if self.state in (SessionState.PAUSED, SessionState.MISSING):
            return f"{self.name}: {self.state.value}"
        if self._monitor.health is HealthState.STALLED:
            return f"{self.name}: {HealthState.STALLED.value}"
        level = self._monitor.level
        return f"{self.name}: {'no speech yet' if level is None else level.value}"

    def open(self) -> None:
        """Opens the source, with a new monitor.

        Raises:
            SourceError: the source is not there.
        """
        source = self._open_source()
        before = self._monitor
        self._processed_before += before.counters.processed
        first = before.readings
        if not first and source.live:
            first = int(READINGS_A_SECOND * self._clocks.wall())
        self._monitor = self._new_monitor(
            started_at=source.started_at, live=source.live, first_reading=first, baseline=before.baseline
        )
        self._monitor.note(self._note)
        self._audio_at = self._clocks.monotonic()
        self._source = source
        if self._absence is None:
            self._enter(SessionState.OPEN)

    def read(self, timeout_seconds: float) -> list[Event]:
        """Returns the events of the next block; opens a source that waits, or is missing and due for a retry.

        Args:
            timeout_seconds: for a block to come.

        Raises:
            EndOfAudio: the recording or pipe has ended.
            SourceError: the recording or pipe broke.
        """
        if self.state is SessionState.PAUSED:
            return []
        try:
            if self._source is not None:
                return self._read_block(self._source, timeout_seconds)
            if self._absence is None or self._clocks.monotonic() >= self._absence.retry_at:
                self.open()
            return []
        except SourceError as error:
            if not self.reopens:
                raise
            return self.mark_missing(error)

    def mark_missing(self, error: SourceError) -> list[Event]:
        """Closes the source and schedules a retry with exponential backoff; returns the last events.

        Args:
            error: reason, for the log and for health.
        """
        now, absence = self._clocks.monotonic(), self._absence
        if absence is None:
            log.error("%s; it is looked for until it is back", error)
            events = self.report_missing(error)
            absence = Absence(error, since=now, retry_seconds=REOPEN_MIN_SECONDS, retry_at=now + REOPEN_MIN_SECONDS)
        else:
            events = []
            seconds = min(2.0 * absence.retry_seconds, REOPEN_MAX_SECONDS)
            absence = Absence(error, since=absence.since, retry_seconds=seconds, retry_at=now + seconds)
        return [*events, *self._enter(SessionState.MISSING, absence)]

    def report_missing(self, error: SourceError) -> list[Event]:
        """Returns the health event of a missing source; none when health is missing already."""
        return self._monitor.report(HealthState.MISSING, str(error))

    def note(self, text: str) -> list[Event]:
        """Adds a text to the detail of health events; see `Monitor.note`."""
        self._note = text
        return self._monitor.note(text)

    def retune(self, settings: Settings) -> None:
        """Applies other settings of rolling, baseline and episode; see `Monitor.retune`.

        Raises:
            SettingsError: the levels of settings and model card do not fit together.
        """
        self._settings = settings
        self._monitor.retune(settings)

    def command_baseline(self, command: BaselineCommand) -> None:
        """Begins to learn calm speech that is declared, or forgets the baseline; says in the log which."""
        if self._baselines is None or not self._monitor.uses_baseline:
            log.warning("%s: the command %s is ignored, because no baseline is kept", self.name, command.value)
        elif command is BaselineCommand.RESET:
            self._monitor.learn(None)
            self._monitor.baseline = Baseline()
            self._baselines.reset(self.name)
            log.info("%s: the baseline is removed by a command, and is learned again", self.name)
        else:
            self._monitor.learn(Lesson(LESSON_SECONDS, self._learned))
            log.info("%s: the next %.0f s of speech are taken for calm, by a command", self.name, LESSON_SECONDS)

    def _learned(self, baseline: Baseline | None) -> None:
        if baseline is None:
            log.warning("%s: this speech sounds stressed, so no baseline was learned from it", self.name)
            return
        self._monitor.baseline = baseline
        self._sync_baseline()
        log.info("%s: a baseline is learned, shift %+.2f", self.name, baseline.shift)

    def pause(self, reasons: frozenset[PauseReason]) -> list[Event]:
        """Closes the source until `resume`; returns the last events. A pause may get other reasons.

        Args:
            reasons: one or more.
        """
        return [*self._enter(SessionState.PAUSED), *self._monitor.report(HealthState.PAUSED, PAUSED_DETAILS[reasons])]

    def resume(self) -> None:
        """Lets the next read open the source."""
        self._enter(SessionState.WAITING)

    def reopen(self) -> list[Event]:
        """Closes the source and lets the next read open it again; returns the last events. A missing one stays so."""
        if self._absence is None:
            return self._enter(SessionState.WAITING) if self.is_open else []
        was_open = self.is_open
        self._absence.retry_at = self._clocks.monotonic()
        return self._enter(SessionState.MISSING, self._absence) if was_open else []

    def close(self) -> list[Event]:
        """Closes the source for good; returns the last events."""
        return self._enter(SessionState.ENDED)

    def _enter(self, state: SessionState, absence: Absence | None = None) -> list[Event]:
        """Changes the state; every state but OPEN closes the source and returns the last events."""
        assert state in TRANSITIONS[self.state], (self.state, state)
        self.state, self._absence = state, absence
        if state is SessionState.OPEN:
            return []
        self._sync_baseline()
        source, self._source = self._source, None
        if source is not None:
            source.close()
        return self._monitor.finish()

    def _sync_baseline(self) -> None:
        """Saves the baseline, or takes one that another program has put in its place."""
        if self._baselines is None:
            return
        self._sync_at = self._clocks.monotonic() + SAVE_SECONDS
        other = self._baselines.sync(self.name, self._monitor.baseline)
        if other is not None:
            self._monitor.baseline = other

    def _new_monitor(self, *, started_at: float, live: bool, first_reading: int, baseline: Baseline | None) -> Monitor:
        return Monitor(
            node=self._node,
            source_name=self.name,
            started_at=started_at,
            live=live,
            model=self._model,
            settings=self._settings,
            first_reading=first_reading,
            baseline=baseline,
            clock=self._clocks.monotonic,
            times=self._times,
        )

    def _read_block(self, source: Source, timeout_seconds: float) -> list[Event]:
        block = source.read(timeout_seconds)
        now = self._clocks.monotonic()
        if block is None:
            if self._absence is not None or now - self._audio_at < STALLED_SECONDS:
                return []
            return self._monitor.report(
                HealthState.STALLED,
                f"no audio for {STALLED_SECONDS:.0f} s: check the device or the program that sends it",
            )
        self._audio_at = now
        if self._absence is not None:
            self._enter(SessionState.OPEN)
            log.warning("%s is back", self.name)
        if self._monitor.read == 0:
            self._times.started_at = source.started_at  # known to a live source since its first block
        if now >= self._sync_at:
            self._sync_baseline()
        return [*self._monitor.observe(source.signal), *self._monitor.push(block, source.overruns)]
