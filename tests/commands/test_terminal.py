"""Output for a person: the layout of the live view, its screen, and plain lines."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import time
from dataclasses import replace

import pyte
import pytest
from mqtt_rig import emit, eventually

from edge_sser.daemon.session import PAUSED_DETAILS
from edge_sser.errors import SinkError
from edge_sser.events import (
    BaselineState,
    Episode,
    Health,
    HealthState,
    Level,
    Phase,
    Reading,
    Status,
    StatusState,
    epoch_seconds,
    timestamp,
)
from edge_sser.pipeline.rolling import Thresholds
from edge_sser.sinks.live.layout import ASCII, Look, clock_words, frame
from edge_sser.sinks.live.row import Row
from edge_sser.sinks.live.screen import Screen
from edge_sser.sinks.live.state import CELL_SECONDS, STALE_SECONDS, Order, ViewState
from edge_sser.sinks.live.view import LiveView
from edge_sser.sinks.pause import PauseReason
from edge_sser.sinks.stdout import NonBlockingWriter
from edge_sser.sinks.terminal import TextLines, text_line

MODEL = "sser-cnn@ab12cd34"
KEY, COMMAND = frozenset({PauseReason.KEY}), frozenset({PauseReason.COMMAND})
TS = "2026-01-02T03:04:05.678Z"


def reading(**changes) -> Reading:
    values = {
        "id": "cab/desk/000001", "node": "cab", "source": "desk", "ts": TS, "start_s": 18.0, "end_s": 21.0,
        "speech_ratio": 0.74, "stress": 0.62, "stress_rolling": 0.55, "level": Level.ELEVATED, "confidence": 0.24,
        "dbfs": -27.4, "clipped": False, "latency_ms": None, "dropped_s": 0.0, "baseline": BaselineState.READY,
        "baseline_shift": 0.1, "model": MODEL,
    }  # fmt: skip
    return Reading(**(values | changes))


def episode(**changes) -> Episode:
    values = {
        "phase": Phase.UPDATE, "id": "cab/desk/x", "node": "cab", "source": "desk", "ts": TS, "level": Level.HIGH,
        "start_s": 4.0, "end_s": 14.5, "duration_s": 10.5, "peak": 0.91, "mean": 0.78,
        "evidence_s": 2.0, "declared_s": 4.0, "model": MODEL,
    }  # fmt: skip
    return Episode(**(values | changes))


def health(**changes) -> Health:
    values = {
        "node": "cab", "source": "desk", "ts": TS, "state": HealthState.OVERRUN, "detail": "too slow",
        "read_s": 9.0, "processed_s": 8.0, "dropped_s": 1.0, "overruns": 2,
    }  # fmt: skip
    return Health(**(values | changes))


STATUS = Status(
    node="cab", ts=TS, state=StatusState.ONLINE, version="0.1.0", model=MODEL, provider="CPU", host="h"
)  # fmt: skip


LOOK = Look(
    columns=80,
    rows=24,
    now=100.0,
    clock=epoch_seconds(TS),
    thresholds=lambda name: Thresholds(elevated=0.35, high=0.8, hysteresis=0.1),
)


def state(*events, sources: tuple[str, ...] = ("desk",), now: float = LOOK.now) -> ViewState:
    made = ViewState(sources)
    for event in events:
        made.take(event, now)
    return made


def shown(view: ViewState, **changes) -> list[str]:
    """The rows of the terminal as text."""
    rows, _ = frame(view, replace(LOOK, **changes))
    return [row.plain for row in rows]


def row_of(name: str, rows: list[str]) -> str:
    return next(row for row in rows[2:] if row.startswith(f" {name} "))


def test_a_source_is_one_row_with_level_value_loudness_and_voice():
    rows = shown(state(STATUS, reading(), episode(phase=Phase.END)))
    assert rows[0].startswith(f" edge-sser 0.1.0  {MODEL}  CPU")
    assert rows[0].endswith(f"{clock_words(LOOK.clock, LOOK.clock)} ")
    row = row_of("desk", rows)
    for part in ("elevated", "0.55", "-27 dB", "74%"):
        assert part in row
    (line,) = [row for row in rows if "peak 0.91" in row]
    assert "high" in line
    assert "10.5 s" in line
    assert "open" not in line
    assert "q quit  p pause  s sort: settings" in rows[-1]


def test_the_gauge_marks_the_thresholds_and_is_filled_up_to_the_value():
    row = row_of("desk", shown(state(reading(stress_rolling=0.55))))
    gauge = row[row.index("0.55") + 5 :][:16]
    assert gauge == "━━━━━┃━━━───┃───"


def test_clipping_is_said():
    assert "CLIP" in row_of("desk", shown(state(reading(clipped=True))))


def test_silence_is_not_shown_as_calm():
    row = row_of("desk", shown(state(reading(stress=None, stress_rolling=None, level=None, confidence=None))))
    assert "no speech" in row
    assert "low" not in row


def test_a_source_without_a_reading_waits():
    assert "waiting" in row_of("desk", shown(state()))


@pytest.mark.parametrize("fault", [HealthState.MISSING, HealthState.STALLED, HealthState.PAUSED])
def test_figures_of_a_source_without_sound_are_not_shown_as_present(fault):
    rows = shown(state(reading(), health(state=fault, detail="plug it in")))
    row = row_of("desk", rows)
    assert fault.value in row
    for part in ("elevated", "0.55", "dB", "74%"):
        assert part not in row
    assert any(f"{fault.value} since" in other and "plug it in" in other for other in rows)


def test_trouble_beside_a_good_state_has_a_row_too():
    rows = shown(state(reading(), health(state=HealthState.OK, detail="the sound is mostly mains hum (50 Hz)")))
    assert "elevated" in row_of("desk", rows)
    assert any("ok since" in row and "mains hum" in row for row in rows)


def test_figures_that_are_old_are_not_shown_as_present():
    view = state(reading())
    assert "0.55" in row_of("desk", shown(view, now=LOOK.now + STALE_SECONDS - 0.1))
    row = row_of("desk", shown(view, now=LOOK.now + STALE_SECONDS + 0.1))
    assert "no data" in row
    assert "0.55" not in row


def test_the_sparkline_shows_the_past_at_its_place_and_uses_the_width():
    view = ViewState(["desk"])
    for second, value in ((0, 0.05), (1, 0.95), (5, 0.05), (15, 0.5)):
        moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(1_767_323_040 + second))
        view.take(reading(ts=moment, stress_rolling=value), LOOK.now)
    assert row_of("desk", shown(view)).endswith("█▁ ▅")  # the highest of 5 s; nothing came in the third cell
    late = shown(view, now=LOOK.now + STALE_SECONDS + 2 * CELL_SECONDS)
    assert row_of("desk", late).endswith("█▁ ▅  ")
    for columns in (60, 80, 200):
        assert len(row_of("desk", shown(view, columns=columns))) == columns - 1


def test_sources_sort_by_stress_and_those_without_a_present_value_come_last():
    names = ("b", "a", "c")
    view = state(
        reading(source="b", stress_rolling=0.1),
        reading(source="c", stress_rolling=0.9),
        reading(source="a"),
        health(source="a", state=HealthState.MISSING),
        sources=names,
    )

    def order() -> list[str]:
        return [row[1] for row in shown(view)[2:5]]

    assert order() == ["b", "a", "c"]
    view.order = Order.STRESS
    assert order() == ["c", "b", "a"]
    view.order = Order.NAME
    assert order() == ["a", "b", "c"]


@pytest.mark.parametrize("columns", [1, 10, 40, 59, 60, 80, 200])
@pytest.mark.parametrize("rows", [1, 3, 10, 24])
def test_a_frame_fits_any_terminal(columns, rows):
    view = state(STATUS, reading(), episode(), health(detail="x" * 100))
    lines = shown(view, columns=columns, rows=rows)
    assert len(lines) == rows
    assert max(map(len, lines)) <= columns


def test_sixteen_sources_and_episodes_fit_a_terminal_of_80_by_24():
    names = tuple(f"cabin-{number:02}" for number in range(16))
    view = state(STATUS, *(reading(source=name) for name in names), episode(source="cabin-03"), sources=names)
    rows = shown(view)
    assert all(row_of(name, rows) for name in names)
    assert any("peak 0.91" in row for row in rows)


def test_the_body_scrolls_between_title_and_footer():
    names = tuple(f"s{number:02}" for number in range(40))
    view = state(STATUS, *(reading(source=name) for name in names), sources=names)
    top, bottom = shown(view), shown(view, scroll=10_000)
    assert "s00" in top[2]
    assert top[0] == bottom[0]
    assert any(row.startswith(" s39 ") for row in bottom)
    assert "19 more" in top[-1] or " more" in top[-1]
    assert " above, 0 below" in bottom[-1]


def test_a_wide_character_takes_two_cells():
    row = Row("日本語").add("abc")
    row.cut(7)
    assert row.plain == "日本語a"
    row.cut(3)
    assert row.plain == "日 "


def test_an_alphabet_without_unicode_is_enough():
    view = state(STATUS, reading(), episode(), health())
    "".join(shown(view, glyphs=ASCII)).encode("ascii")


class Terminal:
    """A pseudo-terminal, and what it shows."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.mine, self.its = pty.openpty()
        self.resize(columns, rows)
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.writer = NonBlockingWriter(os.fdopen(self.its, "wb", buffering=0, closefd=False))

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> int:
        """Takes in what was written, and returns its size."""
        time.sleep(0.05)
        data = os.read(self.mine, 65_536)
        self.stream.feed(data)
        return len(data)


def test_only_rows_that_changed_are_sent():
    terminal = Terminal()
    screen = Screen(terminal.writer, terminal.its)
    screen.enter()
    rows = [Row(f"row {number}", "green") for number in range(24)]
    screen.draw(rows)
    assert terminal.read() > 200
    assert terminal.screen.display[5].rstrip() == "row 5"
    rows[5] = Row("other")
    screen.draw(rows)
    assert terminal.read() < 30
    assert terminal.screen.display[5].rstrip() == "other"
    assert terminal.screen.buffer[4][0].fg == "green"
    screen.leave()
    terminal.read()
    assert not terminal.screen.cursor.hidden
    screen.close()


def test_no_color_leaves_the_words_and_drops_the_colours(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    screen = Screen(terminal.writer, terminal.its)
    screen.draw([Row("high", "bold red reverse")])
    terminal.read()
    cell = terminal.screen.buffer[0][0]
    assert (cell.data, cell.fg, cell.reverse) == ("h", "default", True)
    screen.close()


def test_a_terminal_that_takes_nothing_holds_up_no_event_and_no_end():
    terminal = Terminal()
    view = LiveView(terminal.writer, ["desk"], output_fd=terminal.its)
    os.set_blocking(terminal.its, False)
    with open("/dev/zero", "rb") as zeros:
        while True:  # until the terminal is full
            try:
                os.write(terminal.its, zeros.read(4096))
            except BlockingIOError:
                break
    os.set_blocking(terminal.its, True)
    for _ in range(1000):
        emit(view, reading())
    terminal.writer.close = lambda: None  # the sink's own wait for a reader
    view.close()


@pytest.mark.parametrize("event", [reading(), reading(stress=None, level=None), episode(), health(), STATUS])
def test_every_event_is_one_plain_line(event):
    line = text_line(event)
    assert line.isprintable()
    assert line


def test_an_output_that_fails_is_one_error_for_the_user():
    with open("/dev/full", "w") as full, pytest.raises(SinkError, match="standard output cannot be written"):
        emit(TextLines(NonBlockingWriter(full)), reading())


def test_a_terminal_that_has_gone_is_one_error_for_the_user():
    def fails() -> bool:
        with pytest.raises(SinkError, match="standard output cannot be written"):
            emit(view, reading())
        return True

    with open("/dev/full", "w") as full:
        view = LiveView(NonBlockingWriter(full), ["desk"], output_fd=full.fileno())
        emit(view, reading())
        eventually(lambda: view.failure is not None, "the view notices")
        assert fails()
        view.close()


def test_a_pause_names_all_that_ends_it_and_the_key_says_what_it_does():
    words = {frozenset(): "p pause ", KEY: "p resume ", COMMAND: "p pause here ", KEY | COMMAND: "p resume here "}
    for reasons, word in words.items():
        assert word in shown(state(), pauses=reasons)[-1]
    paused = health(state=HealthState.PAUSED, detail=PAUSED_DETAILS[KEY | COMMAND])
    rows = shown(state(paused, sources=("desk",)), columns=60)
    start = next(number for number, row in enumerate(rows) if row.startswith(" desk") and "since" in row)
    told = [row.strip() for row in rows[start : start + 3]]
    assert "paused since" in told[0]
    assert " ".join(told).endswith("p is pressed again")  # in rows of its own, not cut off


def test_an_open_episode_counts_on_with_the_readings_until_it_ends():
    began = epoch_seconds(TS) - 10.5
    later = timestamp(epoch_seconds(TS) + 6.5)
    view = state(
        episode(level=Level.ELEVATED, peak=0.5),
        reading(ts=later, end_s=21.0, level=Level.HIGH, stress_rolling=0.97),
        reading(source="cab", end_s=90.0, level=Level.HIGH, stress_rolling=0.99),
    )
    (row,) = [line for line in shown(view) if line.endswith("open")]
    assert "high" in row
    assert "17.0 s" in row
    assert "peak 0.97" in row
    assert epoch_seconds(view.episodes["cab/desk/x"].ts) - 17.0 == pytest.approx(began, abs=1e-3)
    view.take(reading(end_s=40.0, stress=None, level=Level.HIGH, stress_rolling=0.9), LOOK.now)  # silence: not yet over
    assert view.episodes["cab/desk/x"].duration_s == 17.0
    view.take(episode(phase=Phase.END, end_s=18.0, duration_s=14.0, level=Level.HIGH), LOOK.now)
    view.take(reading(end_s=30.0), LOOK.now)
    assert not [line for line in shown(view) if line.endswith("open")]
    assert view.episodes["cab/desk/x"].duration_s == 14.0
