"""One source for as long as the program runs: opened, paused, lost and found again, and the events of all that."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edge_sser.audio.source import Source
from edge_sser.errors import SourceError
from edge_sser.events import Event, HealthState
from edge_sser.monitor import Monitor
from edge_sser.settings.schema import Settings

STALLED_SECONDS: Final = 2.0  # without audio from an open source before it is called stalled
REOPEN_MIN_SECONDS: Final = 1.0  # before a lost microphone is looked for; doubled after each failure
REOPEN_MAX_SECONDS: Final = 30.0  # at most between two looks
GIVE_UP_MINUTES: Final = 10.0  # without any source before the program ends, for a fresh process to try

log = logging.getLogger("edge_sser.daemon")


@dataclass(frozen=True, slots=True)
class Input:
    """Where audio can be had.

    Attributes:
        name: the source's, in events.
        open: opens it; raises SourceError when it is not there.
        reopens: whether it can be had again once it was closed. A microphone can, a recording or a pipe cannot.
    """

    name: str
    open: Callable[[], Source]
    reopens: bool

    @classmethod
    def of(cls, source: Source) -> Input:
        """A source that somebody has opened already."""
        return cls(source.name, lambda: source, reopens=False)


class SourceSession:
    """The source of one input, which may come and go, and the monitor of what it gives.

    A source that is opened anew gets a monitor of its own: what was heard before a gap says nothing of what comes after
    it. So levels begin afresh and times count from the opening; only the numbers of the readings go on.

    Args:
        origin: where the audio is.
        make_monitor: from the opened source (None before there is one) and the number of the first reading.
        clock: seconds on a clock that never goes back.

    Attributes:
        name: the source's.
        reopens: see `Input`.
        paused: whether nobody wants its audio at the moment.
        heard: whether it ever gave audio.
        error: why it is missing; None when it is not.
    """

    def __init__(
        self, origin: Input, make_monitor: Callable[[Source | None, int], Monitor], clock: Callable[[], float]
    ) -> None:
        self.name = origin.name
        self.reopens = origin.reopens
        self.paused = False
        self.heard = False
        self.error: SourceError | None = None
        self._open = origin.open
        self._make_monitor = make_monitor
        self._clock = clock
        self._source: Source | None = None
        self._monitor = make_monitor(None, 0)
        self._note = ""
        self._processed_before = 0
        self._audio_at = clock()
        self._missing_since = 0.0
        self._retry_at = self._audio_at
        self._retry_seconds = REOPEN_MIN_SECONDS

    @property
    def is_open(self) -> bool:
        """Whether the source is held."""
        return self._source is not None

    @property
    def flowing(self) -> bool:
        """Whether it is open and gave audio a moment ago."""
        return self.is_open and self._clock() - self._audio_at < STALLED_SECONDS

    @property
    def hopeless(self) -> bool:
        """Whether it has been missing for so long that a fresh process should try."""
        return self.error is not None and self._clock() - self._missing_since >= 60.0 * GIVE_UP_MINUTES

    @property
    def processed(self) -> int:
        """Samples taken in by the stages so far, over all openings."""
        return self._processed_before + self._monitor.counters.processed

    @property
    def words(self) -> str:
        """How it is, for a person."""
        if self.paused:
            return f"{self.name}: paused"
        if self.error is not None:
            return f"{self.name}: missing"
        return f"{self.name}: {'no speech yet' if self._monitor.level is None else self._monitor.level.value}"

    def open(self) -> None:
        """Opens the source.

        Raises:
            SourceError: it is not there.
        """
        source = self._open()
        self._source = source
        self._processed_before += self._monitor.counters.processed
        self._monitor = self._make_monitor(source, self._monitor.readings)
        self._monitor.note(self._note)
        self._audio_at = self._clock()

    def turn(self, timeout_seconds: float) -> list[Event]:
        """Events of the next block, if one comes within the timeout; a lost microphone is looked for when it is time.

        Raises:
            EndOfAudio: the recording or pipe has ended.
            SourceError: it broke, and cannot be opened again.
        """
        if self.paused:
            return []
        try:
            if self._source is None:
                if self._clock() >= self._retry_at:
                    self.open()
                return []
            return self._read(self._source, timeout_seconds)
        except SourceError as error:
            if not self.reopens:
                raise
            return self.lose(error)

    def lose(self, error: SourceError) -> list[Event]:
        """It is not there, for that reason: the events of that. It is looked for later, ever less often."""
        now = self._clock()
        events: list[Event] = []
        if self.error is None:
            log.error("%s; it is looked for until it is back", error)
            events = self.report_missing(error)
            self._missing_since, self._retry_seconds = now, REOPEN_MIN_SECONDS
        else:
            self._retry_seconds = min(2.0 * self._retry_seconds, REOPEN_MAX_SECONDS)
        self.error = error
        self._retry_at = now + self._retry_seconds
        return [*events, *self.end()]

    def report_missing(self, error: SourceError) -> list[Event]:
        """The event that says so; none when it was said before."""
        return self._monitor.report(HealthState.MISSING, str(error))

    def note(self, text: str) -> list[Event]:
        """See `Monitor.note`."""
        self._note = text
        return self._monitor.note(text)

    def retune(self, settings: Settings) -> None:
        """See `Monitor.retune`. Monitors to come are `make_monitor`'s affair."""
        self._monitor.retune(settings)

    def pause(self) -> list[Event]:
        """Lets go of the source until `resume`; returns the last events."""
        self.paused = True
        self.error = None
        return self.end()

    def resume(self) -> None:
        """Opens it with the next turn."""
        self.paused = False
        self.error = None
        self.retry_now()

    def retry_now(self) -> None:
        """If it is not open, it is looked for with the next turn."""
        self._retry_at = self._clock()

    def end(self) -> list[Event]:
        """Lets go of the source; returns the last events."""
        source, self._source = self._source, None
        if source is not None:
            source.close()
        return self._monitor.finish()

    def _read(self, source: Source, timeout_seconds: float) -> list[Event]:
        block = source.read(timeout_seconds)
        if block is None:
            # One that is missing stays so until it is heard: opening it was not enough.
            if self.error is not None or self._clock() - self._audio_at < STALLED_SECONDS:
                return []
            return self._monitor.report(
                HealthState.STALLED,
                f"no audio for {STALLED_SECONDS:.0f} s: check the device or the program that sends it",
            )
        self._audio_at = self._clock()
        self.heard = True
        if self.error is not None:
            self.error = None
            log.warning("%s is back", self.name)
        if self._monitor.counters.read == 0:
            self._monitor.started_at = source.started_at  # a live source knows it now
        return self._monitor.push(block, source.overruns)
