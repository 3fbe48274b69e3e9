"""High-pass filter in front of all stages: a constant offset and rumble do not reach them."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.pipeline.framing import Framer

CUTOFF_HZ = 60.0  # lower edge of the first mel band; 3 dB are lost here
BLOCK_SAMPLES = 1_600  # 100 ms: a fixed shape, so that chunking cannot change a bit
_PIECE = 40  # samples filtered by one matrix product
_PIECES = BLOCK_SAMPLES // _PIECE


class _Matrices(NamedTuple):
    """The filter as matrices.

    Attributes:
        response: float64 [input, output], what the samples of a piece add to its own.
        drive: float64 [input, 2], what the samples of a piece add to the state at its end.
        decay: float64 [2, output], what the state at the start of a piece adds to its samples.
        spread: float64 [2 * pieces, 2 * (pieces + 1)], what each piece of a block adds to the states at the starts of
            all pieces, and, in the last two columns, at the end of the block.
        carry: float64 [2, 2 * (pieces + 1)], what the state at the start of a block adds to them.
    """

    response: NDArray[np.float64]
    drive: NDArray[np.float64]
    decay: NDArray[np.float64]
    spread: NDArray[np.float64]
    carry: NDArray[np.float64]


class HighPass:
    """Butterworth high-pass of second order, block by block. It delays nothing.

    A recursive filter over a few samples is a product of matrices: the input times the impulse response (a triangular
    Toeplitz matrix), plus the two state variables times their decay. The states at all pieces of a block follow from
    the state at its start in the same way, so that Python steps from block to block only.

    Transposed direct form II: y = b0 x + s0; s0' = b1 x - a1 y + s1; s1' = b2 x - a2 y. Coefficients by the bilinear
    transform (Oppenheim and Schafer, Discrete-Time Signal Processing, section 7.1).
    """

    def __init__(self) -> None:
        self._matrices = _matrices()
        self._state = np.zeros(2)
        self._framer = Framer(BLOCK_SAMPLES)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the filtered samples of the blocks completed by `samples`.

        Args:
            samples: float32 [n], mono, 16 kHz; any n.

        Returns:
            float32 [k * BLOCK_SAMPLES].
        """
        matrices = self._matrices
        pieces = self._framer.push(samples).reshape(-1, _PIECES, _PIECE).astype(np.float64)
        # Each block by itself: the summation order of a matrix product depends on the shapes.
        states = (pieces @ matrices.drive).reshape(-1, 1, 2 * _PIECES) @ matrices.spread
        for block in states:
            block += self._state @ matrices.carry
            self._state = block[0, -2:]
        filtered = pieces @ matrices.response
        filtered += states[:, 0, :-2].reshape(-1, _PIECES, 2) @ matrices.decay
        return filtered.astype(np.float32).reshape(-1)


def high_pass(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns a whole recording filtered as `HighPass` filters a stream.

    Args:
        samples: float32 [n], mono, 16 kHz.
    """
    padded = np.pad(samples, (0, -samples.size % BLOCK_SAMPLES))
    return HighPass().push(padded)[: samples.size]


@functools.cache
def _matrices() -> _Matrices:
    k = math.tan(math.pi * CUTOFF_HZ / SAMPLE_RATE)
    gain = 1.0 / (1.0 + math.sqrt(2.0) * k + k * k)
    a1, a2 = 2.0 * (k * k - 1.0) * gain, (1.0 - math.sqrt(2.0) * k + k * k) * gain
    # b0, b1, b2 = gain, -2 gain, gain. States are rows: s' = s @ step + x drive.
    step = np.array([[-a1, -a2], [1.0, 0.0]])
    drive = np.array([-2.0 * gain - a1 * gain, gain - a2 * gain])
    powers = np.empty((BLOCK_SAMPLES + 1, 2, 2))
    powers[0] = np.eye(2)
    for n in range(BLOCK_SAMPLES):
        powers[n + 1] = powers[n] @ step
    impulse = np.concatenate(([gain], (drive @ powers[: _PIECE - 1])[:, 0]))
    lag = np.arange(_PIECE) - np.arange(_PIECE)[:, np.newaxis]  # [input, output]
    passed = np.arange(_PIECES + 1) - np.arange(_PIECES)[:, np.newaxis] - 1  # pieces from the end of one to a state
    spread = np.where(passed[..., np.newaxis, np.newaxis] >= 0, powers[_PIECE * np.maximum(passed, 0)], 0.0)
    return _Matrices(
        response=np.where(lag >= 0, impulse[lag], 0.0),
        drive=drive @ powers[_PIECE - 1 :: -1],
        decay=powers[:_PIECE, :, 0].T,
        spread=spread.transpose(0, 2, 1, 3).reshape(2 * _PIECES, -1),
        carry=powers[::_PIECE].transpose(1, 0, 2).reshape(2, -1),
    )
