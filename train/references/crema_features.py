"""Features study on CREMA-D: zero-crossing rate, energy, mel bands or all of them under convolutions along time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import need_package
from edge_sser.settings.section import Section
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.references.system import Samples, System, read_settings
from edge_sser.train.references.torch_system import TorchSystem, Training, Windows
from edge_sser.train.students.references.feature_cnns import (
    FLATTEN_FRAMES,
    FeatureCnn,
    Pooling,
    make_dummynet,
    make_exponet,
    make_rezonet,
)

BANDS = 40
_FFT, _HOP = 512, 128  # samples
_DEFAULT_ZCR, _ZCR_UNIT = 0.1, 0.1  # centre and unit of the zero-crossing rate of speech, crossings a sample


class Features(str, Enum):
    """Input of the networks."""

    ZCR = "zcr"
    """Zero-crossing rate: 1 row."""
    ENERGY = "energy"
    """Root mean square in dB: 1 row."""
    MEL = "mel"
    """Mel bands in dB: 40 rows."""
    ALL = "all"
    """Mel bands, zero-crossing rate and energy: 42 rows."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return {Features.MEL: BANDS, Features.ALL: BANDS + 2}.get(self, 1)


class FeatureKind(str, Enum):
    """Network of the study."""

    DUMMYNET = "dummynet"
    REZONET = "rezonet"
    EXPONET = "exponet"


NETS: Mapping[FeatureKind, Callable[..., FeatureCnn]] = {
    FeatureKind.DUMMYNET: make_dummynet,
    FeatureKind.REZONET: make_rezonet,
    FeatureKind.EXPONET: make_exponet,
}


class FeatureSettings(Section):
    """Settings of a network of the features study."""

    kind: FeatureKind
    features: Features
    pooling: Pooling = Pooling.MEAN
    windows: Windows
    training: Training

    @model_validator(mode="after")
    def _check_flatten(self) -> FeatureSettings:
        seconds = (FLATTEN_FRAMES - 1) * _HOP / SAMPLE_RATE
        if self.pooling is Pooling.FLATTEN and round(self.windows.seconds - seconds, 3):
            raise ValueError(f"pooling: a flatten has a fixed length: set windows.seconds to {seconds}, or use mean")
        return self


def make(settings: Mapping[str, Any], seed: int) -> System:
    """Makes a network of the study; arguments and errors as for `registry.make`."""
    need_package("librosa", "references", "A network of the features study")
    read = read_settings(FeatureSettings, settings, "features study")
    make_net = partial(NETS[read.kind], rows=read.features.rows, classes=len(EMOTIONS), pooling=read.pooling)
    front_end = partial(features, kind=read.features)
    return TorchSystem(front_end, make_net, read.training, seed, windows=read.windows)


def features(samples: Samples, kind: Features) -> Tensor:
    """Returns the features of samples without their level: float32 [rows, frames of 8 ms]."""
    import librosa

    rows: list[NDArray[np.floating[Any]]] = []
    if kind in (Features.MEL, Features.ALL):
        power = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=_FFT, hop_length=_HOP, n_mels=BANDS)
        rows.append(_standardise(librosa.power_to_db(power, ref=1.0, amin=1e-10)))
    if kind in (Features.ZCR, Features.ALL):
        rate = librosa.feature.zero_crossing_rate(samples, frame_length=_FFT, hop_length=_HOP)
        rows.append((rate - _DEFAULT_ZCR) / _ZCR_UNIT)
    if kind in (Features.ENERGY, Features.ALL):
        root = librosa.feature.rms(y=samples, frame_length=_FFT, hop_length=_HOP)
        rows.append(_standardise(librosa.amplitude_to_db(root, ref=1.0, amin=1e-5)))
    return torch.from_numpy(np.concatenate(rows)).float()


def _standardise(decibels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Brings decibels to mean 0 and deviation 1."""
    return np.asarray((decibels - decibels.mean()) / max(float(decibels.std()), 1e-3), dtype=np.float32)
