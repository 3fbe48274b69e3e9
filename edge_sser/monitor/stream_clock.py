"""Wall-clock time of a live stream: sample counts, put right after a source has stood still."""

from __future__ import annotations

from typing import Final

from edge_sser.audio.source import SAMPLE_RATE

GAP_SECONDS: Final = 2.0  # between two blocks, from which on a source has stood still
SPAN_SECONDS: Final = 5.0  # over which the least lateness counts: a busy moment delays single blocks only
LATE_SECONDS: Final = 0.5  # lateness that is put right


class StreamClock:
    """Seconds by which the audio of a live source lags behind its sample count, on a clock that never goes back.

    Samples that a source never delivered (a stall, a slow sound card) are missing in the count, so that times made of
    it stay in the past for good. The lateness of a block is the time that has passed since the first block, less the
    audio since then. It is put right at once after a gap, and when its least value over a span is large. Audio that
    was only held up comes faster than it lasts; then the correction is taken back as far. Audio that runs ahead of the
    clock from the start, as through a pipe from a file, is left alone.

    Attributes:
        shift: seconds to add to times that are made of sample counts, 0 or more.
    """

    def __init__(self) -> None:
        """Begins with the first block."""
        self.shift = 0.0
        self._origin: float | None = None  # of the clock, less the stream's seconds
        self._arrived = self._span_until = 0.0
        self._least = 0.0

    def push(self, end: int, now: float) -> None:
        """Takes in the arrival of a block.

        Args:
            end: stream time of the block's end, samples.
            now: of the clock, seconds.
        """
        stream = end / SAMPLE_RATE
        if self._origin is None:
            self._origin, self._arrived = now - stream, now
            self._begin_span(now)
            return
        late = now - self._origin - stream - self.shift
        gap, self._arrived = now - self._arrived, now
        if late < 0.0:
            self.shift = max(0.0, self.shift + late)
            self._begin_span(now)
        elif gap >= GAP_SECONDS:
            self.shift += late
            self._begin_span(now)
        else:
            self._least = min(self._least, late)
            if now >= self._span_until:
                if self._least >= LATE_SECONDS:
                    self.shift += self._least
                self._begin_span(now)

    def seconds(self, now: float) -> float | None:
        """Returns the stream time of a moment, in seconds with the shift; None before the first block."""
        return None if self._origin is None else now - self._origin

    def _begin_span(self, now: float) -> None:
        self._span_until, self._least = now + SPAN_SECONDS, float("inf")
