"""Early layers of Whisper's encoder beside small students, under one linear head, on log-mel windows of the device.

Early layers of a large speech encoder carry over to speakers and corpora that nobody trained on, where its late layers
learn the training speakers. The trunk is frozen; means and deviations over time of its layers stand beside the
students' embeddings, and one linear layer makes the mean of the logits that each gives. The encoder's own mel bands
are made of the device's, so that the model takes the same windows as any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edge_sser.pipeline.features import FEATURES, mel_filters
from edge_sser.train.students.net import Student

BANDS: Final = 80  # of Whisper
BINS, BIN_HZ = 201, 40.0  # of its Fourier transform
POSITIONS: Final = FEATURES.frames // 2  # the second convolution has stride 2
HEAD_DIMS: Final = 64  # of an attention head, in every size of Whisper
RANGE: Final = 8.0  # of log10 power below the loudest value, as in Radford et al. (2022)
FLOOR_DB: Final = 90.0  # below the window's loudest value: less than RANGE, so that it changes nothing
# log10 of Whisper's band powers over ours for recordings of RMS 0.1; measured on 40 clips of four corpora.
OFFSET: Final = 2.426
_EPSILON: Final = 1e-4  # of a variance


class WhisperTrunk(Student):
    """Frozen early layers of Whisper's encoder, with small students or alone, and a linear head."""

    opset = 20  # the first with Gelu as one node
    bands: Tensor
    energy: Tensor
    positions: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        *,
        width: int,
        layers: int,
        loudness: float = 0.0,
        companions: Sequence[Student] = (),
        emotions: int,
        dropout: float,
    ) -> None:
        """Builds the network with random weights; `load_encoder_weights` fills the trunk.

        Args:
            width: of the encoder: 384 for Whisper tiny, 512 for base.
            layers: of the encoder that are kept, from the first.
            loudness: exponent of a step's power, in proportion to which it counts in the means over time, 0..1.
            companions: students of the same emotions that stand beside the trunk.
            emotions: number of classes.
            dropout: share of the pooled features dropped in training, 0..1.
        """
        super().__init__()
        self.loudness = loudness
        self.register_buffer("bands", torch.ones(FEATURES.bands, BANDS))
        self.register_buffer("energy", torch.ones(FEATURES.bands))
        self.convolutions = nn.ModuleList(
            [nn.Conv1d(BANDS, width, 3, padding=1), nn.Conv1d(width, width, 3, stride=2, padding=1)]
        )
        self.register_buffer("positions", torch.zeros(POSITIONS, width))
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        embedding = 2 * width * layers
        self.register_buffer("centre", torch.zeros(embedding))
        self.register_buffer("scale", torch.ones(embedding))
        self.companions = nn.ModuleList(companions)
        self.dropout = nn.Dropout(dropout)
        beside = sum(companion.head.in_features for companion in companions)
        self.head = nn.Linear(embedding + beside, emotions + 2)

    def embed(self, sound: Tensor) -> Tensor:
        """Returns embeddings, float32 [batch, dims], of log-mel windows [batch, frames, bands] in dB.

        The trunk's come first, standardised over the training clips, and then those of each companion.
        """
        trunk = (self.encode(self.whisper_mel(sound), self.step_weights(sound)) - self.centre) * self.scale
        companions = cast(Iterable[Student], self.companions)
        return torch.cat([trunk, *(companion.embed(sound) for companion in companions)], dim=1)

    def encode(self, mel: Tensor, weights: Tensor) -> Tensor:
        """Returns the mean and the deviation over time of each layer's output: float32 [batch, 2 width layers].

        Args:
            mel: Whisper's input, float32 [batch, 80, frames].
            weights: of the steps in both, float32 [batch, 1, POSITIONS], with the sum 1.
        """
        steps = mel
        for convolution in self.convolutions:
            steps = F.gelu(convolution(steps))
        steps = (steps.transpose(1, 2) + self.positions).flatten(0, 1)
        parts = []
        for layer in self.layers:
            steps = layer(steps)
            values = steps.float().unflatten(0, (-1, POSITIONS))
            mean = weights @ values
            variance = weights @ (values - mean).square()
            parts += [mean, (variance + _EPSILON).sqrt()]
        return torch.cat(parts, dim=2).squeeze(1)

    def whisper_mel(self, sound: Tensor) -> Tensor:
        """Returns Whisper's input, float32 [batch, 80, frames], for log-mel windows [batch, frames, bands] in dB.

        The level is that of a recording with RMS 0.1, whatever the level of the window.
        """
        power = _relative_power(sound)
        energy = _mean_over_rows(power) @ self.energy[:, None]
        level = (power @ self.bands / energy).clamp(min=1e-9).log() * (1.0 / math.log(10.0)) + OFFSET
        limited = torch.maximum(level, level.amax(dim=(1, 2), keepdim=True) - RANGE)
        return ((limited + 4.0) / 4.0).transpose(1, 2)

    def step_weights(self, sound: Tensor) -> Tensor:
        """Returns the weights of the steps in means over time, float32 [batch, 1, POSITIONS], with the sum 1.

        Loud steps carry more of the voice, and pauses, reverberation and noise less. The power of a step is that of its
        two frames, geometric mean.

        Args:
            sound: log-mel windows, float32 [batch, frames, bands] in dB.
        """
        power = _mean_over_rows(_relative_power(sound).transpose(1, 2))
        steps: Tensor = power.log().unflatten(2, (POSITIONS, 2)).mean(dim=3)  # type: ignore[no-untyped-call]
        return (self.loudness * steps).softmax(dim=2)

    def set_head(self, trunk: nn.Linear, companions: Sequence[Student], share: float) -> None:
        """Sets the head so that its logits are a weighted mean of those of the trunk's head and of the companions'.

        Args:
            trunk: linear head on the trunk's embedding.
            companions: trained, become part of this network; none for a trunk alone.
            share: of the trunk's logits in the mean, 0..1; the companions have equal parts of the rest.
        """
        weight: Tensor = trunk.weight
        bias: Tensor = trunk.bias
        if companions:
            heads = [companion.head for companion in companions]
            rest = (1.0 - share) / len(heads)
            weight = torch.cat([share * weight, *(rest * head.weight for head in heads)], dim=1)
            bias = share * bias + rest * torch.stack([head.bias for head in heads]).sum(dim=0)
        self.companions = nn.ModuleList(companions)
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        self.head.load_state_dict({"weight": weight, "bias": bias})

    def load_encoder_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Fills the trunk with an encoder's weights, named as in transformers, and the weights of its bands.

        Args:
            weights: `WhisperModel.state_dict()`, or the content of its file.

        Raises:
            MissingComponentError: transformers is not installed.
            KeyError: a weight is missing.
            RuntimeError: a weight has another shape.
        """
        bands, energy = (torch.from_numpy(values) for values in band_weights())
        positions = weights["encoder.embed_positions.weight"][:POSITIONS]
        state = {"bands": bands, "energy": energy, "positions": positions}
        for index in range(len(self.convolutions)):
            for part in ("weight", "bias"):
                state[f"convolutions.{index}.{part}"] = weights[f"encoder.conv{index + 1}.{part}"]
        for index in range(len(self.layers)):
            theirs, ours = f"encoder.layers.{index}", f"layers.{index}"
            for name, source in _NAMES.items():
                for part in ("weight", "bias"):
                    state[f"{ours}.{name}.{part}"] = weights[f"{theirs}.{source}.{part}"]
            query, value = (weights[f"{theirs}.self_attn.{name}_proj.bias"] for name in "qv")
            state[f"{ours}.inputs.bias"] = torch.cat([query, torch.zeros_like(query), value])  # keys have none
            state[f"{ours}.inputs.weight"] = torch.cat(
                [weights[f"{theirs}.self_attn.{name}_proj.weight"] for name in "qkv"]
            )
        self.load_state_dict(state, strict=False)


def _relative_power(sound: Tensor) -> Tensor:
    """Returns powers relative to the window's loudest, 1e-9 to 1, of log-mel windows in dB."""
    loudest = sound.amax(dim=(1, 2), keepdim=True)
    return torch.exp((sound - loudest).clamp(min=-FLOOR_DB) * (math.log(10.0) / 10.0))


def _mean_over_rows(values: Tensor) -> Tensor:
    """Returns means over rows, float32 [batch, 1, columns], of [batch, rows, columns].

    A matrix product, which ONNX Runtime computes several times faster than a mean over an axis in the middle.
    """
    return values.new_full((1, values.shape[1]), 1.0 / values.shape[1]) @ values


_NAMES: Final = {
    "attention_norm": "self_attn_layer_norm",
    "output": "self_attn.out_proj",
    "norm": "final_layer_norm",
    "wide": "fc1",
    "narrow": "fc2",
}


class _Layer(nn.Module):
    """Transformer layer with normalisation in front of each half, as in Whisper.

    All windows' steps stand in one matrix, so that each product is one Gemm, which takes its bias in 8 bits too.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD_DIMS)
        self.attention_norm = nn.LayerNorm(width)
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, steps: Tensor) -> Tensor:
        """Returns the layer's output, float [batch * POSITIONS, width], of the same."""
        dims = steps.shape[1] // self.heads
        inputs = self.inputs(self.attention_norm(steps)).view(-1, POSITIONS, 3, self.heads, dims)
        query, key, value = inputs.permute(2, 0, 3, 1, 4)
        weights = (query * dims**-0.5 @ key.transpose(2, 3)).softmax(dim=3)
        steps = steps + self.output((weights @ value).transpose(1, 2).flatten(2).flatten(0, 1))
        narrowed: Tensor = self.narrow(F.gelu(self.wide(self.norm(steps))))
        return steps + narrowed


def band_weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns how Whisper's band powers, and the power of all of them, are made of the device's band powers.

    The device's bands are narrower than Whisper's everywhere, so that each of Whisper's triangles is a sum of theirs
    with positive weights (least squares over a grid of 10 Hz).

    Returns:
        float32 [bands, 80], and float32 [bands].
    """
    from scipy.optimize import nnls
    from transformers.audio_utils import mel_filter_bank

    grid = np.arange(0.0, 8_000.1, 10.0)
    filters = mel_filters()
    own = np.stack(
        [
            np.interp(grid, np.arange(len(filters)) * (FEATURES.sample_rate / FEATURES.n_fft), band)
            for band in filters.T
        ],
        axis=1,
    )
    bank = mel_filter_bank(BINS, BANDS, 0.0, 8_000.0, FEATURES.sample_rate, norm="slaney", mel_scale="slaney")
    theirs = [np.interp(grid, np.arange(BINS) * BIN_HZ, band) for band in bank.T]
    inside = (grid > FEATURES.low_hz + 20.0) & (grid < FEATURES.high_hz - 100.0)
    bands = np.stack([nnls(own, band)[0] for band in theirs], axis=1)
    energy = nnls(own[inside], np.ones(int(inside.sum())))[0]
    return bands.astype(np.float32), energy.astype(np.float32)
