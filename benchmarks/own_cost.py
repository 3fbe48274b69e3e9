"""Size and cost of our models as `edge-sser train reference` measures a reference: float32 in torch on one thread.

The weights are random: they do not change the cost.
usage: python benchmarks/own_cost.py [--teacher NAME=FOLDER] [--out docs/results]   -> NAME.facts.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.train.data.features import windows
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.fit.checkpoint import make_student
from edge_sser.train.recipe import read_recipe
from edge_sser.train.references.cost import measure_cost
from edge_sser.train.references.system import Clip, Report, Samples, System
from edge_sser.train.teachers.encoder import load_encoder, sound_windows
from edge_sser.train.teachers.hubert import EncoderHead
from edge_sser.train.teachers.recipe import read_teacher_recipe

STUDENTS: dict[str, Sequence[str]] = {"sser-cnn": (), "sser-plus": ("sser-cnn", "sser-yamnet")}  # and what is beside


class OwnSystem(System):
    """A network of ours, to be measured alone."""

    window_seconds = FEATURES.frames / 100.0

    def __init__(self, net: nn.Module, front_end: Callable[[Samples], Tensor]) -> None:
        self.net, self.front_end = net.eval(), front_end

    def fit(self, training: Sequence[Clip], validation: Sequence[Clip], report: Report) -> None:
        """Refuses: the network is measured, not trained."""
        raise NotImplementedError

    def probabilities(self, clips: Sequence[Samples]) -> NDArray[np.float64]:
        """Refuses, as `fit`."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """Number of the network's parameters."""
        return sum(value.numel() for value in self.net.parameters())

    def network(self) -> tuple[nn.Module, Tensor]:
        """Returns the network and the input of a window of noise."""
        noise = np.random.default_rng(0).standard_normal(round(self.window_seconds * 16_000), dtype=np.float32)
        return self.net, self.front_end(0.1 * noise)

    def front_end_window(self, samples: Samples) -> Tensor:
        """Computes the network's input."""
        return self.front_end(samples)


def systems(teachers: Sequence[str]) -> Iterator[tuple[str, OwnSystem]]:
    """Yields our students, and teachers of NAME=FOLDER with the encoder's weights."""
    for name, beside in STUDENTS.items():
        companions = [make_student(read_recipe(companion), len(EMOTIONS)) for companion in beside]
        student = make_student(read_recipe(name), len(EMOTIONS), companions)
        yield name, OwnSystem(student, lambda samples: torch.from_numpy(windows(log_mel(samples))[:1]))
    for option in teachers:
        name, _, folder = option.partition("=")
        encoder, head = load_encoder(folder), read_teacher_recipe(name).head
        top = EncoderHead(
            layers=encoder.layers, dims=encoder.dims, width=head.width, emotions=len(EMOTIONS), dropout=head.dropout
        )
        yield name, OwnSystem(nn.Sequential(encoder, top), lambda samples: sound_windows(samples)[:1])


def main() -> None:
    """Measures and writes the facts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", action="append", default=[], help="NAME=FOLDER of the weights; may be repeated")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "results")
    options = parser.parse_args()
    for name, system in systems(options.teacher):
        facts = measure_cost(system)
        (options.out / f"{name}.facts.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        print(name, facts)


if __name__ == "__main__":
    main()
