"""The level meter as a stress detector: what every score must be set beside.

In acted corpora anger is loud, so a model can look good and be a level meter. This baseline is one: logistic regression
on the clip's level alone, fitted on the same clips as the model of the fold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .audio import read_audio
from .corpora.table import Utterance
from .folds import split
from .labels import EMOTIONS, PRESETS
from .predictions import Prediction, make_prediction


def level_only(utterances: Sequence[Utterance], preset: str) -> list[Prediction]:
    """Out-of-fold predictions from level alone.

    Args:
        utterances: a table with at least two folds.
        preset: how emotions become stress.

    Raises:
        SourceError: a recording cannot be read.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    stress = PRESETS[preset]
    level = {clip.sha256: _level_db(clip) for clip in utterances}
    out = []
    for fold in sorted({clip.fold for clip in utterances}):
        training, test = split(utterances, fold)
        judged = [clip for clip in training if stress[clip.emotion] is not None]
        emotions = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        emotions.fit([[level[clip.sha256]] for clip in training], [EMOTIONS.index(clip.emotion) for clip in training])
        stressed = make_pipeline(StandardScaler(), LogisticRegression())
        stressed.fit([[level[clip.sha256]] for clip in judged], [stress[clip.emotion] for clip in judged])
        for clip in test:
            probabilities = np.zeros(len(EMOTIONS))
            probabilities[emotions.classes_] = emotions.predict_proba([[level[clip.sha256]]])[0]
            positive = float(stressed.predict_proba([[level[clip.sha256]]])[0, 1])
            out.append(make_prediction(clip, emotions=probabilities, stress=positive))
    return out


def _level_db(utterance: Utterance) -> float:
    """Level of the whole clip, dBFS, at least -120."""
    power = float(np.mean(read_audio(utterance.path).astype(np.float64) ** 2))
    return 10.0 * math.log10(max(power, 1e-12))
