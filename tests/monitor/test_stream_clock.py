"""Times of a live stream after stalls, busy moments, on slow and fast sound cards, and when the clock is set."""

from __future__ import annotations

from itertools import pairwise

import pytest

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.monitor.stream_clock import HOLD_SECONDS, SPAN_SECONDS, TICK_SECONDS, StreamClock

BLOCK_SECONDS = 0.1
RIGHT_SECONDS = 0.01
SOON_SECONDS = 12.0  # of audio, after which times are right again


class Stream:
    """A source on clocks of its own.

    Attributes:
        now: of the monotonic clock, seconds.
        ahead: of the wall clock against the monotonic one, seconds.
        heard: audio so far, seconds.
        times: that the events of all blocks got.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.ahead = 1_000_000.0
        self.heard = 0.0
        self.times: list[float] = []
        self.clock = StreamClock(clock=lambda: self.now, wall_clock=lambda: self.wall)
        self.clock.start(self.wall, live=True)

    @property
    def wall(self) -> float:
        return self.now + self.ahead

    def hear(self, seconds: float, pace: float = 1.0) -> None:
        """Gives audio; `pace` seconds pass for each second of it."""
        for _ in range(round(seconds / BLOCK_SECONDS)):
            self.now += pace * BLOCK_SECONDS
            self.heard += BLOCK_SECONDS
            self.clock.push(self.samples)
            self.times.append(self.clock.at(self.samples))

    def tell(self) -> None:
        """Makes an event that no audio brings, as health does."""
        self.times.append(self.clock.now(self.samples))

    @property
    def samples(self) -> int:
        return round(self.heard * SAMPLE_RATE)

    @property
    def late(self) -> float:
        """Lateness of the audio's time; that of events may wait for it."""
        return self.wall - self.clock.of_sample(self.samples)

    @property
    def event_late(self) -> float:
        return self.wall - self.times[-1]

    @property
    def runs_backwards(self) -> bool:
        return self.times != sorted(self.times)


def test_a_steady_stream_is_not_shifted() -> None:
    stream = Stream()
    stream.hear(60.0)
    assert stream.clock.shift == 0.0
    assert stream.late == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("stall", [3.0, 15.0, 3600.0])
def test_after_a_stall_the_time_is_right_at_once(stall: float) -> None:
    stream = Stream()
    stream.hear(5.0)
    stream.now += stall
    stream.hear(0.1)
    assert stream.late == pytest.approx(0.0, abs=RIGHT_SECONDS)
    stream.hear(30.0)
    assert stream.clock.shift == pytest.approx(stall, abs=RIGHT_SECONDS)


def test_audio_that_was_only_held_up_leaves_no_shift() -> None:
    stream = Stream()
    stream.hear(5.0)
    stream.now += 3.0  # busy: the source went on, and its audio waits
    stream.hear(3.0, pace=0.01)
    stream.hear(30.0)
    assert stream.late == pytest.approx(0.0, abs=0.1)
    assert stream.clock.shift == pytest.approx(0.0, abs=0.1)
    assert not stream.runs_backwards


def test_a_slow_sound_card_is_followed() -> None:
    stream = Stream()
    stream.hear(7200.0, pace=1.0 + 500e-6)
    assert abs(stream.late) < 0.6
    assert stream.clock.shift > 2.5


@pytest.mark.parametrize("parts_per_million", [20, 100, 500])
def test_a_fast_sound_card_is_followed(parts_per_million: int) -> None:
    stream = Stream()
    for _ in range(24):
        stream.hear(300.0, pace=1.0 - 1e-6 * parts_per_million)
        assert stream.late == pytest.approx(0.0, abs=0.03)
    assert stream.clock.shift == pytest.approx(-7.2e-3 * parts_per_million, abs=0.03)
    assert not stream.runs_backwards
    steps = [after - before for before, after in zip(stream.times, stream.times[1:], strict=False)]
    assert min(steps) > 0.0


def test_a_fast_sound_card_is_followed_over_a_stall_and_audio_that_was_held_up() -> None:
    stream = Stream()
    stream.hear(3600.0, pace=1.0 - 200e-6)
    stream.now += 15.0
    stream.hear(60.0)
    assert stream.event_late == pytest.approx(0.0, abs=0.03)
    stream.now += 3.0
    stream.hear(3.0, pace=0.01)
    stream.hear(60.0)
    assert stream.event_late == pytest.approx(0.0, abs=0.1)
    assert not stream.runs_backwards


def test_a_first_block_that_came_late_is_put_right_soon() -> None:
    stream = Stream()
    stream.now += 0.4  # the first block is dated by its arrival
    stream.clock.start(stream.wall - BLOCK_SECONDS, live=True)
    stream.hear(0.4, pace=0.0)
    stream.hear(SOON_SECONDS)
    assert stream.event_late == pytest.approx(0.0, abs=0.03)
    assert not stream.runs_backwards


def test_short_delays_change_nothing() -> None:
    stream = Stream()
    for _ in range(20):
        stream.hear(SPAN_SECONDS / 2)
        stream.now += 1.0
        stream.hear(1.0, pace=0.0)
    assert stream.clock.shift == 0.0


@pytest.mark.parametrize("pace", [0.001, 0.1, 0.9])
def test_audio_that_runs_ahead_is_left_alone_while_it_does(pace: float) -> None:
    stream = Stream()
    stream.hear(600.0, pace=pace)
    stream.now += 15.0
    stream.hear(5.0)
    assert stream.clock.shift == 0.0
    assert not stream.runs_backwards


@pytest.mark.parametrize("step", [0.7, 30.0, 86_400.0, 1e9])
def test_a_clock_that_is_set_forward_is_followed_at_once(step: float) -> None:
    stream = Stream()
    stream.hear(60.0)
    stream.ahead += step
    stream.hear(0.1)
    assert stream.event_late == pytest.approx(0.0, abs=RIGHT_SECONDS)
    stream.hear(60.0)
    assert stream.event_late == pytest.approx(0.0, abs=RIGHT_SECONDS)
    assert not stream.runs_backwards


@pytest.mark.parametrize("step", [0.3, 4.0, HOLD_SECONDS - 1.0])
def test_a_clock_that_is_set_back_is_waited_for(step: float) -> None:
    stream = Stream()
    stream.hear(60.0)
    before = stream.times[-1]
    stream.ahead -= step
    stream.hear(step / 2)
    stream.tell()
    assert before < stream.times[-1] < before + 2 * TICK_SECONDS * step / 2 / BLOCK_SECONDS
    stream.hear(step / 2 + 1.0 + TICK_SECONDS * step / BLOCK_SECONDS)
    assert stream.event_late == pytest.approx(0.0, abs=RIGHT_SECONDS)
    assert not stream.runs_backwards
    assert len(set(stream.times)) >= len(stream.times) - 1  # also while waiting, each block has a time of its own


@pytest.mark.parametrize("step", [HOLD_SECONDS + 1.0, 86_400.0])
def test_a_clock_that_is_set_back_far_is_followed_at_once(step: float) -> None:
    stream = Stream()
    stream.hear(60.0)
    count = len(stream.times)
    stream.ahead -= step
    stream.hear(30.0)
    assert stream.times[count] < stream.times[count - 1]
    assert stream.times[count:] == sorted(stream.times[count:])
    assert stream.event_late == pytest.approx(0.0, abs=RIGHT_SECONDS)


def test_a_clock_that_a_time_server_slews_is_followed() -> None:
    stream = Stream()
    for _ in range(600):
        stream.ahead -= 500e-6
        stream.hear(1.0)
        assert stream.event_late == pytest.approx(0.0, abs=RIGHT_SECONDS)
    assert not stream.runs_backwards


def test_after_the_machine_slept_the_time_is_right_at_once() -> None:
    stream = Stream()
    stream.hear(60.0)
    stream.ahead += 8 * 3600.0  # the monotonic clock sleeps too
    stream.hear(0.1)
    assert stream.event_late == pytest.approx(0.0, abs=RIGHT_SECONDS)
    stream.ahead += 60.0  # asleep, and the source delivers nothing for a while after it
    stream.now += 20.0
    stream.hear(0.1)
    assert stream.event_late == pytest.approx(0.0, abs=RIGHT_SECONDS)


def test_health_and_audio_keep_one_order() -> None:
    stream = Stream()
    stream.hear(10.0)
    stream.now += 3.0
    stream.tell()  # stalled
    assert stream.event_late == 0.0
    stream.now += 12.0
    stream.ahead -= 5.0
    stream.tell()
    stream.hear(3.0, pace=0.0)
    stream.tell()
    stream.hear(20.0)
    assert not stream.runs_backwards
    assert stream.event_late == pytest.approx(0.0, abs=0.1)


def test_an_event_amid_late_audio_does_not_push_readings_together() -> None:
    stream = Stream()
    stream.hear(5.0)
    stream.now += 0.4  # from here on each block is late, less than what is put right
    stream.hear(1.0)
    stream.times.append(stream.clock.amid(stream.samples))
    stream.hear(1.0)
    steps = [after - before for before, after in pairwise(stream.times)]
    assert sorted(steps) == pytest.approx([0.0, *[BLOCK_SECONDS] * (len(steps) - 1)], abs=1e-6)
    stream.now += 3.0  # no audio comes: then the moment counts
    stream.times.append(stream.clock.amid(stream.samples))
    assert stream.event_late == 0.0


def test_before_the_first_block_an_event_has_the_time_of_its_moment() -> None:
    stream = Stream()
    stream.hear(5.0)
    stream.now += 1.0
    stream.heard = 0.0
    stream.clock.start(stream.wall, live=True)
    stream.now += 1.0
    assert stream.clock.amid(0) == stream.wall


def test_the_next_opening_is_not_dated_before_the_last_one() -> None:
    stream = Stream()
    stream.hear(10.0)
    stream.ahead -= 4.0
    stream.tell()
    stream.heard = 0.0
    stream.clock.start(stream.wall, live=True)
    stream.hear(10.0)
    assert not stream.runs_backwards
    assert stream.event_late == pytest.approx(0.0, abs=0.1)
    stream.ahead -= 86_400.0  # while the source is away
    stream.heard = 0.0
    stream.clock.start(stream.wall, live=True)
    stream.hear(1.0)
    assert stream.event_late == pytest.approx(0.0, abs=0.1)


def test_a_recording_has_the_times_of_its_samples_alone() -> None:
    stream = Stream()
    stream.clock.start(5_000.0, live=False)
    assert stream.clock.at(SAMPLE_RATE) == 5_001.0
    stream.ahead += 3600.0
    assert stream.clock.now(2 * SAMPLE_RATE) == 5_002.0
    assert stream.clock.at(3 * SAMPLE_RATE) == 5_003.0
