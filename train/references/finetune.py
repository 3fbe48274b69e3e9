"""Fine-tuning of a speech encoder: HuBERT, WavLM, wav2vec 2.0 or Whisper's, mean over time, one linear layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from edge_sser.settings.section import Section
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.references.encoders import WINDOW_SECONDS, EncoderSettings, is_whisper, last_states, open_encoder
from edge_sser.train.references.system import Samples, read_settings
from edge_sser.train.references.torch_system import TorchSystem, Training, Windows
from edge_sser.train.teachers.encoder import Encoder, standardise_sound


class FinetuneSettings(Section):
    """Settings of the system."""

    encoder: EncoderSettings
    hop_seconds: float = Field(default=1.5, ge=0.0)
    """Between two windows of three seconds; 0: the first window alone."""
    training: Training


class FinetunedEncoder(nn.Module):
    """An encoder whose convolutions are frozen, under a linear layer on the mean over time of its output."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.dims, len(EMOTIONS))
        inner: Any = encoder.model
        if is_whisper(encoder):
            convolutions = [inner.encoder.conv1, inner.encoder.conv2]
        else:
            convolutions = [inner.feature_extractor]
            inner.config.apply_spec_augment = False  # its masks come from numpy's global generator
        for part in convolutions:
            part.requires_grad_(False)

    def forward(self, sound: Tensor) -> Tensor:
        """Returns logits, [batch, 8], of standardised windows [batch, samples]."""
        logits: Tensor = self.head(last_states(self.encoder, sound).mean(dim=1))
        return logits


def make(settings: Mapping[str, Any], seed: int) -> TorchSystem:
    """Makes the system; errors as for `registry.make` and `encoders.open_encoder`."""
    chosen = read_settings(FinetuneSettings, settings, "encoder-finetune")

    def make_net() -> nn.Module:
        return FinetunedEncoder(open_encoder(chosen.encoder, seed)[0])

    windows = Windows(seconds=WINDOW_SECONDS, hop_seconds=chosen.hop_seconds)
    system = TorchSystem(_sound, make_net, chosen.training, seed, windows=windows)
    system.remark = chosen.encoder.remark
    return system


def _sound(samples: Samples) -> Tensor:
    return standardise_sound(torch.from_numpy(samples)[None])[0]
