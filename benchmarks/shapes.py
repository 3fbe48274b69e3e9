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
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from shapes_student import Head, Pool, Shape, Shaped
from torch import Tensor, nn

from edge_sser.commands.bench import describe_cpu, measure_latencies
from edge_sser.export.calibration import Method, find_range, observe
from edge_sser.export.card import make_card
from edge_sser.export.onnx import export_onnx, write_model
from edge_sser.export.quantize import Target, activations, quantise, slow_nodes
from edge_sser.pipeline.features import FEATURES
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.recipe import read_recipe

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "shapes.json"
CALIBRATION_WINDOWS = 8
INFERENCES = 400  # of each file, in turn


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
    "average pools": replace(SHIPPED, pool=Pool.AVERAGE),
    "max pools": replace(SHIPPED, pool=Pool.MAX),
    "ReLU6": replace(SHIPPED, activation="ReLU6"),
    "SiLU": replace(SHIPPED, activation="SiLU"),
    "hard-swish": replace(SHIPPED, activation="hard-swish"),
    "mean pool": replace(SHIPPED, head=Head.MEAN),
    "flatten": replace(SHIPPED, head=Head.FLATTEN),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Figures of a shape.

    Attributes:
        name: name of the shape.
        shape: its settings.
        parameters: number of parameters.
        multiplications: multiplications of the convolutions and the head, for one window.
        fp32_kb: size of the FP32 file, kilobytes.
        int8_kb: size of the INT8 file, kilobytes.
        fp32_ms: median wall time of one window in FP32 on one thread, milliseconds.
        int8_ms: the same in INT8.
    """

    name: str
    shape: Shape
    parameters: int
    multiplications: int
    fp32_kb: float
    int8_kb: float
    fp32_ms: float
    int8_ms: float


def windows(count: int, seed: int) -> NDArray[np.float32]:
    """Returns synthetic windows, float32 [count, frames, bands] in dB: noise with a rhythm like that of syllables."""
    random = np.random.default_rng(seed)
    time_s = np.arange(FEATURES.frames)[:, None] / 100.0
    swell = 12.0 * np.sin(2.0 * np.pi * random.uniform(2.0, 6.0, (count, 1, 1)) * time_s)
    tilt = np.linspace(0.0, -20.0, FEATURES.bands)
    noise = 6.0 * random.standard_normal((count, FEATURES.frames, FEATURES.bands))
    return (-50.0 + swell + tilt + noise).astype(np.float32)


def make(shape: Shape, folder: Path) -> tuple[Path, Path, int, int]:
    """Writes the FP32 and the INT8 file of a shape.

    Returns:
        Both paths, parameters and multiplications.
    """
    torch.manual_seed(0)
    net = Shaped(shape, len(EMOTIONS))
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 1.0  # statistics from one batch
    counted: list[int] = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda layer, inputs, out: counted.append(_multiplications(layer, out)))
    sound = windows(CALIBRATION_WINDOWS, seed=1)
    with torch.no_grad():
        net(torch.from_numpy(sound))
        counted.clear()
        net.eval()(torch.from_numpy(sound[:1]))
    for layer in net.modules():
        layer._forward_hooks.clear()
    recipe = read_recipe("sser-cnn")
    parameters = sum(value.numel() for value in net.parameters())
    card = make_card(recipe, {"emotions": list(EMOTIONS), "corpora": []}, {}, parameters)
    fp32, int8 = folder / "shape.onnx", folder / "shape.int8.onnx"
    multiplications = sum(counted)
    export_onnx(net, card, fp32)
    model = onnx.load(fp32)
    histograms = observe(model, activations(model), sound)
    ranges = {name: find_range(tensor, Method.MINMAX, symmetric=False) for name, tensor in histograms.items()}
    write_model(int8, quantise(model, Target.CPU, ranges, slow_nodes(model, Target.CPU)))
    return fp32, int8, parameters, multiplications


def _multiplications(layer: nn.Module, out: Tensor) -> int:
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
    places = 1 if isinstance(layer, nn.Linear) else out[0, 0].numel()
    return layer.weight.numel() * places


def measure(names: Sequence[str], inferences: int) -> list[Result]:
    """Makes the shapes and times their files in turn, so that other work of the machine affects all of them alike."""
    with tempfile.TemporaryDirectory() as root:
        files_of = {}
        for place, name in enumerate(names):
            folder = Path(root) / str(place)
            folder.mkdir()
            files_of[name] = make(SHAPES[name], folder)
        files = [path for fp32, int8, _, _ in files_of.values() for path in (fp32, int8)]
        timed = measure_latencies(files, threads=(1,), inferences={1: inferences})
        return [
            Result(
                name=name,
                shape=SHAPES[name],
                parameters=parameters,
                multiplications=multiplications,
                fp32_kb=fp32.stat().st_size / 1000,
                int8_kb=int8.stat().st_size / 1000,
                fp32_ms=timed[fp32][0].median_ms,
                int8_ms=timed[int8][0].median_ms,
            )
            for name, (fp32, int8, parameters, multiplications) in files_of.items()
        ]


def table(results: Sequence[Result]) -> str:
    """Formats the results as Markdown."""
    lines = [
        "| shape | parameters, k | multiplications, M | FP32, kB | INT8, kB | FP32, ms | INT8, ms | FP32 / INT8 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        lines.append(
            f"| {each.name} | {each.parameters / 1e3:.0f} | {each.multiplications / 1e6:.1f} | {each.fp32_kb:.0f} "
            f"| {each.int8_kb:.0f} | {each.fp32_ms:.3f} | {each.int8_ms:.3f} | {each.fp32_ms / each.int8_ms:.2f} |"
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
    values = {"machine": describe_cpu(), "inferences": inferences, "shapes": [asdict(each) for each in results]}
    options.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
