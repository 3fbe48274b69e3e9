"""Reference systems over MFCC: two CNN, an LSTM and a transformer of windows, and an LSTM of mean coefficients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from pydantic import Field
from torch import nn

from edge_sser.settings.section import Section
from edge_sser.train.references.front_ends import Mfcc
from edge_sser.train.references.system import System, read_settings
from edge_sser.train.references.torch_system import TorchSystem, Training, Windows
from edge_sser.train.students.references import mfcc as nets


class Net(str, Enum):
    """Networks of this family."""

    CNN1D = "cnn1d"
    CNN2D = "cnn2d"
    RNN = "rnn"
    TRANSFORMER = "transformer"
    LSTM_MEAN = "lstm-mean"


class MfccSettings(Section):
    """Settings of a system over MFCC."""

    net: Net
    coefficients: int = Field(default=16, ge=4, le=128)
    n_fft: int = Field(default=1024, ge=64)
    hop: int = Field(default=256, ge=16)
    windows: Windows | None = None
    """None for lstm-mean alone, which takes a whole clip."""
    training: Training


def make(settings: Mapping[str, Any], seed: int) -> System:
    """Makes a system of this family; see `registry.make`."""
    chosen = read_settings(MfccSettings, settings, "an MFCC system")
    makers: Mapping[Net, Callable[[], nn.Module]] = {
        Net.CNN1D: lambda: nets.MfccCnn1d(chosen.coefficients),
        Net.CNN2D: nets.MfccCnn2d,
        Net.RNN: lambda: nets.MfccRnn(chosen.coefficients),
        Net.TRANSFORMER: lambda: nets.MfccTransformer(chosen.coefficients),
        Net.LSTM_MEAN: nets.MeanMfccLstm,
    }
    mean = chosen.net is Net.LSTM_MEAN
    front_end = Mfcc(chosen.coefficients, chosen.n_fft, chosen.hop, mean=mean)
    return TorchSystem(front_end, makers[chosen.net], chosen.training, seed, windows=chosen.windows)
