"""The level meter: loudness and clipping of a stream."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.look import FULL_SCALE
from edge_sser.pipeline.framing import Framer

FLOOR_DBFS: Final = -120.0  # the level of digital silence
PIECE_SAMPLES: Final = 160  # 10 ms: squares are summed in pieces of one length, so that chunking cannot change a bit


class Pieces(NamedTuple):
    """Completed 10 ms pieces.

    Attributes:
        energy: float64 [k], sum of squares of the samples of each.
        clipped: bool [k], True for each that was clipped.
    """

    energy: NDArray[np.float64]
    clipped: NDArray[np.bool_]


class LevelMeter:
    """Energy and clipping of a stream, piece by piece.

    Clipped means at least two neighbouring samples at full scale. Normalising a recording to its peak leaves a single
    one. Two in a row mean a waveform that was cut flat, since speech is never so slow at its peak.
    """

    def __init__(self) -> None:
        self._framer = Framer(PIECE_SAMPLES)
        self._unfiltered = Framer(PIECE_SAMPLES)
        self._last_full = False  # True when the previous sample is at full scale

    def push(self, samples: NDArray[np.float32], unfiltered: NDArray[np.float32] | None = None) -> Pieces:
        """Returns the pieces completed by `samples`.

        Args:
            samples: float32 [n], mono, 16 kHz, nominally -1..1; any n.
            unfiltered: float32 [n], the same samples in front of a filter, which would bend flat tops: clipping is
                looked for here. None where there was no filter.
        """
        pieces = self._framer.push(samples)
        energy = np.add.reduce(np.square(pieces, dtype=np.float64), axis=1)
        if unfiltered is not None:
            pieces = self._unfiltered.push(unfiltered)
        full = (np.abs(pieces) >= FULL_SCALE).reshape(-1)
        clipped = np.zeros(len(pieces), dtype=np.bool_)
        if full.size and np.logical_or.reduce(full):
            after_full = np.concatenate(([self._last_full], full[:-1]))
            np.logical_or.reduce((full & after_full).reshape(pieces.shape), axis=1, out=clipped)
        if full.size:
            self._last_full = bool(full[-1])
        return Pieces(energy, clipped)


def dbfs(mean_square: float) -> float:
    """Returns the level in dB re full scale: 0.0 for a full-scale square wave, -3.0 for a sine.

    Args:
        mean_square: of the samples, 0 or more. Digital silence has `FLOOR_DBFS`.
    """
    return 10.0 * math.log10(max(mean_square, 10.0 ** (FLOOR_DBFS / 10.0)))
