"""Reference systems over a frozen speech encoder: statistics of early layers under an SVM, and a head over windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.settings.section import Ratio, Section
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.fit.device import has_bfloat16
from edge_sser.train.references.classical import ClassicalSystem, Classifier, HeadNet
from edge_sser.train.references.encoders import (
    FRAMES,
    WINDOW_SECONDS,
    EncoderSettings,
    keep_layers,
    last_states,
    open_encoder,
)
from edge_sser.train.references.feature_cache import FeatureCache
from edge_sser.train.references.system import Samples, read_settings
from edge_sser.train.references.torch_system import TorchSystem, Training, Windows
from edge_sser.train.teachers.encoder import Encoder, sound_windows, standardise_sound

_BATCH = 16  # windows at once
_FRAMES_A_SECOND = 50


class StatisticsSettings(Section):
    """Settings of `encoder-svm`."""

    encoder: EncoderSettings
    layers: list[int] = Field(min_length=1)
    """Layers whose outputs are used, from 0."""
    classifier: Classifier


class WindowHeadSettings(Section):
    """Settings of `ssl-windows`."""

    encoder: EncoderSettings
    hop_frames: int = Field(ge=1, le=FRAMES)
    """Frames of 20 ms between two windows of 149 frames."""
    pool: Literal["mean", "flatten"] = "mean"
    """Input of the head: the mean of a window's frames, or all of them in one vector, as in the study."""
    width: int = Field(default=1024, ge=1)
    """Of the head's hidden layer."""
    dropout: Ratio = 0.3
    training: Training


class StatisticsTrunk(nn.Module):
    """First layers of a frozen encoder, and mean and deviation over time of some of their outputs."""

    def __init__(self, encoder: Encoder, layers: Sequence[int]) -> None:
        super().__init__()
        keep_layers(encoder, max(layers) + 1)
        self.model = encoder.model.requires_grad_(False)
        self.layers = tuple(layers)

    def forward(self, sound: Tensor) -> Tensor:
        """Returns [batch, 2 x layers x dims] of standardised windows [batch, samples]."""
        states = self.model(sound, output_hidden_states=True).hidden_states
        chosen = [states[layer + 1].float() for layer in self.layers]  # the first are the encoder's own input
        return torch.cat([part for state in chosen for part in (state.mean(dim=1), state.std(dim=1))], dim=1)


class EncoderStatistics(ClassicalSystem):
    """Statistics of a frozen encoder's early layers under a classifier; a clip's are the mean of its windows'."""

    window_seconds = WINDOW_SECONDS

    def __init__(self, settings: StatisticsSettings, seed: int) -> None:
        encoder, key = open_encoder(settings.encoder, seed)
        self.trunk = StatisticsTrunk(encoder, settings.layers).eval()
        self.remark = settings.encoder.remark
        kind = f"statistics {key} {settings.layers} {has_bfloat16(torch.device('cpu'))}"
        super().__init__(kind, self._statistics, settings.classifier)

    @property
    def parameters(self) -> int:
        """Number of parameters of the layers that are used and of the classifier."""
        return sum(value.numel() for value in self.trunk.parameters()) + super().parameters

    def network(self) -> tuple[nn.Module, Tensor] | None:
        """Returns trunk and classifier as one network of standardised samples; None before it is fitted."""
        return None if self.head is None else (nn.Sequential(self.trunk, HeadNet(self.head)).eval(), _noise())

    def front_end_window(self, samples: Samples) -> Tensor:
        """Removes the level of a window."""
        return standardise_sound(torch.from_numpy(samples)[None])

    def _statistics(self, samples: Samples) -> NDArray[np.float32]:
        with torch.inference_mode(), _precision():
            parts = [self.trunk(part) for part in torch.split(sound_windows(samples), _BATCH)]
        return np.asarray(torch.cat(parts).mean(dim=0).numpy())


def make_window_head(dims: int, settings: WindowHeadSettings) -> nn.Module:
    """Makes the head of a window: pooled frames [batch, ...] to logits [batch, 8].

    Args:
        dims: of a frame.
        settings: pool, width and dropout.
    """
    inputs = dims * (1 if settings.pool == "mean" else FRAMES)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, settings.width),
        nn.ReLU(),
        nn.Dropout(settings.dropout),
        nn.Linear(settings.width, len(EMOTIONS)),
    )


class WindowHead(TorchSystem):
    """A head over windows of a frozen encoder's last layer; a clip's logits are the mean of its windows'."""

    def __init__(self, settings: WindowHeadSettings, seed: int) -> None:
        encoder, key = open_encoder(settings.encoder, seed)
        self.encoder = encoder.requires_grad_(False)
        self.pool = settings.pool
        # The 149th frame ends with its window, so that a hop of 149 frames is a whole window.
        hop = WINDOW_SECONDS if settings.hop_frames == FRAMES else settings.hop_frames / _FRAMES_A_SECOND
        windows = Windows(seconds=WINDOW_SECONDS, hop_seconds=hop)
        kind = f"windows {key} {settings.pool} {settings.hop_frames} {has_bfloat16(torch.device('cpu'))}"
        self._cache = FeatureCache(kind, self._encode)

        def make_net() -> nn.Module:
            return make_window_head(encoder.dims, settings)

        super().__init__(self.front_end_window, make_net, settings.training, seed, windows=windows)
        self.remark = settings.encoder.remark

    @property
    def parameters(self) -> int:
        """Number of parameters of the frozen encoder and the head."""
        return sum(value.numel() for value in self.encoder.parameters()) + super().parameters

    def inputs(self, samples: Samples) -> Tensor:
        """Returns the pooled frames of a clip's windows from the cache: float32 [windows, ...]."""
        return torch.from_numpy(self._cache(samples)).float()

    def network(self) -> tuple[nn.Module, Tensor]:
        """Returns encoder and head as one network of standardised samples."""
        return nn.Sequential(_Pooled(self.encoder, self.pool), self.net.cpu()).eval(), _noise()

    def front_end_window(self, samples: Samples) -> Tensor:
        """Removes the level of a window."""
        return standardise_sound(torch.from_numpy(samples)[None])

    def _encode(self, samples: Samples) -> NDArray[np.float16]:
        assert self.windows is not None
        sound = standardise_sound(torch.from_numpy(np.stack(self.windows.cut(samples))))
        trunk = _Pooled(self.encoder, self.pool)
        with torch.inference_mode(), _precision():
            parts = [trunk(part) for part in torch.split(sound, _BATCH)]
        return np.asarray(torch.cat(parts).half().numpy())


class _Pooled(nn.Module):
    """A frozen encoder and the pooling of its frames."""

    def __init__(self, encoder: Encoder, pool: str) -> None:
        super().__init__()
        self.encoder, self.pool = encoder, pool

    def forward(self, sound: Tensor) -> Tensor:
        frames = last_states(self.encoder, sound).float()
        return frames.mean(dim=1) if self.pool == "mean" else frames


def make_statistics(settings: Mapping[str, Any], seed: int) -> EncoderStatistics:
    """Makes `encoder-svm`; errors as for `registry.make` and `encoders.open_encoder`."""
    return EncoderStatistics(read_settings(StatisticsSettings, settings, "encoder-svm"), seed)


def make_windows(settings: Mapping[str, Any], seed: int) -> WindowHead:
    """Makes `ssl-windows`; errors as for `registry.make` and `encoders.open_encoder`."""
    return WindowHead(read_settings(WindowHeadSettings, settings, "ssl-windows"), seed)


def _precision() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu")))


def _noise() -> Tensor:
    samples = np.random.default_rng(0).standard_normal(round(WINDOW_SECONDS * SAMPLE_RATE), dtype=np.float32)
    return standardise_sound(torch.from_numpy(samples)[None])
