"""Output for a person: the live view on a terminal, and plain lines."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from mqtt_rig import emit

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
)
from edge_sser.sinks.stdout import NonBlockingWriter
from edge_sser.sinks.terminal import LiveLog, LiveView, TextLines, text_line

MODEL = "sser-cnn@ab12cd34"
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


class Screen(NonBlockingWriter):
    """A terminal that understands the few control sequences of the live view, and can be stopped."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.encoding = encoding
        self.rows: list[str] = []
        self.stopped = False

    def flush(self, seconds: float = 0.0) -> bool:
        return not self.stopped

    def write(self, line: bytes) -> None:
        before, _, rest = line.decode(self.encoding).partition("\x1b[J")
        if before.endswith("F"):
            del self.rows[len(self.rows) - int(before.rpartition("[")[2][:-1]) :]
        self.rows += rest.split("\n")[:-1]


def test_the_view_says_stress_level_loudness_speech_and_the_last_episode():
    view = LiveView(Screen(), columns=lambda: 100, colour=False)
    for event in (STATUS, reading(clipped=True), episode(phase=Phase.END)):
        emit(view, event)
    text = "\n".join(view.lines())
    for part in (
        "edge-sser 0.1.0", MODEL, "desk", "0:00:21.0", "0.55 elevated", "now 0.62", "-27.4 dBFS", "CLIPPED", "74%",
        "episode ended: high", "peak 0.91",
    ):  # fmt: skip
        assert part in text


def test_silence_is_not_shown_as_calm():
    view = LiveView(Screen(), columns=lambda: 100, colour=False)
    emit(view, reading(stress=None, stress_rolling=None, level=None, confidence=None))
    text = "\n".join(view.lines())
    assert "no speech yet" in text
    assert "low" not in text


@pytest.mark.parametrize("state", [HealthState.STALLED, HealthState.MISSING, HealthState.PAUSED])
def test_figures_without_audio_are_those_of_a_time_that_is_named(state, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    view = LiveView(Screen(), columns=lambda: 100, colour=False)
    for event in (reading(), health(state=state)):
        emit(view, event)
    text = "\n".join(view.lines())
    monkeypatch.undo()
    time.tzset()
    assert "last reading at 12:04:05: 0.55 elevated" in text
    assert state.value in text
    assert "dBFS" not in text
    assert "now 0.62" not in text
    emit(view, health(state=HealthState.OK))
    assert "now 0.62" in "\n".join(view.lines())


def test_a_new_event_is_drawn_over_the_old_view():
    screen = Screen()
    view = LiveView(screen, columns=lambda: 100, colour=False)
    emit(view, reading(stress_rolling=0.11))
    first = len(screen.rows)
    emit(view, reading(stress_rolling=0.22))
    assert len(screen.rows) == first
    assert not any("0.11" in row for row in screen.rows)
    assert any("0.22" in row for row in screen.rows)


def test_log_lines_stay_above_the_view():
    screen = Screen()
    view = LiveView(screen, columns=lambda: 100, colour=False)
    emit(view, reading())
    shown = list(screen.rows)
    LiveLog(view).emit(logging.LogRecord("x", logging.WARNING, __file__, 1, "microphone %s is back", ("desk",), None))
    emit(view, reading())
    assert screen.rows == ["microphone desk is back", *shown]


def test_log_lines_of_other_threads_do_not_tear_the_view():
    screen = Screen()
    view = LiveView(screen, columns=lambda: 100, colour=False)
    threads = [threading.Thread(target=lambda: [view.print_above("a line") for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        emit(view, reading())
    for thread in threads:
        thread.join()
    emit(view, reading())
    assert screen.rows == ["a line"] * 800 + view.lines()


def test_a_terminal_that_was_stopped_shows_the_newest_when_it_goes_on():
    screen = Screen()
    view = LiveView(screen, columns=lambda: 100, colour=False)
    emit(view, reading(stress_rolling=0.11))
    before = list(screen.rows)
    screen.stopped = True
    emit(view, reading(stress_rolling=0.22))
    view.print_above("a line of the log")
    assert screen.rows == before
    screen.stopped = False
    emit(view, reading(stress_rolling=0.33))
    assert screen.rows[0] == "a line of the log"
    assert len(screen.rows) == len(before) + 1
    assert any("0.33" in row for row in screen.rows)


def test_no_line_is_wider_than_the_terminal_and_colours_do_not_count():
    screen = Screen()
    view = LiveView(screen, columns=lambda: 40, colour=True)
    for event in (STATUS, reading(), health(detail="x" * 100)):
        emit(view, event)
    widths = [len(row.replace("\x1b[33m", "").replace("\x1b[0m", "")) for row in screen.rows]
    assert max(widths) < 40
    assert any("\x1b[33m" in row for row in screen.rows)


def test_a_terminal_without_unicode_gets_ascii():
    screen = Screen("ascii")
    view = LiveView(screen, columns=lambda: 100, colour=False)
    emit(view, reading())
    "".join(screen.rows).encode("ascii")


@pytest.mark.parametrize("event", [reading(), reading(stress=None, level=None), episode(), health(), STATUS])
def test_every_event_is_one_plain_line(event):
    line = text_line(event)
    assert line.isprintable()
    assert line


@pytest.mark.parametrize("sink", [TextLines, LiveView])
def test_an_output_that_fails_is_one_error_for_the_user(sink):
    with open("/dev/full", "w") as full, pytest.raises(SinkError, match="standard output cannot be written"):
        emit(sink(NonBlockingWriter(full)), reading())
