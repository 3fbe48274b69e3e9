"""Scores of a reference system as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.metrics import mean_known
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
        rates = ([fold.ua for fold in folds], [fold.wa for fold in folds], [fold.macro_f1 for fold in folds])
        cells = [f"{100 * mean_known(values):.1f}" for values in rates]
        cells.append(f"{mean_known(fold.auroc for fold in folds):.3f}")
        known = (cell if cell != "nan" else "-" for cell in cells)
        yield f"| {corpus} | {int(inside.sum())} / {len(folds)} | {' | '.join(known)} |"
