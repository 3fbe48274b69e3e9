"""Times of a live stream after stalls, busy moments and slow sound cards."""

from __future__ import annotations

import pytest

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.monitor.stream_clock import SPAN_SECONDS, StreamClock

BLOCK_SECONDS = 0.1


class Stream:
    """A source on a clock of its own."""

    def __init__(self) -> None:
        self.clock = StreamClock()
        self.now = 100.0
        self.heard = 0.0

    def hear(self, seconds: float, pace: float = 1.0) -> None:
        """Gives audio; `pace` seconds pass for each second of it."""
        for _ in range(round(seconds / BLOCK_SECONDS)):
            self.now += pace * BLOCK_SECONDS
            self.heard += BLOCK_SECONDS
            self.clock.push(round(self.heard * SAMPLE_RATE), self.now)

    @property
    def late(self) -> float:
        return self.now - 100.0 - self.heard - self.clock.shift


def test_a_steady_stream_is_not_shifted() -> None:
    stream = Stream()
    stream.hear(60.0)
    assert stream.clock.shift == 0.0


@pytest.mark.parametrize("stall", [3.0, 15.0, 3600.0])
def test_after_a_stall_the_time_is_right_at_once(stall: float) -> None:
    stream = Stream()
    stream.hear(5.0)
    stream.now += stall
    stream.hear(0.1)
    assert stream.late == pytest.approx(0.0, abs=0.01)
    stream.hear(30.0)
    assert stream.clock.shift == pytest.approx(stall, abs=0.01)


def test_audio_that_was_only_held_up_leaves_no_shift() -> None:
    stream = Stream()
    stream.hear(5.0)
    stream.now += 3.0  # busy: the source went on, and its audio waits
    stream.hear(3.0, pace=0.01)
    stream.hear(30.0)
    assert stream.late == pytest.approx(0.0, abs=0.1)
    assert stream.clock.shift == pytest.approx(0.0, abs=0.1)


def test_a_slow_sound_card_is_followed() -> None:
    stream = Stream()
    stream.hear(7200.0, pace=1.0 + 500e-6)
    assert abs(stream.late) < 0.6
    assert stream.clock.shift > 2.5


def test_short_delays_change_nothing() -> None:
    stream = Stream()
    for _ in range(20):
        stream.hear(SPAN_SECONDS / 2)
        stream.now += 1.0
        stream.hear(1.0, pace=0.0)
    assert stream.clock.shift == 0.0


def test_audio_that_runs_ahead_is_left_alone() -> None:
    stream = Stream()
    stream.hear(600.0, pace=0.001)
    stream.now += 15.0
    stream.hear(5.0)
    assert stream.clock.shift == 0.0
