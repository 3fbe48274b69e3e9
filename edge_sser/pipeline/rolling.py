"""Smooths the stress of single windows and derives a level. Pure logic: time comes as samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import SettingsError
from edge_sser.events import Level
from edge_sser.settings.schema import RollingSettings


class Rolling:
    """Exponential average of stress over SPEECH time, so that pauses neither calm nor excite.

    The sum is divided by the weight gathered so far, so that the first values are not pulled towards zero (as in Kingma
    and Ba, "Adam", 2015, section 3).

    Attributes:
        time_constant_seconds: seconds of speech after which the past counts 1/e.
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
            speech_seconds: speech in the window's hop: the hop times the window's share of speech. More than 0.
        """
        # expm1, because 1 - exp(-x) loses all digits of a tiny x.
        gained = -math.expm1(-speech_seconds / self.time_constant_seconds)
        self._sum += gained * (stress - self._sum)
        self._weight += gained * (1.0 - self._weight)
        self.value = self._sum / self._weight
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Rolling stress at which levels begin.

    Attributes:
        elevated: stress at which the level becomes elevated, 0..1.
        high: stress at which the level becomes high, 0..1.
        hysteresis: how far below a threshold the rolling stress must fall to leave the level.
    """

    elevated: float
    high: float
    hysteresis: float

    @classmethod
    def of(cls, settings: RollingSettings, *, elevated: float, high: float, hysteresis: float) -> Thresholds:
        """Returns the thresholds of the settings, and the given ones where the settings have none.

        Args:
            settings: of the rolling stress.
            elevated: threshold where the settings have none.
            high: threshold where the settings have none.
            hysteresis: of both levels.

        Raises:
            SettingsError: together the thresholds do not rise, or the hysteresis is not below them.
        """
        if settings.elevated is not None:
            elevated = settings.elevated
        if settings.high is not None:
            high = settings.high
        if elevated >= high:
            raise SettingsError(
                f"rolling.elevated is {elevated:.3g} and rolling.high is {high:.3g} (one of them from the model's "
                "card): set both, elevated below high"
            )
        if hysteresis >= elevated:
            raise SettingsError(
                f"rolling.hysteresis is {hysteresis:g}, rolling.elevated {elevated:g}: no stress is low "
                "enough to become calm again; set the hysteresis below it"
            )
        return cls(elevated=elevated, high=high, hysteresis=hysteresis)

    @property
    def calm(self) -> float:
        """Rolling stress below which the level is left for low."""
        return self.elevated - self.hysteresis

    def level(self, stress: float, current: Level) -> Level:
        """Returns the level of a rolling stress. The hysteresis favours the current level."""
        high = self.high - (self.hysteresis if current is Level.HIGH else 0.0)
        elevated = self.elevated - (self.hysteresis if current is not Level.LOW else 0.0)
        if stress >= high:
            return Level.HIGH
        return Level.ELEVATED if stress >= elevated else Level.LOW


class Levels:
    """The level of a stream: low at first. Another level is adopted once the stress has held it for the dwell.

    Stress that wavers between elevated and high for a dwell has held elevated. Each change restarts every wait, so that
    two changes are never closer than the dwell.

    Attributes:
        level: None before the first speech.
    """

    def __init__(self, thresholds: Thresholds, *, dwell_seconds: float) -> None:
        self.retune(thresholds, dwell_seconds=dwell_seconds)
        self._since: dict[Level, int] = {}  # another level -> since when the stress has reached it or gone beyond
        self.level: Level | None = None

    def retune(self, thresholds: Thresholds, *, dwell_seconds: float) -> None:
        """Changes thresholds and dwell, from the next window on."""
        self._thresholds = thresholds
        self._dwell = round(dwell_seconds * SAMPLE_RATE)

    def push(self, stress: float, now: int) -> Level:
        """Takes in the rolling stress after a scored window and returns the level.

        Args:
            stress: rolling, 0..1.
            now: stream time of the window's end, samples; never less than before.
        """
        current = Level.LOW if self.level is None else self.level
        return self._hold(current, self._thresholds.level(stress, current), now)

    def fade(self, stress: float, now: int, *, long: bool) -> None:
        """Takes in the rolling stress after a window without speech: the level may only fall.

        Args:
            stress: rolling, 0..1.
            now: as in `push`.
            long: True after a long silence, which ends the hysteresis: the same stress would not be elevated anew.
        """
        current = self.level
        if current is None or current is Level.LOW:
            return
        target = self._thresholds.level(stress, Level.LOW if long else current)
        self._hold(current, min(target, current, key=lambda each: each.rank), now)

    def _hold(self, current: Level, target: Level, now: int) -> Level:
        """Adopts the level that has been held for the dwell on the way to `target`; returns the level in force."""
        if target is current:
            self._since = {}
        else:
            self._since = {level: self._since.get(level, now) for level in _levels_between(current, target)}
            held = [level for level, since in self._since.items() if now - since >= self._dwell]
            if held:
                current, self._since = held[-1], {}
        self.level = current
        return current


def _levels_between(current: Level, target: Level) -> list[Level]:
    """Returns the levels from the one next to `current` up or down to `target`, which is included."""
    rising = list(Level)
    here, there = rising.index(current), rising.index(target)
    return rising[here + 1 : there + 1] if there > here else rising[there:here][::-1]
