"""State of the live view: the latest of each source, its recent minutes, episodes and messages. No terminal here."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from edge_sser.events import NO_AUDIO, Episode, Event, Health, Level, Phase, Reading, Status, epoch_seconds

CELL_SECONDS: Final = 5.0  # of audio in one cell of a sparkline
MAX_CELLS: Final = 720  # an hour a source
MAX_EPISODES: Final = 200
MAX_MESSAGES: Final = 100
STALE_SECONDS: Final = 3.0  # without a reading before figures are no longer shown, at least
STALE_INTERVALS: Final = 4.0  # likewise, in times of the interval between readings


class Order(Enum):
    """Order of the sources."""

    SETTINGS = "settings"
    STRESS = "stress"
    NAME = "name"


@dataclass(slots=True)
class Cell:
    """A few seconds of a sparkline.

    Attributes:
        number: time since the epoch in units of CELL_SECONDS.
        value: highest rolling stress, 0..1; None before the first speech.
        level: highest level; None likewise.
        spoken: True when a window had enough speech to be scored.
    """

    number: int
    value: float | None = None
    level: Level | None = None
    spoken: bool = False


@dataclass(slots=True)
class SourceView:
    """The latest of one source.

    Attributes:
        arrived: when the latest reading came, monotonic seconds.
        interval: between the last two readings, seconds of audio.
        cells: the recent past, the oldest first.
        episodes: number of episodes so far.
    """

    name: str
    reading: Reading | None = None
    arrived: float = 0.0
    time: float = 0.0
    interval: float = 0.0
    health: Health | None = None
    cells: deque[Cell] = field(default_factory=lambda: deque(maxlen=MAX_CELLS))
    episodes: int = 0

    def take(self, reading: Reading, now: float) -> None:
        """Takes in a reading at monotonic time `now`."""
        moment = epoch_seconds(reading.ts)
        if self.reading is not None:
            self.interval = max(0.0, moment - self.time)
        self.reading, self.arrived, self.time = reading, now, moment
        number = int(moment / CELL_SECONDS)
        if not self.cells or self.cells[-1].number != number:
            self.cells.append(Cell(number))
        cell = self.cells[-1]
        cell.spoken = cell.spoken or reading.stress is not None
        if reading.stress_rolling is not None and (cell.value is None or reading.stress_rolling > cell.value):
            cell.value = reading.stress_rolling
        if reading.level is not None and (cell.level is None or reading.level.rank > cell.level.rank):
            cell.level = reading.level

    def is_current(self, now: float) -> bool:
        """Returns True while the latest reading describes the present."""
        if self.reading is None or (self.health is not None and self.health.state in NO_AUDIO):
            return False
        return now - self.arrived <= max(STALE_SECONDS, STALE_INTERVALS * min(self.interval, STALE_SECONDS))

    def recent(self, count: int, now: float) -> list[Cell | None]:
        """Returns the last cells up to the present, None for a time without readings."""
        if not self.cells:
            return [None] * count
        by_number = {cell.number: cell for cell in self.cells}
        last = int((self.time + now - self.arrived) / CELL_SECONDS)
        if self.is_current(now):
            last = self.cells[-1].number
        return [by_number.get(number) for number in range(last - count + 1, last + 1)]


@dataclass(slots=True)
class Message:
    """A line of the log.

    Attributes:
        time: seconds since the epoch.
        at: monotonic seconds.
    """

    time: float
    at: float
    text: str


class ViewState:
    """All that a live view shows.

    Args:
        sources: names, in the order of the settings.

    Attributes:
        title: program, model and runtime.
        sources: by name.
        episodes: latest event of each episode by its id, the oldest first.
        messages: the oldest first.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self.title = "edge-sser"
        self.sources = {name: SourceView(name) for name in sources}
        self.episodes: dict[str, Episode] = {}
        self.messages: deque[Message] = deque(maxlen=MAX_MESSAGES)
        self.order = Order.SETTINGS

    def take(self, event: Event, now: float) -> None:
        """Takes in an event at monotonic time `now`."""
        if isinstance(event, Status):
            runtime = event.provider.removesuffix("ExecutionProvider")
            self.title = f"edge-sser {event.version}  {event.model}  {runtime}"
            return
        source = self.sources.setdefault(event.source, SourceView(event.source))
        if isinstance(event, Reading):
            source.take(event, now)
            self._prolong(event)
        elif isinstance(event, Health):
            source.health = event
        else:
            source.episodes += event.id not in self.episodes
            self.episodes[event.id] = event
            if len(self.episodes) > MAX_EPISODES:
                ended = (key for key, each in self.episodes.items() if each.phase is Phase.END)
                self.episodes.pop(next(ended, next(iter(self.episodes))))

    def _prolong(self, reading: Reading) -> None:
        """Brings the open episode of a source up to a reading with speech: its next event may be long in coming."""
        latest = next((each for each in reversed(self.episodes.values()) if each.source == reading.source), None)
        if latest is None or latest.phase is Phase.END or reading.stress is None:
            return
        if reading.stress_rolling is None or reading.level is None:
            return
        self.episodes[latest.id] = replace(
            latest,
            ts=reading.ts,
            end_s=reading.end_s,
            duration_s=reading.end_s - latest.start_s,
            level=max(latest.level, reading.level, key=lambda level: level.rank),
            peak=max(latest.peak, reading.stress_rolling),
        )

    def ordered_sources(self, now: float) -> list[SourceView]:
        """Returns the sources in the chosen order; by stress, those without a present value come last."""
        sources = list(self.sources.values())
        if self.order is Order.NAME:
            sources.sort(key=lambda source: source.name)
        elif self.order is Order.STRESS:
            sources.sort(key=lambda source: -_stress(source, now))
        return sources


def _stress(source: SourceView, now: float) -> float:
    if source.reading is None or source.reading.stress_rolling is None or not source.is_current(now):
        return -1.0
    return source.reading.stress_rolling
