"""Measures size and cost of all systems of the comparison in one run and writes them into their NAME.facts.json.

`python scripts/reference_cost.py FOLDER` on an idle machine, with Whisper's weights in FOLDER/whisper-tiny and
FOLDER/whisper-base; then scripts/reference_tables.py. Networks are untrained; support vectors are ones, as many as the
facts say: neither changes the cost. Times are medians of rounds over all systems, so that a disturbance meets all.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.fit.checkpoint import make_student
from edge_sser.train.recipe import read_recipe
from edge_sser.train.references.classical import ClassicalSystem, Head
from edge_sser.train.references.cost import measure_cost
from edge_sser.train.references.encoders import WINDOW_SECONDS
from edge_sser.train.references.recipe import read_reference_recipe, reference_names
from edge_sser.train.references.registry import make
from edge_sser.train.references.results import write_json
from edge_sser.train.references.system import System
from edge_sser.train.references.torch_system import FrontEnd, TorchSystem, Training, Windows
from edge_sser.train.teachers.encoder import load_encoder, standardise_sound
from edge_sser.train.teachers.hubert import EncoderHead
from edge_sser.train.teachers.recipe import read_teacher_recipe, shipped_recipes

ROUNDS = 3


def measure(results: Path, weights: Path) -> None:
    """Measures each system that has facts in docs/results; `weights` has the folders of the encoders."""
    facts = {path: json.loads(path.read_text("utf-8")) for path in sorted(results.rglob("*.facts.json"))}
    systems = {path: make_system(path.name.split(".")[0], old["parameters"], weights) for path, old in facts.items()}
    rounds = [{path: measure_cost(system) for path, system in systems.items()} for _ in range(ROUNDS)]
    for path, new in rounds[0].items():
        times = {key: statistics.median(each[path][key] for each in rounds) for key in ("cpu_ms", "front_end_ms")}
        write_json(path, {**facts[path], **new, **times})
        print(path.name, times)


def make_system(name: str, parameters: int, weights: Path) -> System:
    """Makes a reference, a teacher or a student; a classical system of so many parameters."""
    if name in shipped_recipes():
        recipe = read_teacher_recipe(name)
        encoder = load_encoder(str(weights / Path(recipe.encoder.weights).name))
        sizes = {"layers": encoder.layers, "dims": encoder.dims, "width": recipe.head.width, "emotions": len(EMOTIONS)}
        net = nn.Sequential(encoder, EncoderHead(**sizes, dropout=0.0))
        return _system(net, lambda samples: standardise_sound(torch.from_numpy(samples)[None])[0])
    if name not in reference_names():
        student = make_student(read_recipe(name), len(EMOTIONS))
        return _system(student, lambda samples: torch.from_numpy(log_mel(samples)[: FEATURES.frames]))
    reference = read_reference_recipe(name)
    settings = dict(reference.settings)
    if "weights" in settings.get("encoder", {}):
        settings["encoder"] = {"weights": str(weights / Path(settings["encoder"]["weights"]).name)}
    system = make(reference.system, settings, 1)
    if isinstance(system, ClassicalSystem):
        dims, kernel = system.compute(np.ones(48_000, np.float32)).size, system.settings.kind == "svm"
        outside = system.parameters + len(EMOTIONS) + 2 * dims
        rows = (parameters - outside) // (dims + len(EMOTIONS)) if kernel else dims
        vectors, matrix = np.ones((rows, dims)), np.ones((rows, len(EMOTIONS)))
        scale, bias = np.ones(dims), np.zeros(len(EMOTIONS))
        system.head = Head(np.zeros(dims), scale, vectors if kernel else None, 1.0 / dims, matrix, bias)
    return system


def _system(net: nn.Module, front_end: FrontEnd) -> System:
    return TorchSystem(front_end, net.eval, Training(), 1, windows=Windows(seconds=WINDOW_SECONDS))


if __name__ == "__main__":
    measure(Path(__file__).parents[1] / "docs" / "results", Path(sys.argv[1]))
