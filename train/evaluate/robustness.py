"""Robustness to noise, telephones, rooms and gain: change of the scores, share of unchanged decisions."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.evaluate.conditions import Condition
from edge_sser.train.evaluate.metrics import (
    NAN,
    Check,
    Sense,
    auroc,
    calibrated,
    has_both_classes,
    logit,
    uar,
    unweighted_accuracy,
)
from edge_sser.train.evaluate.models import Models
from edge_sser.train.evaluate.predictions import predict_samples


@dataclass(frozen=True, slots=True)
class Clean:
    """Scores of the undistorted clips, pooled over folds; fractions 0..1, NaN where labels do not allow one."""

    corpus: str
    clips: int
    ua: float
    auroc: float
    uar: float


@dataclass(frozen=True, slots=True)
class Effect:
    """Effect of a condition on a corpus. Changes are distorted less clean; shares 0..1; NaN as in `Clean`.

    Attributes:
        condition: its name.
        corpus: its name.
        clips: number of distorted clips.
        ua_change: of the emotions' UA.
        emotions_unchanged: share of clips with the same decision.
        auroc_change: of stress.
        uar_change: of the stress decision's UAR.
        stress_unchanged: share of clips with the same decision.
        checks: figures that have a limit.
    """

    condition: str
    corpus: str
    clips: int
    ua_change: float
    emotions_unchanged: float
    auroc_change: float
    uar_change: float
    stress_unchanged: float
    checks: Sequence[Check]


@dataclass(frozen=True, slots=True)
class Robustness:
    """Effects of all conditions on a system.

    Attributes:
        system: its name.
        clean: scores of the undistorted clips.
        effects: condition by condition.
        missing: a line for each condition without recordings.
    """

    system: str
    clean: Sequence[Clean]
    effects: Sequence[Effect]
    missing: Sequence[str]


def try_conditions(
    models: Models,
    utterances: Sequence[Utterance],
    conditions: Sequence[Condition],
    *,
    preset: str,
    missing: Sequence[str] = (),
    progress: Callable[[], None] = lambda: None,
) -> Robustness:
    """Scores clips clean and under every condition, each by the model that was not trained on its speaker.

    Args:
        models: calibrated.
        utterances: clips to distort.
        conditions: distortions.
        preset: of stress.
        missing: a line for each other condition.
        progress: called after each clip under each condition, the clean one included.

    Raises:
        SourceError: a recording cannot be read.
    """
    labels = _GroundTruth(utterances, preset)
    clean = _Decisions(len(utterances))
    distorted = [_Decisions(len(utterances)) for _ in conditions]
    for place, clip in enumerate(utterances):
        samples = read_audio(clip.path)
        clean.add(place, models, clip, samples, labels)
        progress()
        for condition, answers in zip(conditions, distorted, strict=True):
            random = np.random.default_rng([zlib.crc32(clip.sha256.encode()), zlib.crc32(condition.name.encode())])
            changed = condition.apply(samples, random, clip)
            if changed is not None:
                answers.add(place, models, clip, changed, labels)
            progress()
    corpora = sorted(set(labels.corpus.tolist()))
    return Robustness(
        system=models.origin.system,
        clean=[Clean(corpus, *_scores(labels, clean, labels.corpus == corpus)) for corpus in corpora],
        effects=[
            _effect(condition, corpus, labels, clean, answers)
            for condition, answers in zip(conditions, distorted, strict=True)
            for corpus in corpora
            if (answers.given & (labels.corpus == corpus)).any()
        ],
        missing=[*missing, *labels.missing],
    )


class _GroundTruth:
    """Labels of each clip."""

    def __init__(self, utterances: Sequence[Utterance], preset: str) -> None:
        self.corpus = np.array([clip.corpus for clip in utterances])
        self.named = np.array([clip.emotion in EMOTIONS for clip in utterances])
        self.emotion = np.array(
            [EMOTIONS.index(clip.emotion) if clip.emotion in EMOTIONS else -1 for clip in utterances]
        )
        decision = read_preset(preset).decision
        mapped = [decision(clip) for clip in utterances]
        self.judged = np.array([value is not None for value in mapped])
        self.stress = np.array([value or 0 for value in mapped])
        self.classes: Mapping[str, np.ndarray] = {
            str(corpus): np.unique(self.emotion[self.named & (self.corpus == corpus)])
            for corpus in np.unique(self.corpus)
        }
        self.missing = [
            f"AUROC and UAR of stress on {corpus}: the clips chosen are all stressed, or none is (--clips chooses more)"
            for corpus in self.classes
            if not has_both_classes(self.stress[self.judged & (self.corpus == corpus)])
        ]
        self.missing += [
            f"emotions on {corpus}: the clips chosen have none, or all the same one"
            for corpus, classes in self.classes.items()
            if classes.size < 2
        ]


class _Decisions:
    """Decisions on each clip under one condition."""

    def __init__(self, clips: int) -> None:
        self.given = np.zeros(clips, dtype=np.bool_)
        self.emotion = np.zeros(clips, dtype=np.int64)
        self.logit = np.zeros(clips)
        self.stressed = np.zeros(clips, dtype=np.int64)

    def add(self, place: int, models: Models, clip: Utterance, samples: np.ndarray, labels: _GroundTruth) -> None:
        model = models.model_for(clip)
        prediction = predict_samples(model, clip, samples)
        classes = labels.classes[clip.corpus]
        self.given[place] = True
        if classes.size:
            self.emotion[place] = classes[np.array(prediction.emotions)[classes].argmax()]
        self.logit[place] = logit(np.array([prediction.stress]))[0]
        self.stressed[place] = calibrated(self.logit[place : place + 1], model.card.calibration)[0] >= 0.5


def _scores(labels: _GroundTruth, answers: _Decisions, inside: np.ndarray) -> tuple[int, float, float, float]:
    """Returns number of clips, UA, AUROC and UAR."""
    judged, named = inside & labels.judged, inside & labels.named
    several = np.unique(labels.emotion[named]).size > 1
    return (
        int(inside.sum()),
        unweighted_accuracy(labels.emotion[named], answers.emotion[named]) if several else NAN,
        auroc(labels.stress[judged], answers.logit[judged]),
        uar(labels.stress[judged], answers.stressed[judged]),
    )


def _effect(
    condition: Condition, corpus: str, labels: _GroundTruth, clean: _Decisions, distorted: _Decisions
) -> Effect:
    inside = distorted.given & (labels.corpus == corpus)
    clips, *before = _scores(labels, clean, inside)
    _, *after = _scores(labels, distorted, inside)
    ua, area, uar = (now - then for now, then in zip(after, before, strict=True))
    same_emotion = float(np.mean(clean.emotion[inside] == distorted.emotion[inside])) if not np.isnan(ua) else NAN
    same_stress = float(np.mean(clean.stressed[inside] == distorted.stressed[inside]))
    figures = [
        ("UA change", ua, Sense.AT_LEAST, condition.ua_change),
        ("UAR change of stress", uar, Sense.AT_LEAST, condition.uar_change),
        ("emotions unchanged", same_emotion, Sense.AT_LEAST, condition.unchanged),
        ("stress unchanged", same_stress, Sense.AT_LEAST, condition.unchanged),
        ("UA moved by", abs(ua), Sense.AT_MOST, condition.moved),
        ("AUROC moved by", abs(area), Sense.AT_MOST, condition.moved),
    ]
    return Effect(
        condition=condition.name,
        corpus=corpus,
        clips=clips,
        ua_change=ua,
        emotions_unchanged=same_emotion,
        auroc_change=area,
        uar_change=uar,
        stress_unchanged=same_stress,
        checks=[Check(name, value, sense, limit) for name, value, sense, limit in figures if limit is not None],
    )
