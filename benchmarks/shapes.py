"""Latency of students of different shapes in FP32 and INT8.

Each shape gets untrained weights, and is exported and quantised as by `edge-sser export`. All are timed in turn on one
thread. Accuracy is not measured.
usage: python benchmarks/shapes.py [--quick] [--json FILE]   -> a Markdown table; docs/results/shapes.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edge_sser.commands.bench import describe_cpu, measure_latencies
from edge_sser.export.calibration import Method, find_range, observe
from edge_sser.export.card import make_card
from edge_sser.export.onnx import export_onnx, write_model
from edge_sser.export.quantize import Target, activations, quantise, slow_nodes
from edge_sser.pipeline.features import FEATURES
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.recipe import read_recipe
from edge_sser.train.students.net import Student, standardise

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "shapes.json"
CALIBRATION_WINDOWS = 8
INFERENCES = 400  # of each file, in turn

ACTIVATIONS = {"ReLU": nn.ReLU, "ReLU6": nn.ReLU6, "SiLU": nn.SiLU, "hard-swish": nn.Hardswish}
POOLS = {"stride": None, "average": nn.AvgPool2d, "max": nn.MaxPool2d}


class Head(str, Enum):
    """Layers from the planes to the embedding."""

    ATTENTION = "fold + attention"
    """Bands folded into channels, attention over time: the student that ships."""
    MEAN = "mean"
    """Mean over bands and frames."""
    FLATTEN = "fold + flatten"
    """Bands folded into channels, one set of weights per frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Shape of a student; the defaults are those of the student that ships.

    Attributes:
        channels: channels of the stem, and of the three stages after it.
        stem: side of the first convolution's kernel.
        stem_stride: stride of the first convolution: bands, frames.
        group: channels in a group of the 3 x 3 convolutions; 0: all, 1: depthwise with a 1 x 1 behind it.
        pool: downsampling of the planes, one of `POOLS`.
        activation: activation after each convolution, one of `ACTIVATIONS`.
    """

    channels: tuple[int, int, int, int] = (12, 24, 48, 72)
    stem: int = 5
    stem_stride: tuple[int, int] = (2, 2)
    group: int = 0
    pool: str = "stride"
    activation: str = "ReLU"
    head: Head = Head.ATTENTION


SHIPPED = Shape()
SHAPES: dict[str, Shape] = {
    "as shipped": SHIPPED,
    "channels 16, 32, 48, 64": replace(SHIPPED, channels=(16, 32, 48, 64)),
    "channels 8, 32, 48, 64": replace(SHIPPED, channels=(8, 32, 48, 64)),
    "channels 16, 16, 48, 80": replace(SHIPPED, channels=(16, 16, 48, 80)),
    "channels 16, 32, 32, 96": replace(SHIPPED, channels=(16, 32, 32, 96)),
    "stem 3 x 3": replace(SHIPPED, stem=3),
    "stem 7 x 7, stride 4, 2": replace(SHIPPED, stem=7, stem_stride=(4, 2)),
    "stem stride 2, 4": replace(SHIPPED, stem_stride=(2, 4)),
    "stem stride 4, 4, channels 16, 48, 80, 96": replace(SHIPPED, stem_stride=(4, 4), channels=(16, 48, 80, 96)),
    "groups of 12": replace(SHIPPED, group=12),
    "groups of 4": replace(SHIPPED, group=4),
    "depthwise": replace(SHIPPED, group=1),
    "average pools": replace(SHIPPED, pool="average"),
    "max pools": replace(SHIPPED, pool="max"),
    "ReLU6": replace(SHIPPED, activation="ReLU6"),
    "SiLU": replace(SHIPPED, activation="SiLU"),
    "hard-swish": replace(SHIPPED, activation="hard-swish"),
    "mean pool": replace(SHIPPED, head=Head.MEAN),
    "flatten": replace(SHIPPED, head=Head.FLATTEN),
}


class Shaped(Student):
    """Student with a given shape."""

    def __init__(self, shape: Shape, emotions: int) -> None:
        """Makes the net with fresh weights."""
        super().__init__()
        self._shape = shape
        stem, first, second, third = shape.channels
        pool = POOLS[shape.pool]
        layers = self._convolution(1, stem, shape.stem, shape.stem_stride)
        plan = [
            (stem, first, (2, 2)),
            (first, first, (1, 1)),
            (first, second, (2, 2)),
            (second, second, (1, 1)),
            (second, third, (2, 1)),
            (third, third, (1, 1)),
        ]
        for inputs, outputs, stride in plan:
            strided = stride if pool is None else (1, 1)
            if shape.group == 1:
                layers += self._convolution(inputs, inputs, 3, strided, groups=inputs)
                layers += self._convolution(inputs, outputs, 1)
            else:
                groups = inputs // shape.group if shape.group else 1
                layers += self._convolution(inputs, outputs, 3, strided, groups=groups)
            if pool is not None and stride != (1, 1):
                layers.append(pool(stride))
        self.body = nn.Sequential(*layers)
        bands, frames = self.body(torch.zeros(1, 1, FEATURES.bands, FEATURES.frames)).shape[2:]
        if shape.head is not Head.MEAN:
            folded = nn.Conv1d(third * bands, third, 1, bias=False)
            self.fold = nn.Sequential(folded, nn.BatchNorm1d(third), ACTIVATIONS[shape.activation]())
        if shape.head is Head.ATTENTION:
            self.attention = nn.Conv1d(third, 1, 1)
        self.dropout = nn.Dropout(0.0)
        self.head = nn.Linear(third * (frames if shape.head is Head.FLATTEN else 1), emotions + 2)

    def _convolution(
        self, inputs: int, outputs: int, kernel: int, stride: tuple[int, int] = (1, 1), groups: int = 1
    ) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), ACTIVATIONS[self._shape.activation]()]

    def embed(self, sound: Tensor) -> Tensor:
        """Returns embeddings, float32 [batch, embedding], of log-mel windows [batch, frames, bands] in dB."""
        planes: Tensor = self.body(standardise(sound).transpose(1, 2).unsqueeze(1))
        if self._shape.head is Head.MEAN:
            return planes.mean(dim=(2, 3))
        steps: Tensor = self.fold(planes.flatten(1, 2))
        if self._shape.head is Head.FLATTEN:
            return steps.flatten(1)
        return (steps * self.attention(steps).softmax(dim=-1)).sum(dim=-1)


def windows(count: int, seed: int) -> NDArray[np.float32]:
    """Returns synthetic windows, float32 [count, frames, bands] in dB: noise with a rhythm like that of syllables."""
    random = np.random.default_rng(seed)
    time_s = np.arange(FEATURES.frames)[:, None] / 100.0
    swell = 12.0 * np.sin(2.0 * np.pi * random.uniform(2.0, 6.0, (count, 1, 1)) * time_s)
    tilt = np.linspace(0.0, -20.0, FEATURES.bands)
    noise = 6.0 * random.standard_normal((count, FEATURES.frames, FEATURES.bands))
    return (-50.0 + swell + tilt + noise).astype(np.float32)


def make(shape: Shape, fp32: Path, int8: Path) -> tuple[int, int]:
    """Writes the files of a shape. Returns its parameters, and its multiplications for one window."""
    torch.manual_seed(0)
    net = Shaped(shape, len(EMOTIONS))
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 1.0  # statistics from one batch
    sound = windows(CALIBRATION_WINDOWS, seed=1)
    with torch.no_grad():
        net(torch.from_numpy(sound))
        with FlopCounterMode(display=False) as counter:
            net.eval()(torch.from_numpy(sound[:1]))
    parameters = sum(value.numel() for value in net.parameters())
    card = make_card(read_recipe("sser-cnn"), {"emotions": list(EMOTIONS), "corpora": []}, {}, parameters)
    export_onnx(net, card, fp32)
    model = onnx.load(fp32)
    histograms = observe(model, activations(model), sound)
    ranges = {name: find_range(tensor, Method.MINMAX, symmetric=False) for name, tensor in histograms.items()}
    write_model(int8, quantise(model, Target.CPU, ranges, slow_nodes(model, Target.CPU)))
    return parameters, counter.get_total_flops() // 2  # an addition belongs to each multiplication


def measure(names: Sequence[str], inferences: int) -> list[dict[str, Any]]:
    """Makes the shapes and times their files in turn, so that other work of the machine affects all of them alike.

    Returns:
        For each shape its settings, parameters, multiplications for one window, and by precision the size of the file,
        kilobytes, and the median wall time of one window on one thread, milliseconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [(Path(folder) / f"{place}.onnx", Path(folder) / f"{place}.int8.onnx") for place in range(len(names))]
        counts = [make(SHAPES[name], *pair) for name, pair in zip(names, files, strict=True)]
        timed = measure_latencies([path for pair in files for path in pair], threads=(1,), inferences={1: inferences})
        return [
            {
                "name": name,
                "shape": asdict(SHAPES[name]),
                "parameters": parameters,
                "multiplications": multiplications,
                "fp32_kb": fp32.stat().st_size / 1000,
                "int8_kb": int8.stat().st_size / 1000,
                "fp32_ms": timed[fp32][0].median_ms,
                "int8_ms": timed[int8][0].median_ms,
            }
            for name, (parameters, multiplications), (fp32, int8) in zip(names, counts, files, strict=True)
        ]


def table(results: Sequence[dict[str, Any]]) -> str:
    """Formats the results as Markdown."""
    lines = [
        "| shape | parameters, k | multiplications, M | FP32, kB | INT8, kB | FP32, ms | INT8, ms | FP32 / INT8 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        lines.append(
            f"| {each['name']} | {each['parameters'] / 1e3:.0f} | {each['multiplications'] / 1e6:.1f} "
            f"| {each['fp32_kb']:.0f} | {each['int8_kb']:.0f} | {each['fp32_ms']:.3f} | {each['int8_ms']:.3f} "
            f"| {each['fp32_ms'] / each['int8_ms']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two inferences of each file, as a test")
    parser.add_argument("--only", action="append", choices=list(SHAPES), metavar="SHAPE", help="may be repeated")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file to write")
    options = parser.parse_args()
    inferences = 2 if options.quick else INFERENCES
    results = measure(options.only or list(SHAPES), inferences)
    print(table(results))
    values = {"machine": describe_cpu(), "inferences": inferences, "shapes": results}
    options.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
