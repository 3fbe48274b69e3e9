"""Trivial systems, for comparison with every score.

In acted corpora anger is loud and high-pitched, so that a model can look good and be a level meter. The baselines are
logistic regressions on a clip's level, or level and pitch, fitted on the same clips as the model of the fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import TrainingError
from edge_sser.pipeline.level import dbfs
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.evaluate.metrics import Floats
from edge_sser.train.evaluate.predictions import Baseline, Prediction, make_prediction, scorable

FRAME_SAMPLES = 960  # 60 ms: three periods of the lowest pitch
HOP_SAMPLES = 320  # 20 ms
LOWEST_HZ, HIGHEST_HZ = 60.0, 600.0
VOICED = 0.5  # least autocorrelation of a voiced frame
RANGE_DB = 30.0  # a frame this far below the loudest one has no pitch
_OCTAVE_COST = 0.05  # a pitch an octave lower must correlate by this much more: multiples of a period correlate, too


def fit_baseline(
    utterances: Sequence[Utterance],
    preset: str,
    kind: Baseline = Baseline.LEVEL,
    progress: Callable[[Utterance], None] = lambda utterance: None,
) -> list[Prediction]:
    """Out-of-fold predictions from level alone, or from level and pitch.

    Args:
        utterances: a table with at least two folds.
        preset: of stress.
        kind: level, or level and pitch.
        progress: called after each recording that is read.

    Raises:
        SourceError: a recording cannot be read.
        TrainingError: no clip has a label, or a fold's training side has stressed or other clips only.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    decision = read_preset(preset).decision
    utterances = scorable(utterances, preset)
    features: dict[str, list[float]] = {}
    for clip in utterances:
        features[clip.sha256] = _features(read_audio(clip.path), kind)
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
            emotions.fit([features[clip.sha256] for clip in named], [EMOTIONS.index(clip.emotion) for clip in named])
        stressed = make_pipeline(StandardScaler(), LogisticRegression())
        stressed.fit([features[clip.sha256] for clip, _ in judged], [label for _, label in judged])
        for clip in test:
            probabilities = np.zeros(len(EMOTIONS))
            if several:
                probabilities[emotions.classes_] = emotions.predict_proba([features[clip.sha256]])[0]
            positive = float(stressed.predict_proba([features[clip.sha256]])[0, 1])
            out.append(make_prediction(clip, emotions=probabilities, stress=positive))
    return out


def majority(predictions: Sequence[Prediction], preset: str) -> list[Prediction]:
    """Predicts the shares of the classes in the corpus for every clip.

    The shares are of the whole corpus. Shares of the other folds would rank the folds, against the truth.
    """
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
    """Returns the level in dBFS, at least -120; with pitch also its median and spread in octaves."""
    level = dbfs(float(np.mean(samples.astype(np.float64) ** 2)))
    return [level] if kind is Baseline.LEVEL else [level, *_pitch(samples)]


def _pitch(samples: NDArray[np.float32]) -> list[float]:
    octaves: Floats = np.log2(pitch_hz(samples) / 100.0)
    if octaves.size == 0:
        return [0.0, 0.0]
    low, middle, high = np.percentile(octaves, [10.0, 50.0, 90.0])
    return [float(middle), float(high - low)]


def pitch_hz(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pitch of the voiced frames, from the autocorrelation corrected for that of the window (Boersma, 1993).

    Args:
        samples: float32 [n], mono, 16 kHz.

    Returns:
        Hz, float64 [voiced frames]; empty without a voiced frame, or for less than 60 ms.
    """
    if samples.size < FRAME_SAMPLES:
        return np.empty(0)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), FRAME_SAMPLES)[::HOP_SAMPLES]
    power = frames.var(axis=1)
    frames = frames[power > max(float(power.max()), 1e-12) * 10.0 ** (-RANGE_DB / 10.0)]
    window = np.hanning(FRAME_SAMPLES)
    correlation = _autocorrelation((frames - frames.mean(axis=1, keepdims=True)) * window) / _autocorrelation(window)
    first, last = int(SAMPLE_RATE / HIGHEST_HZ), int(SAMPLE_RATE / LOWEST_HZ)
    before, here, after = (correlation[:, first + step : last + 1 + step] for step in (-1, 0, 1))
    peaks = (here >= before) & (here >= after)
    # A parabola through three lags: at 450 Hz a whole lag is 6 Hz, and the true peak lies between two.
    bend = np.where(peaks, np.maximum(2.0 * here - before - after, 1e-9), 1.0)
    offset = np.where(peaks, 0.5 * (after - before) / bend, 0.0)
    height = np.where(peaks, here + 0.25 * (after - before) * offset, -1.0)
    lags = np.arange(first, last + 1)
    row = np.arange(len(height))
    best = (height - _OCTAVE_COST * np.log2(lags / first)).argmax(axis=1)
    voiced = height[row, best] >= VOICED
    return np.asarray(SAMPLE_RATE / (lags[best] + offset[row, best])[voiced], dtype=np.float64)


def _autocorrelation(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the autocorrelation of each frame, 1 at lag 0: [..., lags]."""
    spectrum = np.abs(np.fft.rfft(frames, 2 * FRAME_SAMPLES)) ** 2
    lags = np.fft.irfft(spectrum)[..., : FRAME_SAMPLES // 2]
    return np.asarray(lags / np.maximum(lags[..., :1], 1e-20))
