"""The network of the speech gate in torch, its training, and the file of weights that the device reads."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edge_sser.errors import TrainingError
from edge_sser.files import atomic_replace
from edge_sser.pipeline.features import BLOCK_FRAMES, FEATURES
from edge_sser.pipeline.gate import BLOCKS, RANGE_DB, SCALE_DB, SHAPES, TAPS, UNITS
from edge_sser.train.gate.data import Windows

BATCH = 64
RATE = 2e-3  # highest of the one-cycle schedule
WEIGHT_DECAY = 0.02
SMOOTHING = 0.02  # of labels
AVERAGE = 0.998  # of the exponential average of weights that is kept
BAND_GAIN = 0.2  # standard deviation of the random gain of a band, at most, in units of SCALE_DB
MASKED_BANDS = 6
CARD = "card"
_DATE = (2020, 1, 1, 0, 0, 0)  # of the file's members: the same weights give the same bytes


class GateNet(nn.Module):
    """`pipeline.gate.SpeechNet` in torch, on normalised windows."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Linear(BLOCK_FRAMES * FEATURES.bands, UNITS)
        self.hidden1 = nn.Conv1d(UNITS, UNITS, TAPS, padding=TAPS // 2)
        self.hidden2 = nn.Conv1d(UNITS, UNITS, TAPS, padding=TAPS // 2)
        self.output = nn.Linear(UNITS, 1)

    def forward(self, windows: Tensor) -> Tensor:
        """Returns log-odds [batch, BLOCKS] of windows [batch, frames, bands] from `normalise`."""
        hidden = torch.relu(self.input(windows.reshape(len(windows), BLOCKS, -1))).transpose(1, 2)
        hidden = torch.relu(self.hidden2(torch.relu(self.hidden1(hidden))))
        log_odds: Tensor = self.output(hidden.transpose(1, 2))[..., 0]
        return log_odds


def normalise(log_mel: Tensor) -> Tensor:
    """Removes gain from windows, as the device does: [batch, frames, bands] dB to float32 of the same shape."""
    log_mel = log_mel.float()
    raised = torch.maximum(log_mel, log_mel.amax((1, 2), keepdim=True) - float(RANGE_DB))
    return (raised - raised.mean((1, 2), keepdim=True)) / float(SCALE_DB)


def train(windows: Windows, *, seed: int, epochs: int, report: Callable[[str], object]) -> GateNet:
    """Returns a trained network: the exponential average of its weights.

    Args:
        windows: to train on.
        seed: of the first weights, the batches and the augmentation.
        epochs: passes over the windows.
        report: takes a line after each epoch.
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    features, labels = torch.from_numpy(windows.log_mel), torch.from_numpy(windows.labels).float()
    weights = torch.from_numpy(windows.weights)[:, None]
    net = GateNet()
    average = {name: value.clone() for name, value in net.state_dict().items()}
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    batches = max(1, len(features) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, epochs * batches)
    for step in range(epochs * batches):
        rows = torch.randint(len(features), (BATCH,), generator=random)
        log_odds = net(_augment(normalise(features[rows]), random))
        labelled = labels[rows]
        weight = (labelled >= 0) * torch.where(labelled > 0.5, weights[rows], 1.0)
        target = labelled.clamp(0, 1) * (1 - 2 * SMOOTHING) + SMOOTHING
        errors = nn.functional.binary_cross_entropy_with_logits(log_odds, target, reduction="none")
        loss = (errors * weight).sum() / weight.sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        kept = min(AVERAGE, (1 + step) / (10 + step))
        for name, value in net.state_dict().items():
            average[name].mul_(kept).add_(value, alpha=1 - kept)
        if (step + 1) % batches == 0:
            report(f"epoch {(step + 1) // batches} of {epochs}: loss {loss.item():.3f}")
    net.load_state_dict(average)
    return net


def _augment(windows: Tensor, random: torch.Generator) -> Tensor:
    """Changes the gain of each band, and hides a few neighbouring bands."""
    count, bands = len(windows), windows.shape[2]
    strength = BAND_GAIN * torch.rand(count, 1, 1, generator=random)
    windows = windows + strength * torch.randn(count, 1, bands, generator=random)
    first = torch.randint(bands, (count, 1), generator=random)
    width = torch.randint(MASKED_BANDS, (count, 1), generator=random)
    band = torch.arange(bands)
    return windows.masked_fill(((band >= first) & (band < first + width))[:, None], 0.0)


def arrays(net: GateNet) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Returns the weights as `pipeline.gate.SpeechNet` multiplies by them, by the names of its `SHAPES`."""
    state = {name: value.detach().float().numpy() for name, value in net.state_dict().items()}
    out = {}
    for name, shape in SHAPES.items():
        value = state[name.replace("_", ".")]
        if value.ndim == 3:  # [output, input, tap] to [tap, input, output]
            value = value.transpose(2, 1, 0)
        elif value.ndim == 2:
            value = value.T
        out[name] = np.ascontiguousarray(value.reshape(shape))
    return out


def write_weights(path: Path, weights: Mapping[str, np.ndarray[Any, Any]], card: Mapping[str, Any]) -> None:
    """Writes weights and card atomically, as numpy's .npz.

    Args:
        path: of the file.
        weights: from `arrays`.
        card: anything that JSON holds.

    Raises:
        TrainingError: the file cannot be written.
    """
    members = {**weights, CARD: np.array(json.dumps(card, ensure_ascii=False, indent=1))}
    with atomic_replace(path, TrainingError) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name, value in members.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asanyarray(value), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy", _DATE), buffer.getvalue())
