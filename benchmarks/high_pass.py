"""Difference that the device's high-pass makes to a model that was trained without it.

Scores every clip with and without the filter. Only the difference means something where the model has heard a speaker.
usage: python benchmarks/high_pass.py TABLE [MODEL.onnx]   -> a Markdown table on standard output
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from edge_sser.model.model import Model
from edge_sser.model.shipped import model_file
from edge_sser.pipeline.features import log_mel
from edge_sser.pipeline.highpass import high_pass
from edge_sser.train.corpora.table import read_table
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.metrics import auroc


def main(table: Path, path: Path) -> None:
    """Prints stress AUROC by corpus, with and without the filter."""
    model, preset = Model.load(path), read_preset("quadrant")
    found: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for clip in read_table(table):
        stressed = preset.decision(clip)
        if stressed is None:
            continue
        samples = read_audio(clip.path)
        plain, filtered = (
            float(np.mean([model.score(np.ascontiguousarray(window)).log_odds for window in windows(log_mel(each))]))
            for each in (samples, high_pass(samples))
        )
        found[clip.corpus].append((stressed, plain, filtered))
    print("| corpus | clips | AUROC without | with the high-pass |\n|---|---|---|---|")
    for corpus, rows in sorted(found.items()):
        labels = np.array([row[0] for row in rows])
        without, with_filter = (auroc(labels, np.array([row[place] for row in rows])) for place in (1, 2))
        print(f"| {corpus} | {len(rows)} | {without:.4f} | {with_filter:.4f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else model_file())
