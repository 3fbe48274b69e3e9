"""Episodes: times at or above a level. Pure logic: time comes as samples."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.events import Level, Phase
from edge_sser.settings.schema import EpisodeSettings


@dataclass(frozen=True, slots=True)
class EpisodeReport:
    """State of an episode. Times are stream time in samples.

    Attributes:
        phase: start, update or end.
        level: the highest reached.
        start: end of the episode's first window.
        end: end of the episode's last window with speech.
        peak: highest rolling stress, 0..1.
        mean: mean rolling stress over the windows with speech, 0..1.
    """

    phase: Phase
    level: Level
    start: int
    end: int
    peak: float
    mean: float


@dataclass(slots=True)
class _Open:
    """The open episode."""

    start: int
    reported: int
    end: int
    level: Level
    peak: float
    total: float = 0.0
    windows: int = 0

    def take(self, stress: float, level: Level, now: int) -> None:
        self.end = now
        self.level = max(self.level, level, key=lambda each: each.rank)
        self.peak = max(self.peak, stress)
        self.total += stress
        self.windows += 1

    def report(self, phase: Phase) -> EpisodeReport:
        return EpisodeReport(phase, self.level, self.start, self.end, self.peak, self.total / self.windows)


class Episodes:
    """Times at or above a level. Each starts once, is reported while it lasts, and ends once."""

    def __init__(self, settings: EpisodeSettings) -> None:
        self.retune(settings)
        self._open: _Open | None = None

    def retune(self, settings: EpisodeSettings) -> None:
        """Changes level and times, from the next window on."""
        self._levels = frozenset(level for level in Level if level.rank >= settings.level.rank)
        self._update_samples = round(settings.update_seconds * SAMPLE_RATE)
        self._silence_samples = round(settings.silence_seconds * SAMPLE_RATE)

    def speech(self, stress: float, level: Level, now: int) -> EpisodeReport | None:
        """Takes in a scored window.

        Args:
            stress: rolling, 0..1.
            level: of the stream.
            now: stream time of the window's end, samples.
        """
        if level not in self._levels:
            if self._open is None:
                return None
            self._open.take(stress, level, now)
            return self.finish()
        begins = self._open is None
        if self._open is None:
            self._open = _Open(start=now, reported=now, end=now, level=level, peak=stress)
        self._open.take(stress, level, now)
        return self._open.report(Phase.START) if begins else self._update_due(self._open, now)

    def silence(self, now: int) -> EpisodeReport | None:
        """Takes in a window without speech that ends at `now`."""
        if self._open is None:
            return None
        if now - self._open.end >= self._silence_samples:
            return self.finish()
        return self._update_due(self._open, now)

    def finish(self) -> EpisodeReport | None:
        """Ends the open episode, if there is one."""
        ended, self._open = self._open, None
        return None if ended is None else ended.report(Phase.END)

    def _update_due(self, episode: _Open, now: int) -> EpisodeReport | None:
        if now - episode.reported < self._update_samples:
            return None
        episode.reported = now
        return episode.report(Phase.UPDATE)
