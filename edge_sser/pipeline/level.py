"""The level meter: how loud a window is, and whether it was clipped."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sser.pipeline.framing import Framer

FLOOR_DBFS: Final = -120.0  # what digital silence reads
PIECE_SAMPLES: Final = 160  # 10 ms: squares are summed in pieces of one length, so that chunking cannot change a bit
# A 16-bit converter reaches 32768 on the negative side only: a threshold of 1.0 would miss every positive peak.
FULL_SCALE: Final = 32_767 / 32_768


class Pieces(NamedTuple):
    """Completed 10 ms pieces.

    Attributes:
        energy: float64 [k], sum of squares of the samples of each.
        clipped: bool [k], whether each was clipped.
    """

    energy: NDArray[np.float64]
    clipped: NDArray[np.bool_]


class LevelMeter:
    """Energy and clipping of a stream, piece by piece.

    Clipped means at least two neighbouring samples at full scale. A single one is what normalising a recording to its
    peak leaves; two in a row mean a waveform that was cut flat, since speech is never so slow at its peak.
    """

    def __init__(self) -> None:
        self._framer = Framer(PIECE_SAMPLES)
        self._last_full = False  # whether the sample before is at full scale

    def push(self, samples: NDArray[np.float32]) -> Pieces:
        """The pieces completed by `samples`.

        Args:
            samples: float32 [n], mono, 16 kHz, nominally -1..1; any n.
        """
        pieces = self._framer.push(samples)
        return Pieces(np.square(pieces, dtype=np.float64).sum(axis=1), self._clipped(pieces))

    def _clipped(self, pieces: NDArray[np.float32]) -> NDArray[np.bool_]:
        full = np.greater_equal(np.abs(pieces), FULL_SCALE).reshape(-1)
        if not full.any():
            self._last_full = self._last_full and full.size == 0
            return np.zeros(len(pieces), dtype=np.bool_)
        before = np.concatenate(([self._last_full], full[:-1]))
        self._last_full = bool(full[-1])
        clipped: NDArray[np.bool_] = np.logical_or.reduce((full & before).reshape(pieces.shape), axis=1)
        return clipped


def dbfs(mean_square: float) -> float:
    """Level in dB re full scale: a square wave at full scale is 0.0, a sine -3.0, digital silence `FLOOR_DBFS`.

    Args:
        mean_square: of the samples, 0 or more.
    """
    return 10.0 * math.log10(max(mean_square, 10.0 ** (FLOOR_DBFS / 10.0)))
