"""Scores of a reference system as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.metrics import NAN, macro_f1, mean_known
from edge_sser.train.evaluate.predictions import Prediction
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.evaluate.scores import fold_scores


def score_lines(predictions: Sequence[Prediction], preset: str) -> Iterator[str]:
    """Yields a Markdown table: UA, WA and macro F1 of the emotions, and AUROC of stress, means over folds.

    Args:
        predictions: of one system.
        preset: of stress.
    """
    table = ScoreTable(predictions, read_preset(preset))
    yield "| corpus | clips / folds | UA % | WA % | macro F1 % | stress AUROC |"
    yield "|---|---|---|---|---|---|"
    for corpus in np.unique(table.corpus):
        inside = table.corpus == corpus
        folds = fold_scores(table, inside)
        named = [inside & table.named & (table.fold == fold.fold) for fold in folds]
        right = [
            float(np.mean(table.emotion[clips] == table.decided[clips])) if clips.any() else NAN for clips in named
        ]
        f1 = [macro_f1(table.emotion[clips], table.decided[clips]) for clips in named]
        values = (mean_known(fold.ua for fold in folds), mean_known(map(float, right)), mean_known(f1))
        cells = [f"{100 * value:.1f}" for value in values] + [f"{mean_known(fold.auroc for fold in folds):.3f}"]
        known = (cell if cell != "nan" else "-" for cell in cells)
        yield f"| {corpus} | {int(inside.sum())} / {len(folds)} | {' | '.join(known)} |"
