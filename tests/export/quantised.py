"""A small network and real windows for the tests of quantising."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from voices import voice

from edge_sser.export.calibration import CalibrationData, Method, find_range, observe
from edge_sser.export.card import make_card
from edge_sser.export.onnx import export_onnx
from edge_sser.export.quantize import Target, activations, quantise
from edge_sser.model.model import Card, Model
from edge_sser.pipeline.features import log_mel
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.recipe import read_recipe
from edge_sser.train.students.cnn import CompactCnn
from edge_sser.train.students.net import Student

HEADER = {"emotions": list(EMOTIONS), "corpora": [{"name": "toy", "utterances": 1, "speakers": 1}]}


@cache
def spoken(count: int, *, seed: int = 0) -> np.ndarray:
    """Windows of voices: float32 [count, frames, bands]."""
    random = np.random.default_rng(seed)
    return np.stack(
        [
            log_mel(
                voice(
                    pitch_hz=random.uniform(90, 300), syllables_hz=random.uniform(2, 6), seconds=3.0, seed=seed + place
                )
            )
            for place in range(count)
        ]
    )


def fp32(folder: Path) -> tuple[onnx.ModelProto, Card]:
    """A network that has heard voices, exported."""
    torch.manual_seed(0)
    net = CompactCnn(width=4, emotions=8, dropout=0.3)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            layer.momentum = 1.0  # one look is enough
    with torch.no_grad():
        net(torch.from_numpy(spoken(24)))
    return exported(net, folder)


def exported(net: Student, folder: Path) -> tuple[onnx.ModelProto, Card]:
    """A network as an FP32 graph, and its card."""
    path = folder / "small.onnx"
    export_onnx(net.eval(), make_card(read_recipe("sser-cnn"), HEADER, {}, 1), path)
    return onnx.load(path), Model.load(path).card


def calibration_data() -> CalibrationData:
    """Windows to calibrate and to choose by."""
    return CalibrationData(spoken(24), spoken(32, seed=500), 0, "0" * 64)


def int8(
    model: onnx.ModelProto, target: Target, keep_float: tuple[str, ...] = (), method: Method = Method.MINMAX
) -> onnx.ModelProto:
    """The network in 8 bits."""
    seen = observe(model, activations(model), spoken(24))
    ranges = {name: find_range(tensor, method, symmetric=target is Target.TENSORRT) for name, tensor in seen.items()}
    return quantise(model, target, ranges, keep_float)


def logits(model: onnx.ModelProto, card: Card, windows: np.ndarray, folder: Path) -> np.ndarray:
    """Stress and emotions of windows, as the runtime computes them: float32 [n, 1 + classes]."""
    path = folder / "measured.onnx"
    path.write_bytes(model.SerializeToString())
    stress, emotions = Model.load(path, runtime="cpu").logits(windows)
    return np.column_stack([stress, emotions])
