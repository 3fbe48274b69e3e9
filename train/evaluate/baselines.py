"""Trivial systems, which every score must be set beside.

In acted corpora anger is loud and high, so a model can look good and be a level meter. These are one: logistic
regression on what a meter shows of a clip, fitted on the same clips as the model of the fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import TrainingError
from edge_sser.pipeline.level import dbfs
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.data.presets import read_preset
from edge_sser.train.evaluate.metrics import Floats
from edge_sser.train.evaluate.origin import Baseline
from edge_sser.train.evaluate.pitch import pitch_hz
from edge_sser.train.evaluate.predictions import Prediction, make_prediction, scorable


def fit_baseline(
    utterances: Sequence[Utterance],
    preset: str,
    kind: Baseline = Baseline.LEVEL,
    progress: Callable[[Utterance], None] = lambda utterance: None,
) -> list[Prediction]:
    """Out-of-fold predictions from level alone, or from level and pitch.

    Args:
        utterances: a table with at least two folds.
        preset: how emotions become stress.
        kind: what may be used; not the majority, which needs no recordings.
        progress: called after each recording that is read.

    Raises:
        SourceError: a recording cannot be read.
        TrainingError: no clip has a label, or a fold's training side has nothing to tell stress from.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    decision = read_preset(preset).decision
    utterances = scorable(utterances, preset)
    shown: dict[str, list[float]] = {}
    for clip in utterances:
        shown[clip.sha256] = _features(read_audio(clip.path), kind)
        progress(clip)
    out = []
    for fold in sorted({clip.fold for clip in utterances}):
        training, test = split(utterances, fold)
        named = [clip for clip in training if clip.emotion in EMOTIONS]
        judged = [(clip, decision(clip)) for clip in training if decision(clip) is not None]
        if {label for _, label in judged} != {0, 1}:
            raise TrainingError(
                f"{kind.value}: outside fold {fold} all clips are stressed, or none is: there is nothing to tell apart"
            )
        emotions = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        several = len({clip.emotion for clip in named}) > 1
        if several:
            emotions.fit([shown[clip.sha256] for clip in named], [EMOTIONS.index(clip.emotion) for clip in named])
        stressed = make_pipeline(StandardScaler(), LogisticRegression())
        stressed.fit([shown[clip.sha256] for clip, _ in judged], [label for _, label in judged])
        for clip in test:
            probabilities = np.zeros(len(EMOTIONS))
            if several:
                probabilities[emotions.classes_] = emotions.predict_proba([shown[clip.sha256]])[0]
            positive = float(stressed.predict_proba([shown[clip.sha256]])[0, 1])
            out.append(make_prediction(clip, emotions=probabilities, stress=positive))
    return out


def majority(predictions: Sequence[Prediction], preset: str) -> list[Prediction]:
    """What one says who knows the shares of the classes in a corpus and hears nothing.

    The shares are the corpus's own. Shares from the other folds would rank the folds, against the truth.
    """
    from dataclasses import replace

    table = read_preset(preset)
    shares: dict[str, tuple[tuple[float, ...], float]] = {}
    for corpus in {item.corpus for item in predictions}:
        own = [item for item in predictions if item.corpus == corpus]
        emotions = [item.emotion for item in own]
        known = [item.label(table) for item in own]
        judged = [value for value in known if value is not None]
        shares[corpus] = (
            tuple(emotions.count(name) / len(emotions) for name in EMOTIONS),
            float(np.mean(judged)) if judged else 0.0,
        )
    return [replace(item, emotions=shares[item.corpus][0], stress=shares[item.corpus][1]) for item in predictions]


def _features(samples: NDArray[np.float32], kind: Baseline) -> list[float]:
    """Level in dBFS, at least -120; with pitch also its median and spread in octaves."""
    level = dbfs(float(np.mean(samples.astype(np.float64) ** 2)))
    return [level] if kind is Baseline.LEVEL else [level, *_pitch(samples)]


def _pitch(samples: NDArray[np.float32]) -> list[float]:
    octaves: Floats = np.log2(pitch_hz(samples) / 100.0)
    if octaves.size == 0:
        return [0.0, 0.0]
    low, middle, high = np.percentile(octaves, [10.0, 50.0, 90.0])
    return [float(middle), float(high - low)]
