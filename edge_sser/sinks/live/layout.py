"""Layout of the live view: its state as rows of styled text for a terminal of any size."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import groupby
from operator import itemgetter
from typing import Final

from rich.cells import set_cell_size

from edge_sser.events import Episode, Health, HealthState, Level, Phase, epoch_seconds
from edge_sser.pipeline.rolling import Thresholds
from edge_sser.sinks.live.row import Row
from edge_sser.sinks.live.state import CELL_SECONDS, Cell, SourceView, ViewState
from edge_sser.sinks.pause import PauseReason
from edge_sser.sinks.terminal import detail_text

NARROW_COLUMNS: Final = 60  # below it no gauge, loudness or share of speech
GAUGE_CELLS: Final = 16
NAME_CELLS: Final = 16  # at most
NOTICE_SECONDS: Final = 20.0  # a new message stands above the footer for this long
NOTICE_ROWS: Final = 3
LEVEL_CELLS: Final = 9  # "elevated", "no speech"
_LEVEL_STYLES: Final = {Level.LOW: "green", Level.ELEVATED: "yellow", Level.HIGH: "bold red"}
_WORD_STYLES: Final = {Level.LOW: "green", Level.ELEVATED: "bold yellow", Level.HIGH: "bold red reverse"}
_FAULT_STYLES: Final = {
    HealthState.MISSING: "bold red",
    HealthState.STALLED: "bold red",
    HealthState.PAUSED: "bold cyan",
    HealthState.SILENT: "yellow",
    HealthState.OVERRUN: "yellow",
}


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Characters of one alphabet; `bars` in rising order."""

    bars: str = "▁▂▃▄▅▆▇█"
    none: str = "·"
    full: str = "━"
    empty: str = "─"
    mark: str = "┃"
    dash: str = "–"
    arrows: str = "↑↓"


UNICODE: Final = Glyphs()
ASCII: Final = Glyphs(bars="_.-:=+*#", none=" ", full="=", empty="-", mark="|", dash="-", arrows="jk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Conditions of one frame.

    Attributes:
        columns: width of the terminal.
        rows: its height.
        now: monotonic seconds.
        clock: seconds since the epoch.
        scroll: rows of the body above the terminal's top.
        glyphs: that the terminal can show.
        keys: False when no key can be read.
        pauses: all that pauses listening.
        thresholds: returns those of a source; None when they are not known.
    """

    columns: int
    rows: int
    now: float
    clock: float
    scroll: int = 0
    glyphs: Glyphs = UNICODE
    keys: bool = True
    pauses: frozenset[PauseReason] = frozenset()
    thresholds: Callable[[str], Thresholds | None] = field(default=lambda _name: None)


def frame(state: ViewState, look: Look) -> tuple[list[Row], int]:
    """Returns the rows of the terminal, and the scroll position that was possible.

    The title stays at the top and the footer at the bottom; the body between them scrolls.
    """
    head, foot, body = [_title(state, look)], [_footer(state, look)], _body(state, look)
    if len(body) > look.rows - len(head) - len(foot):  # else the messages stand on the screen anyway
        foot = [*_notice(state, look), *foot]
    room = max(0, look.rows - len(head) - len(foot))
    scroll = min(look.scroll, max(0, len(body) - room))
    shown = [row() for row in body[scroll : scroll + room]]
    below = len(body) - scroll - len(shown)
    if below or scroll:
        foot[-1].add(f"  {scroll} above, {below} below" if scroll else f"  {below} more", style="dim")
    rows = [*head, *shown, *[Row()] * (room - len(shown)), *foot][-look.rows :]
    for row in rows:
        row.cut(look.columns)
    return rows, scroll


def clock_words(seconds: float, today: float) -> str:
    """Returns a local time of day, with the date in place of seconds when it is not today.

    Args:
        seconds: since the epoch.
        today: any time of today, likewise.
    """
    moment = time.localtime(seconds)
    same_day = moment[:3] == time.localtime(today)[:3]
    return time.strftime("%H:%M:%S" if same_day else "%d %b %H:%M", moment)


def sparkline(cells: list[Cell | None], glyphs: Glyphs) -> Row:
    """Returns one character a cell: its height the rolling stress, its colour the level, dim without speech."""
    line = Row()
    for style, group in groupby((_spark_cell(cell, glyphs) for cell in cells), key=itemgetter(1)):
        line.add("".join(glyph for glyph, _ in group), style=style)
    return line


def _spark_cell(cell: Cell | None, glyphs: Glyphs) -> tuple[str, str]:
    """Returns character and style."""
    if cell is None:
        return " ", ""
    if cell.value is None or cell.level is None:
        return glyphs.none, "dim"
    height = min(int(cell.value * len(glyphs.bars)), len(glyphs.bars) - 1)
    return glyphs.bars[height], _LEVEL_STYLES[cell.level] + ("" if cell.spoken else " dim")


def gauge(value: float | None, thresholds: Thresholds | None, level: Level | None, glyphs: Glyphs) -> Row:
    """Returns a bar from 0 to 1 with a mark at each threshold."""
    filled = 0 if value is None else round(value * GAUGE_CELLS)
    marks = () if thresholds is None else (thresholds.elevated, thresholds.high)
    places = {min(int(mark * GAUGE_CELLS), GAUGE_CELLS - 1) for mark in marks}
    full = "dim" if level is None else _LEVEL_STYLES[level]
    line, start = Row(), 0
    for place in [*sorted(places), GAUGE_CELLS]:
        split = min(max(filled, start), place)
        line.add(glyphs.full * (split - start), full).add(glyphs.empty * (place - split), "dim")
        line.add(glyphs.mark if place in places else "", "bold")
        start = place + 1
    return line


def _title(state: ViewState, look: Look) -> Row:
    clock = time.strftime("%H:%M:%S", time.localtime(look.clock))
    title = set_cell_size(" " + state.title, max(0, look.columns - len(clock) - 2))
    return Row(f"{title} {clock} ", "reverse")


def _footer(state: ViewState, look: Look) -> Row:
    if not look.keys:
        return Row(" Ctrl-C quit", style="dim")
    foot = Row()
    narrow = look.columns < NARROW_COLUMNS
    sort = "sort" if narrow else f"sort: {state.order.value}"
    scroll = "jk" if narrow else look.glyphs.arrows
    pause = "resume" if PauseReason.KEY in look.pauses else "pause"
    if PauseReason.COMMAND in look.pauses:  # the key neither made this pause nor ends it
        pause += " here"
    for key, word in (("q", "quit"), ("p", pause), ("s", sort), (scroll, "scroll")):
        foot.add(f" {key}", style="bold").add(f" {word} ", style="dim")
    return foot


def _notice(state: ViewState, look: Look) -> list[Row]:
    """Returns the newest message, wrapped, while it is new."""
    if not state.messages or look.now - state.messages[-1].at > NOTICE_SECONDS:
        return []
    lines = _wrap(state.messages[-1].text, look.columns - 1)
    return [Row(" " + line, "yellow") for line in lines[: min(NOTICE_ROWS, max(look.rows // 4, 1))]]


@lru_cache(maxsize=256)
def _wrap(text: str, width: int) -> tuple[str, ...]:
    """Wraps a message once, not with every frame."""
    return tuple(textwrap.wrap(text, max(width, 1))) or ("",)


def _body(state: ViewState, look: Look) -> list[Callable[[], Row]]:
    """Returns a function for each row: of hundreds, only those on the screen are made."""
    sources = state.ordered_sources(look.now)
    name_cells = max([len(source.name) for source in sources] + [6])
    name_cells = min(name_cells, NAME_CELLS if look.columns >= NARROW_COLUMNS else 10)
    rows: list[Callable[[], Row]] = [
        partial(_heads, name_cells, look),
        *(partial(_source_row, each, name_cells, look) for each in sources),
    ]
    faulty = [each.health for each in sources if each.health is not None and _is_worth_a_row(each.health)]
    rows += [row for health in faulty for row in _health_rows(health, name_cells, look)]
    lines = len(rows) + 1 + len(state.episodes) + len(state.messages)
    space: list[Callable[[], Row]] = (
        [Row] if lines + 4 < look.rows else []
    )  # only where nothing is pushed off the screen
    heading = partial(Row, " episodes", "bold") if state.episodes else partial(Row, " no episodes yet", "dim")
    rows += [*space, heading]
    rows += [partial(_episode_row, each, name_cells, look) for each in reversed(state.episodes.values())]
    if state.messages:
        rows += [*space, partial(Row, " messages", "bold")]
        for message in reversed(state.messages):
            lead = f" {clock_words(message.time, look.clock):8}  "
            for line in _wrap(message.text, look.columns - len(lead)):
                rows.append(partial(Row, lead + line))
                lead = " " * len(lead)
    return rows


def _is_worth_a_row(health: Health) -> bool:
    """Returns True for a fault, and for trouble beside a good state: hum, a channel left out, a full outbox."""
    return health.state is not HealthState.OK or bool(health.detail)


def _health_rows(health: Health, name_cells: int, look: Look) -> list[Callable[[], Row]]:
    """Returns the row of a state, and below it the rest of a long detail, which says what to do."""
    name, state = f" {_cut(health.source, name_cells)} ", health.state.value
    text = f"{state} since {clock_words(epoch_seconds(health.ts), look.clock)}{detail_text(health)}"
    first, *rest = _wrap(text, look.columns - len(name))
    style = _FAULT_STYLES.get(health.state, "yellow")
    indent = " " * len(name)
    return [
        lambda: Row(name).add(state, style=style).add(first.removeprefix(state), style="dim"),
        *(partial(Row, indent + line, style="dim") for line in rest),
    ]


def _spark_cells(name_cells: int, look: Look) -> int:
    wide = GAUGE_CELLS + 1 + 7 + 5 if look.columns >= NARROW_COLUMNS else 0
    return max(0, look.columns - 1 - name_cells - 1 - LEVEL_CELLS - 1 - 5 - wide - 1)


def _heads(name_cells: int, look: Look) -> Row:
    cells = _spark_cells(name_cells, look)
    past = f"-{round(cells * CELL_SECONDS) // 60}:{round(cells * CELL_SECONDS) % 60:02}"
    stress = "0..1"
    if look.columns >= NARROW_COLUMNS:
        stress = f"{'stress, 0 to 1':{5 + GAUGE_CELLS}} {'sound':>6} voice"
    row = Row(f" {'source':{name_cells}} {'level':{LEVEL_CELLS}} {stress} {past}", style="dim")
    row.add(f"{'now':>{max(0, cells - len(past))}}" if cells > len(past) + 4 else "")
    return row


def _source_row(source: SourceView, name_cells: int, look: Look) -> Row:
    reading = source.reading if source.is_current(look.now) else None
    faulty = source.health is not None and source.health.state is not HealthState.OK
    row = Row(f" {_cut(source.name, name_cells):{name_cells}} ")
    row.extend(_level_word(source, look))
    value = None if reading is None else reading.stress_rolling
    row.add(f" {f'{value:.2f}' if value is not None else look.glyphs.dash:4} ")
    if look.columns >= NARROW_COLUMNS:
        level = None if reading is None else reading.level
        row.extend(gauge(value, look.thresholds(source.name), level, look.glyphs))
        sound = "" if reading is None else f"{reading.dbfs:.0f} dB"
        voice = "" if reading is None else f"{reading.speech_ratio:.0%}"
        if reading is not None and reading.clipped:
            row.add("   CLIP", style="bold red")
        else:
            row.add(f" {sound:>6}", style="dim" if faulty else "")
        row.add(f" {voice:>4} ")
    return row.extend(sparkline(source.recent(_spark_cells(name_cells, look), look.now), look.glyphs))


def _level_word(source: SourceView, look: Look) -> Row:
    """Returns the level in words; without a present one, the reason."""
    if source.health is not None and source.health.state in _FAULT_STYLES:
        state = source.health.state
        return Row(f"{state.value:{LEVEL_CELLS}}", style=_FAULT_STYLES[state])
    if source.reading is None:
        return Row(f"{'waiting':{LEVEL_CELLS}}", style="dim")
    if not source.is_current(look.now):
        return Row(f"{'no data':{LEVEL_CELLS}}", style="bold red")
    level = source.reading.level
    if level is None:
        return Row(f"{'no speech':{LEVEL_CELLS}}", style="dim")
    return Row(level.value, style=_WORD_STYLES[level]).add(" " * (LEVEL_CELLS - len(level.value)), style="")


def _episode_row(episode: Episode, name_cells: int, look: Look) -> Row:
    begun = epoch_seconds(episode.ts) - (episode.end_s - episode.start_s)
    is_open = episode.phase is not Phase.END
    row = Row(f" {clock_words(begun, look.clock):8} {_cut(episode.source, name_cells):{name_cells}} ")
    row.add(episode.level.value, style=_LEVEL_STYLES[episode.level])
    row.add(" " * (LEVEL_CELLS - len(episode.level.value)) + f"{episode.duration_s:6.1f} s")
    if look.columns >= NARROW_COLUMNS:
        row.add(f"  peak {episode.peak:.2f}  mean {episode.mean:.2f}", style="dim")
    return row.add("  open", style="bold") if is_open else row


def _cut(text: str, cells: int) -> str:
    return text if len(text) <= cells else text[: cells - 1] + "~"
