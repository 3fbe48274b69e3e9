"""Events for a person: a view on a terminal that updates itself, or plain lines."""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from edge_sser.errors import SinkError
from edge_sser.events import NO_AUDIO, Episode, Event, Health, HealthState, Level, Phase, Reading, Status
from edge_sser.sinks.base import Sink
from edge_sser.sinks.stdout import NonBlockingWriter, WriterSink

BAR_CELLS = 24
MAX_LOG_LINES: Final = 100  # queued for a terminal that has been stopped, before the oldest go
QUIETEST_DBFS = -60.0  # left end of the level meter
_COLOURS = {Level.LOW: "32", Level.ELEVATED: "33", Level.HIGH: "31"}  # ANSI: green, yellow, red
_COLOUR_SEQUENCE = re.compile(r"(\x1b\[[0-9]+m)")
_CURSOR_UP = "\x1b[{}F"
_CLEAR_BELOW = "\x1b[J"
_HIDE_CURSOR = "\x1b[?25l"
_SHOW_CURSOR = "\x1b[?25h"


def text_line(event: Event) -> str:
    """Returns an event as one line of text for a person."""
    if isinstance(event, Reading):
        stress = "no speech" if event.stress is None else f"stress {event.stress:.2f}"
        rolling = "" if event.stress_rolling is None else f"  rolling {event.stress_rolling:.2f}"
        level = "" if event.level is None else f"  {event.level.value}"
        clipped = "  clipped" if event.clipped else ""
        return (
            f"{event.source}  {clock_text(event.end_s)}  {event.dbfs:6.1f} dBFS{clipped}  "
            f"speech {event.speech_ratio:4.0%}  {stress}{rolling}{level}"
        )
    if isinstance(event, Episode):
        return f"{event.source}  {clock_text(event.end_s)}  {_episode_text(event)}"
    if isinstance(event, Health):
        return f"{event.source}  {_health_text(event)}"
    return f"{event.node}  {event.state.value}  edge-sser {event.version}  {event.model}  {event.provider}"


def clock_text(seconds: float) -> str:
    """Returns a position in the audio as hours, minutes and seconds.

    Examples:
        >>> clock_text(3675.5)
        '1:01:15.5'
    """
    tenths = round(seconds * 10)
    hours, minutes = tenths // 36_000, tenths // 600 % 60
    return f"{hours}:{minutes:02}:{tenths % 600 / 10:04.1f}"


class TextLines(WriterSink):
    """Events as plain lines, for a log or a pipe that a person reads."""

    def emit(self, event: Event, line: bytes) -> None:
        """Writes one line."""
        self._writer.write_text(text_line(event) + "\n")


@dataclass(slots=True)
class _SourceView:
    """The latest events of one source."""

    reading: Reading | None = None
    episode: Episode | None = None
    health: Health | None = None


class LiveView(Sink):
    """A few lines on a terminal for each source, redrawn with each event.

    A terminal that has been stopped (Ctrl-S) is redrawn when it continues.
    """

    def __init__(
        self,
        writer: NonBlockingWriter,
        *,
        columns: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
        colour: bool | None = None,
    ) -> None:
        """Takes over the lines below the cursor.

        Args:
            writer: to a terminal that knows ANSI control sequences.
            columns: returns the terminal's width; called for every redraw.
            colour: None for colour unless the environment has NO_COLOR.
        """
        self._writer = writer
        self._columns = columns
        self._colour = "NO_COLOR" not in os.environ if colour is None else colour
        self._plain = not _can_encode(writer.encoding, "█░")
        self._title = ""
        self._sources: dict[str, _SourceView] = {}
        self._drawn_lines = 0
        self._lines_above: deque[str] = deque(maxlen=MAX_LOG_LINES)
        self._closed = False
        self._lock = threading.RLock()  # log lines come from threads of their own

    def emit(self, event: Event, line: bytes) -> None:
        """Redraws the view with an event."""
        with self._lock:
            self._update(event)
            self._draw()

    def _update(self, event: Event) -> None:
        if isinstance(event, Status):
            self._title = f"edge-sser {event.version}  {event.model}  {event.provider}  {event.state.value}"
        else:
            view = self._sources.setdefault(event.source, _SourceView())
            if isinstance(event, Reading):
                view.reading = event
            elif isinstance(event, Episode):
                view.episode = event
            else:
                view.health = event

    def print_above(self, line: str) -> None:
        """Prints a line above the view, where it stays."""
        with self._lock:
            self._lines_above.append(line)
            self._draw()

    def close(self) -> None:
        """Keeps the last view on the terminal and shows the cursor again."""
        with self._lock, suppress(SinkError):  # a terminal that has gone needs no cursor
            if not self._closed:
                self._closed = True
                if self._drawn_lines:
                    self._writer.write_text(_SHOW_CURSOR)
                self._writer.close()

    def lines(self) -> list[str]:
        """Returns the lines of the view, without control sequences for the cursor."""
        out = [self._title] if self._title else []
        for name, view in self._sources.items():
            out += self._source_lines(name, view)
        return out

    def _source_lines(self, name: str, view: _SourceView) -> list[str]:
        out = []
        reading = view.reading
        if reading is None:
            out.append(f"{name}: waiting for the first 3 s of audio")
        elif view.health is not None and view.health.state in NO_AUDIO:
            level = "no speech" if reading.level is None else f"{reading.stress_rolling:.2f} {reading.level.value}"
            out += [f"{name}  {clock_text(reading.end_s)}", f"  last reading at {_local_time(reading.ts)}: {level}"]
        else:
            rolling = reading.stress_rolling
            words = "no speech yet" if rolling is None or reading.level is None else ""
            if rolling is not None and reading.level is not None:
                now = "silence" if reading.stress is None else f"now {reading.stress:.2f}"
                words = f"{rolling:.2f} {self._coloured(reading.level)}  ({now})"
            meter = 1.0 - reading.dbfs / QUIETEST_DBFS
            clipped = "  CLIPPED" if reading.clipped else ""
            out += [
                f"{name}  {clock_text(reading.end_s)}",
                f"  stress  {self._bar(rolling or 0.0)}  {words}",
                f"  sound   {self._bar(meter)}  {reading.dbfs:.1f} dBFS{clipped}",
                f"  speech  {self._bar(reading.speech_ratio)}  {reading.speech_ratio:.0%}",
            ]
        if view.episode is not None:
            out.append(f"  {_episode_text(view.episode)}")
        if view.health is not None and (view.health.state is not HealthState.OK or view.health.detail):
            out.append(f"  {_health_text(view.health)}")
        return out

    def _bar(self, share: float) -> str:
        full, empty = ("#", ".") if self._plain else ("█", "░")
        cells = round(min(max(share, 0.0), 1.0) * BAR_CELLS)
        return full * cells + empty * (BAR_CELLS - cells)

    def _coloured(self, level: Level) -> str:
        return f"\x1b[{_COLOURS[level]}m{level.value}\x1b[0m" if self._colour else level.value

    def _draw(self) -> None:
        if self._closed or not self._writer.flush():
            return
        columns = self._columns()
        lines = [_cut(line, columns) for line in self.lines()]
        move = _CURSOR_UP.format(self._drawn_lines) if self._drawn_lines else _HIDE_CURSOR
        self._writer.write_text(move + _CLEAR_BELOW + "".join(f"{line}\n" for line in (*self._lines_above, *lines)))
        self._lines_above.clear()
        self._drawn_lines = len(lines)


class LiveLog(logging.Handler):
    """Log handler that prints above a live view, so that log lines do not tear it."""

    def __init__(self, view: LiveView) -> None:
        super().__init__()
        self._view = view

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the record."""
        with suppress(SinkError):  # the terminal has gone: no place is left for the message
            self._view.print_above(self.format(record))


def _local_time(ts: str) -> str:
    return datetime.fromisoformat(ts.replace("Z", "+00:00")).astimezone().strftime("%H:%M:%S")


def _episode_text(episode: Episode) -> str:
    words = "ended" if episode.phase is Phase.END else "open"
    return (
        f"episode {words}: {episode.level.value} from {clock_text(episode.start_s)}, {episode.duration_s:.1f} s, "
        f"peak {episode.peak:.2f}, mean {episode.mean:.2f}"
    )


def _health_text(health: Health) -> str:
    lost = f", {health.dropped_s:.1f} s of audio lost" if health.dropped_s else ""
    return f"{health.state.value}{lost}" + (f": {health.detail}" if health.detail else "")


def _cut(line: str, columns: int) -> str:
    """Cuts a line to a terminal's width, colours not counted: a line that wraps would be overwritten wrongly."""
    room = max(columns - 1, 0)
    parts = []
    for part in _COLOUR_SEQUENCE.split(line):
        if not part.startswith("\x1b"):
            part = part[:room]
            room -= len(part)
        parts.append(part)
    return "".join(parts)


def _can_encode(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True
