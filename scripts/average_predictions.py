"""Averages the logits of several systems' predictions of the same clips: the predictions of an ensemble.

    python scripts/average_predictions.py sser-plus SYSTEM.csv ONE.csv OTHER.csv ...

The first argument is the recipe, whose emotions vote in the stress logit. A file that is given twice counts twice.
sser-plus is such an ensemble: each of its folds is a half of the trunk, a quarter of sser-cnn and a quarter of
sser-yamnet, none of which heard the fold's speakers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import EdgeSserError, TrainingError
from edge_sser.model.vote import EmotionVote
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.predictions import (
    Prediction,
    read_origin,
    read_predictions,
    write_origin,
    write_predictions,
)
from edge_sser.train.recipe import read_recipe
from edge_sser.train.students.backend import emotion_vote

LEAST = 1e-7  # of a probability, so that its logit is finite


def average(members: Sequence[Prediction], vote: EmotionVote | None = None) -> Prediction:
    """Returns the prediction whose logits are the mean of those of the members, all of one clip.

    Args:
        members: whose stress has no vote of the emotions.
        vote: of the emotions in the mean.
    """
    stress = np.clip([member.stress for member in members], LEAST, 1.0 - LEAST)
    logit = float(np.log(stress / (1.0 - stress)).mean())
    logits = np.log(np.clip([one.emotions for one in members], LEAST, 1.0)).mean(axis=0)
    emotions: NDArray[np.float64] = np.exp(logits)
    if vote is not None:
        logit = float(vote.blend(np.array(logit), logits, EMOTIONS))
    return replace(
        members[0], stress=float(1.0 / (1.0 + np.exp(-logit))), emotions=tuple(map(float, emotions / emotions.sum()))
    )


def main(recipe: str, out: Path, paths: Sequence[Path]) -> None:
    """Writes the average of some files of predictions.

    Raises:
        SettingsError: there is no such recipe.
        TrainingError: the files are of different clips, folds or presets: a mean of them is of no system that never
            heard the clips; or the emotions have voted in one of them.
    """
    tables = [{(each.corpus, each.path): each for each in read_predictions(path)} for path in paths]
    origins = [read_origin(path) for path in paths]
    first = tables[0]
    for path, table, origin in zip(paths, tables, origins, strict=True):
        if table.keys() != first.keys():
            raise TrainingError(f"{path} predicts other clips than {paths[0]}: predict the same table")
        if any(table[clip].fold != first[clip].fold for clip in first):
            raise TrainingError(f"{path} has other folds than {paths[0]}: train both on the same table")
        if origin.emotion_share:
            raise TrainingError(
                f"{path} has the vote of the emotions in its stress already, which the mean adds: predict it by a run "
                "of train fit --set emotion_share=0"
            )
        if origin.preset != origins[0].preset:
            raise TrainingError(
                f"{path} is of the preset {origin.preset}, and {paths[0]} of {origins[0].preset}: train both on one"
            )
    vote = emotion_vote(read_recipe(recipe))
    write_predictions(out, [average([table[clip] for table in tables], vote) for clip in first])
    write_origin(out, replace(origins[0], system=out.stem, emotion_share=vote.share if vote else 0.0))


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), [Path(path) for path in sys.argv[3:]])
    except EdgeSserError as error:
        sys.exit(f"error: {error}")
