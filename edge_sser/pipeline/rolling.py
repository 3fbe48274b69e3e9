"""From the stress of single windows to a smoothed value, a level and episodes. Pure logic: time comes as samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import SettingsError
from edge_sser.events import Level, Phase
from edge_sser.settings.schema import EpisodeSettings, RollingSettings


class Rolling:
    """Stress smoothed over SPEECH time, so that pauses neither calm nor excite.

    An exponential average whose first values are not pulled towards zero: it is divided by the weight it has gathered
    (as in Kingma and Ba, "Adam", 2015, section 3).

    Attributes:
        time_constant_seconds: of speech, after which the past counts 1/e.
        value: 0..1; None before the first speech.
    """

    def __init__(self, time_constant_seconds: float) -> None:
        self.time_constant_seconds = time_constant_seconds
        self._sum = 0.0
        self._weight = 0.0
        self.value: float | None = None

    def push(self, stress: float, speech_seconds: float) -> float:
        """Takes in a scored window and returns the value.

        Args:
            stress: of the window, 0..1.
            speech_seconds: speech it stands for: the hop times its share of speech. More than 0.
        """
        # What the past keeps; expm1 because 1 - exp(-x) loses all digits of a tiny x.
        gained = -math.expm1(-speech_seconds / self.time_constant_seconds)
        self._sum += gained * (stress - self._sum)
        self._weight += gained * (1.0 - self._weight)
        self.value = self._sum / self._weight
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Where levels begin.

    Attributes:
        elevated: rolling stress at which the level becomes elevated, 0..1.
        high: likewise high.
        hysteresis: how far below a threshold the rolling stress must fall to leave the level.
    """

    elevated: float
    high: float
    hysteresis: float

    @classmethod
    def of(cls, settings: RollingSettings, *, elevated: float, high: float) -> Thresholds:
        """What the settings say, and for what they leave open the model's card.

        Args:
            settings: of the rolling stress.
            elevated: the card's.
            high: the card's.

        Raises:
            SettingsError: together they make no rising levels.
        """
        if settings.elevated is not None:
            elevated = settings.elevated
        if settings.high is not None:
            high = settings.high
        if elevated >= high:
            raise SettingsError(
                f"rolling.elevated is {elevated:g} and rolling.high is {high:g} (one of them from the model's card): "
                "set both, elevated below high"
            )
        if settings.hysteresis >= elevated:
            raise SettingsError(
                f"rolling.hysteresis is {settings.hysteresis:g}, rolling.elevated {elevated:g}: no stress is low "
                "enough to become calm again; set the hysteresis below it"
            )
        return cls(elevated=elevated, high=high, hysteresis=settings.hysteresis)

    def level(self, stress: float, current: Level) -> Level:
        """The level that a rolling stress asks for, seen from the current one."""
        high = self.high - (self.hysteresis if current is Level.HIGH else 0.0)
        elevated = self.elevated - (self.hysteresis if current is not Level.LOW else 0.0)
        if stress >= high:
            return Level.HIGH
        return Level.ELEVATED if stress >= elevated else Level.LOW


class Levels:
    """The level of a stream: low at first; another one is adopted once it has held for the dwell.

    What has held is the least that was asked for all the while: stress that wavers between elevated and high for a
    dwell makes the level elevated. Each change starts all waiting anew, so that no two are closer than the dwell.

    Attributes:
        level: None before the first speech.
    """

    def __init__(self, thresholds: Thresholds, *, dwell_seconds: float) -> None:
        self.retune(thresholds, dwell_seconds=dwell_seconds)
        self._since: dict[Level, int] = {}  # level other than ours -> when it, or one beyond it, began to be asked for
        self.level: Level | None = None

    def retune(self, thresholds: Thresholds, *, dwell_seconds: float) -> None:
        """Changes what levels are, from the next window on."""
        self._thresholds = thresholds
        self._dwell = round(dwell_seconds * SAMPLE_RATE)

    def push(self, stress: float, now: int) -> Level:
        """Takes in the rolling stress after a scored window and returns the level.

        Args:
            stress: rolling, 0..1.
            now: stream time of the window's end, samples; never less than before.
        """
        current = Level.LOW if self.level is None else self.level
        asked = self._thresholds.level(stress, current)
        self._since = {level: self._since.get(level, now) for level in _levels_between(current, asked)}
        held = [level for level, since in self._since.items() if now - since >= self._dwell]
        if held:
            current, self._since = held[-1], {}
        self.level = current
        return current


def _levels_between(current: Level, asked: Level) -> list[Level]:
    """The levels from the one next to the current one to the one asked for."""
    rising = list(Level)
    here, there = rising.index(current), rising.index(asked)
    return rising[here + 1 : there + 1] if there > here else rising[there:here][::-1]


@dataclass(frozen=True, slots=True)
class EpisodeReport:
    """An episode so far. Times are stream time in samples.

    Attributes:
        phase: start, update or end.
        level: the highest reached.
        start: end of the window with which it began.
        end: end of its last window with speech.
        peak: highest rolling stress, 0..1.
        mean: mean rolling stress over its windows with speech, 0..1.
    """

    phase: Phase
    level: Level
    start: int
    end: int
    peak: float
    mean: float


@dataclass(slots=True)
class _Open:
    """The episode that is open."""

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
    """Times at or above a level. Each starts once, is reported as it goes on, and ends once."""

    def __init__(self, settings: EpisodeSettings) -> None:
        self.retune(settings)
        self._open: _Open | None = None

    def retune(self, settings: EpisodeSettings) -> None:
        """Changes what makes an episode, from the next window on."""
        self._lowest = settings.level
        self._update = round(settings.update_seconds * SAMPLE_RATE)
        self._silence = round(settings.silence_seconds * SAMPLE_RATE)

    def speech(self, stress: float, level: Level, now: int) -> EpisodeReport | None:
        """Takes in a scored window.

        Args:
            stress: rolling, 0..1.
            level: of the stream.
            now: stream time of the window's end, samples.
        """
        if level.rank < self._lowest.rank:
            if self._open is not None:
                self._open.take(stress, level, now)
            return self.finish()
        begins = self._open is None
        if self._open is None:
            self._open = _Open(start=now, reported=now, end=now, level=level, peak=stress)
        self._open.take(stress, level, now)
        return self._open.report(Phase.START) if begins else self._due(self._open, now)

    def silence(self, now: int) -> EpisodeReport | None:
        """Takes in a window without speech that ends at `now`."""
        if self._open is None:
            return None
        if now - self._open.end >= self._silence:
            return self.finish()
        return self._due(self._open, now)

    def finish(self) -> EpisodeReport | None:
        """Ends the open episode, if there is one."""
        ended, self._open = self._open, None
        return None if ended is None else ended.report(Phase.END)

    def _due(self, episode: _Open, now: int) -> EpisodeReport | None:
        if now - episode.reported < self._update:
            return None
        episode.reported = now
        return episode.report(Phase.UPDATE)
