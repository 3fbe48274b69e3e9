"""Front ends of several reference systems, made of library calls, and altered copies of clips."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import need_package
from edge_sser.train.references.system import Samples


class Mfcc:
    """Mel-frequency cepstral coefficients of librosa: float32 [coefficients, frames], or their means over time."""

    def __init__(self, coefficients: int, n_fft: int, hop: int, *, mean: bool = False) -> None:
        """Sets up the front end.

        Args:
            coefficients: number of them.
            n_fft: samples in a frame.
            hop: samples between two frames.
            mean: take the mean over time: [coefficients].

        Raises:
            MissingComponentError: librosa is not installed.
        """
        need_package("librosa", "references", "A front end of MFCC")
        self.coefficients, self.n_fft, self.hop, self.mean = coefficients, n_fft, hop, mean

    def __call__(self, samples: Samples) -> Tensor:
        """Computes the coefficients of samples, float32 [n]; fewer than a frame are filled with zeros."""
        import librosa

        filled = np.pad(samples, (0, max(0, self.n_fft - samples.size)))
        mfcc = librosa.feature.mfcc(
            y=filled, sr=SAMPLE_RATE, n_mfcc=self.coefficients, n_fft=self.n_fft, hop_length=self.hop
        )
        return torch.from_numpy(np.ascontiguousarray(mfcc.mean(axis=1) if self.mean else mfcc, dtype=np.float32))


class TwinMaker:
    """Makes altered copies of clips, each with one change drawn from some kinds."""

    def __init__(self, kinds: Sequence[str], seed: int) -> None:
        """Sets up the changes.

        Args:
            kinds: noise (10 to 30 dB SNR), shift (to a quarter of the clip), pitch (two semitones), stretch (a fifth)
                or volume (10 dB), each either way.
            seed: of all draws.

        Raises:
            MissingComponentError: audiomentations is not installed.
        """
        need_package("audiomentations", "references", "A recipe with [twins]")
        import audiomentations as library

        changes = {
            "noise": library.AddGaussianSNR(min_snr_db=10.0, max_snr_db=30.0, p=1.0),
            "shift": library.Shift(min_shift=-0.25, max_shift=0.25, p=1.0),
            "pitch": library.PitchShift(min_semitones=-2.0, max_semitones=2.0, p=1.0),
            "stretch": library.TimeStretch(min_rate=0.8, max_rate=1.25, leave_length_unchanged=False, p=1.0),
            "volume": library.Gain(min_gain_db=-10.0, max_gain_db=10.0, p=1.0),
        }
        self._changes = [changes[kind] for kind in kinds]
        self._seed = seed

    def __call__(self, samples: Samples, number: int) -> Samples:
        """Returns the copy of a clip with a number: the same clip, number and seed give the same copy."""
        from edge_sser.train.data.waveform import seeded_random

        with seeded_random(f"{self._seed} {number} {samples.size} {float(samples.sum()):.6g}") as random:
            change = self._changes[random.integers(len(self._changes))]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # audiomentations warns of silence
                return np.asarray(change(samples, sample_rate=SAMPLE_RATE), dtype=np.float32)
