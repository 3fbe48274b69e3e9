"""Minutes: readings summed up by minute and source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_sser.events import Level, Reading

MINUTE_SECONDS: Final = 60


@dataclass(slots=True)
class OpenMinute:
    """A minute that readings are added to.

    Attributes:
        minute: its start, unix seconds.
        readings: number of readings.
        level: the highest with speech; None without speech.
    """

    minute: int
    readings: int = 0
    level: Level | None = None
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
        if reading.level is not None and (self.level is None or reading.level.rank > self.level.rank):
            self.level = reading.level

    def row(self) -> tuple[int, int, float, float | None, float | None, str | None]:
        """Returns minute, readings, speech, mean, max and level, as the table `minutes` holds them."""
        mean = round(self._stress / self._scored, 4) if self._scored else None
        highest = self._max if self._scored else None
        level = None if self.level is None else self.level.value
        return self.minute, self.readings, round(self._speech / self.readings, 4), mean, highest, level


def start_of_minute(seconds: float) -> int:
    """Returns the start of the minute that a time lies in, both in unix seconds."""
    return int(seconds // MINUTE_SECONDS) * MINUTE_SECONDS
