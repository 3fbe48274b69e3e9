"""Times of a source's events: sample counts, kept to the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from edge_sser.audio.source import SAMPLE_RATE

GAP_SECONDS: Final = 2.0  # between two blocks, from which on a source has stood still
SPAN_SECONDS: Final = 5.0  # over which the least lateness counts: a busy moment delays single blocks only
LATE_SECONDS: Final = 0.5  # lateness that is put right
EARLY_SECONDS: Final = 0.02  # earliness that is put right: a fast sound card gains so much in minutes
STEADY_SECONDS: Final = 0.1  # by which earliness may change in a span; more, and the source is no sound card
STEP_SECONDS: Final = 0.005  # by which the wall clock moves against the monotonic one before it counts as set
READ_SECONDS: Final = 0.002  # in which both clocks are read; more, and the thread was interrupted between them
HOLD_SECONDS: Final = 600.0  # by which the wall clock may be set back while times wait; less than any time zone
TICK_SECONDS: Final = 0.001  # between the times of different samples, at least


class StreamClock:
    """Wall-clock times of stream times, which never run backwards.

    A time is the wall clock's at the source's first sample, plus the audio since then, plus two corrections:

    - Samples that a source never delivered (a stall, a slow sound card) or delivered in excess (a fast one). The
      lateness of a block is the monotonic time since the first block, less the audio since then. It is put right at
      once after a gap, and when its least value over a span is large. Audio that was only held up comes faster than it
      lasts; then the correction is taken back as far. A block is late for many reasons, but early only when the sound
      card is fast, so a little earliness counts, once two spans agree on it. Audio that runs ahead of the clock, as
      through a pipe from a file, is left alone while it does.
    - Steps of the wall clock against the monotonic one: somebody, or a time server, set it; or the machine slept, and
      the monotonic clock with it.

    After a correction backwards, times wait for the wall clock: audio goes on by a millisecond a reading. Only when the
    wall clock is set back by more than `HOLD_SECONDS`, times follow it at once.

    Attributes:
        started_at: seconds since the epoch (UTC) of the source's first sample.
        shift: seconds of the first correction.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Prepares the times of a source. They are kept in order over all its openings.

        Args:
            clock: seconds on a clock that never goes back, and may stand still while the machine sleeps.
            wall_clock: seconds since the epoch.
        """
        self._clock = clock
        self._wall_clock = wall_clock
        self._offset: float | None = None  # of the wall clock against the other
        self._latest = float("-inf")
        self.start(0.0, live=False)

    def start(self, started_at: float, *, live: bool) -> None:
        """Begins an opening of the source.

        Args:
            started_at: see the attribute. A live source knows it with its first block only.
            live: True for audio that comes at its own pace; times of a recording are sample counts alone.
        """
        self.started_at = started_at
        self.shift = 0.0
        self._live = live
        self._steps = 0.0  # of the wall clock since the first block
        self._held_up = 0.0  # of the shift, what may be taken back
        self._origin: float | None = None  # of the monotonic clock, less the stream's seconds
        self._arrived = self._span_until = 0.0
        self._least = self._least_before = float("inf")
        self._samples = -1  # of the latest time

    def push(self, end: int) -> None:
        """Takes in the arrival of a block of a live source.

        Args:
            end: stream time of the block's end, samples.
        """
        now = self._follow_wall_clock()
        stream = end / SAMPLE_RATE
        if self._origin is None:
            self._origin, self._arrived, self._steps = now - stream, now, 0.0
            self._begin_span(now)
            return
        late = now - self._origin - stream - self.shift
        gap, self._arrived = now - self._arrived, now
        if late < 0.0 < self._held_up:
            back = min(-late, self._held_up)
            self.shift, self._held_up = self.shift - back, self._held_up - back
            self._begin_span(now)
        elif gap >= GAP_SECONDS:
            if late > 0.0:
                self._add_lateness(late)
            self._begin_span(now)
        else:
            self._least = min(self._least, late)
            if now >= self._span_until:
                self._end_span(now)

    def at(self, samples: int) -> float:
        """Returns the time of an event, seconds since the epoch: never before that of an earlier call.

        Args:
            samples: stream time of the event.
        """
        earliest = self._latest + TICK_SECONDS if samples > self._samples else self._latest
        self._samples = samples
        self._latest = max(earliest, self.of_sample(samples))
        return self._latest

    def now(self, samples: int) -> float:
        """Returns the time of an event of this moment that no audio brings: for a recording, the end of its audio.

        Args:
            samples: stream time, as far as audio came.
        """
        if not self._live:
            return self.at(samples)
        self._follow_wall_clock()
        self._latest = max(self._latest, self._wall_clock())
        return self._latest

    def amid(self, samples: int) -> float:
        """Returns the time of an event between two blocks: of the audio so far while audio comes, else of this moment.

        The wall clock is ahead of audio that comes late. Its time would push the readings that follow together.

        Args:
            samples: stream time, as far as audio came.
        """
        if self._live and (self._origin is None or self._clock() - self._arrived >= GAP_SECONDS):
            return self.now(samples)
        return self.at(samples)

    def of_sample(self, samples: int) -> float:
        """Returns the time of a sample, seconds since the epoch, by what is known now."""
        return self.started_at + self._steps + self.shift + samples / SAMPLE_RATE

    def _follow_wall_clock(self) -> float:
        """Takes in steps of the wall clock. Returns the time of the monotonic clock."""
        before, wall, after = self._clock(), self._wall_clock(), self._clock()
        if after - before > READ_SECONDS:
            return after
        step = 0.0 if self._offset is None else wall - before - self._offset
        if self._offset is None or abs(step) >= STEP_SECONDS:
            self._offset = wall - before
            self._steps += step
        if step <= -HOLD_SECONDS:
            self._latest = float("-inf")
        return after

    def _end_span(self, now: float) -> None:
        least, before = self._least, self._least_before
        if least >= LATE_SECONDS:
            self._add_lateness(least)
        elif least <= -EARLY_SECONDS and abs(least - before) <= STEADY_SECONDS:
            self.shift += least
            least = 0.0
        self._begin_span(now)
        self._least_before = least

    def _add_lateness(self, seconds: float) -> None:
        self.shift += seconds
        self._held_up += seconds

    def _begin_span(self, now: float) -> None:
        self._span_until, self._least, self._least_before = now + SPAN_SECONDS, float("inf"), float("inf")
