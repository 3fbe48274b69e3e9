"""Prints the stress AUROC of sser-plus and sser-cnn by the emotions' share in the stress logit, as a Markdown table.

    python scripts/vote_shares.py

From the committed predictions: means over the folds of unseen speakers, and the Spanish corpus pooled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_sser.model.calibration import sigmoid
from edge_sser.model.vote import EmotionVote
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.metrics import logit
from edge_sser.train.evaluate.predictions import Prediction, read_predictions
from edge_sser.train.evaluate.scores import evaluate
from edge_sser.train.recipe import read_recipe
from edge_sser.train.students.backend import emotion_vote

RESULTS = Path(__file__).parents[1] / "docs" / "results"
CORPORA = ("ravdess", "nemo", "indian-emospeech", "spanish")
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
LEAST = 1e-6  # of a probability: the files have six digits


def with_share(item: Prediction, vote: EmotionVote, was: float, share: float) -> Prediction:
    """Returns a prediction with another share of the emotions.

    Args:
        item: made with the share `was`, below 1.
        vote: labels of either side.
        was: share in the file.
        share: to give.
    """
    emotions = np.log(np.clip(item.emotions, LEAST, 1.0))
    own = (logit(np.asarray(item.stress)) - was * vote.log_odds(emotions, EMOTIONS)) / (1.0 - was)
    return replace(item, stress=sigmoid(float(replace(vote, share=share).blend(own, emotions, EMOTIONS))))


def rows(name: str, shares: Sequence[float]) -> list[str]:
    """Returns the rows of a model that ships.

    Args:
        name: of its recipe and of its files of predictions.
        shares: to try.
    """
    recipe = read_recipe(name)
    vote = emotion_vote(recipe.model_copy(update={"emotion_share": 0.5}))
    assert vote is not None
    files = (RESULTS / f"{name}.csv", RESULTS / f"{name}.spanish.csv")
    items = [item for path in files for item in read_predictions(path)]
    out = []
    for share in shares:
        moved = [with_share(item, vote, recipe.emotion_share, share) for item in items]
        found = {each.corpus: each.auroc for each in evaluate(moved, "quadrant").corpora}
        out.append(f"| {name} | {share:g} | {' | '.join(f'{found[corpus]:.3f}' for corpus in CORPORA)} |")
    return out


if __name__ == "__main__":
    print(f"| model | share | {' | '.join(CORPORA)} |\n|{'---|' * (2 + len(CORPORA))}")
    print("\n".join([*rows("sser-plus", SHARES), *rows("sser-cnn", SHARES)]))
