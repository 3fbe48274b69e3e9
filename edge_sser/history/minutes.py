"""Minutes: readings summed up by minute and source. A reading stands for one hop of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from edge_sser.events import Level, Reading

MINUTE_SECONDS: Final = 60
HOP_SECONDS: Final = 0.5  # between two readings, unless the settings say otherwise


@dataclass(slots=True)
class OpenMinute:
    """A minute that readings are added to.

    Attributes:
        minute: its start, unix seconds.
        hop_seconds: between two readings.
        readings: number of readings.
        level: the highest with speech; None without speech.
    """

    minute: int
    hop_seconds: float
    readings: int = 0
    level: Level | None = None
    _at_level: dict[Level, int] = field(default_factory=lambda: dict.fromkeys(Level, 0))
    _speech: float = 0.0
    _scored: int = 0
    _stress: float = 0.0
    _max: float = 0.0

    def add(self, reading: Reading) -> None:
        """Adds a reading."""
        self.readings += 1
        self._speech += reading.speech_ratio
        if reading.stress is None or reading.stress_rolling is None:
            return  # without speech the rolling stress and the level only stand still
        self._scored += 1
        self._stress += reading.stress_rolling
        self._max = max(self._max, reading.stress_rolling)
        if reading.level is not None:
            self._at_level[reading.level] += 1
            if self.level is None or reading.level.rank > self.level.rank:
                self.level = reading.level

    def row(self) -> tuple[int | float | str | None, ...]:
        """Returns the values of the table `minutes`, in its order, without the source."""
        mean = round(self._stress / self._scored, 4) if self._scored else None
        highest = self._max if self._scored else None
        level = None if self.level is None else self.level.value
        seconds = [round(count * self.hop_seconds, 3) for count in (self.readings, *self._at_level.values())]
        return self.minute, self.readings, round(self._speech / self.readings, 4), mean, highest, level, *seconds


def start_of_minute(seconds: float) -> int:
    """Returns the start of the minute that a time lies in, both in unix seconds."""
    return int(seconds // MINUTE_SECONDS) * MINUTE_SECONDS
