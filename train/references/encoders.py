"""Speech encoders of the reference systems: published weights, or random ones that say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from edge_sser.errors import TrainingError, need_package, short
from edge_sser.pipeline.features import FEATURES
from edge_sser.settings.section import Section
from edge_sser.train.teachers.encoder import Encoder, load_encoder, quiet_transformers

WINDOW_SECONDS = FEATURES.window_samples / FEATURES.sample_rate  # Whisper's positions end there
FRAMES = 149  # that HuBERT and wav2vec 2.0 give for a window; Whisper gives one more


class EncoderSettings(Section):
    """Encoder of a recipe."""

    weights: str = ""
    """Folder with config.json and model.safetensors, or a name on huggingface.co."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of the file of weights; empty: not checked."""
    stands_for: str = ""
    """Encoder of the study, where another one takes its place; stands beside every score."""
    random: Literal["", "hubert", "wavlm", "wav2vec2", "whisper"] = ""
    """Family whose base size is used with random weights, in place of `weights`."""
    sizes: dict[str, Any] = Field(default_factory=dict)
    """random alone: other sizes, by the names of the family's configuration in transformers."""

    @model_validator(mode="after")
    def _check_one(self) -> EncoderSettings:
        if bool(self.weights) is bool(self.random):
            raise ValueError("give weights or random, not both")
        return self

    @property
    def remark(self) -> str:
        """Remark beside every score; empty for the encoder of the study."""
        if self.random:
            return f"random weights of {self.random} in place of pretrained ones"
        return f"{Path(self.weights).name} in place of {self.stands_for}" if self.stands_for else ""


def open_encoder(settings: EncoderSettings, seed: int) -> tuple[Encoder, str]:
    """Loads an encoder, or makes one with random weights, in evaluation mode; returns a key of its weights too.

    Raises:
        MissingComponentError: transformers is not installed.
        TrainingError: the weights are missing and cannot be fetched, or damaged, or the sizes do not fit the family.
    """
    if settings.weights:
        encoder = load_encoder(settings.weights, settings.sha256)
        return encoder, encoder.sha256
    need_package("transformers", "teacher", "A speech encoder")
    with quiet_transformers():
        from transformers import AutoConfig, AutoModel

        torch.manual_seed(seed)
        try:
            model = AutoModel.from_config(AutoConfig.for_model(settings.random, **settings.sizes))
        except (ValueError, TypeError, RuntimeError) as error:
            raise TrainingError(
                f"settings.encoder.sizes: {short(error)}: give sizes of transformers' {settings.random}"
            ) from None
    return Encoder(model.float().eval(), ""), f"random {settings.random} {sorted(settings.sizes.items())} {seed}"


def keep_layers(encoder: Encoder, count: int) -> None:
    """Removes the layers after the first `count`, and a norm behind the last one, so that outputs are unnormalised.

    Raises:
        TrainingError: the encoder has fewer layers.
    """
    if count > len(encoder.blocks):
        raise TrainingError(f"settings.layers: the encoder has {len(encoder.blocks)} layers only: give smaller numbers")
    inner = getattr(encoder.model, "encoder", None)
    assert isinstance(inner, nn.Module)
    del encoder.blocks[count:]
    if is_whisper(encoder) or getattr(encoder.model.config, "do_stable_layer_norm", False):
        inner.layer_norm = nn.Identity()


def is_whisper(encoder: Encoder) -> bool:
    """Returns True for the encoder of Whisper, whose input is log-mel."""
    return not hasattr(encoder.model, "feature_extractor")


def last_states(encoder: Encoder, sound: Tensor) -> Tensor:
    """Returns the output of the last layer for windows [batch, samples]: [batch, 149, dims], a frame each 20 ms."""
    states: Tensor = encoder.model(sound, output_hidden_states=True).hidden_states[-1]
    return states[:, :FRAMES]
