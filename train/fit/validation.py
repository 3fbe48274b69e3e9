"""Validation speakers: held back from the training side to choose an epoch, and a student's scores on them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.features import FeatureStore, windows
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.evaluate.metrics import auroc, unweighted_accuracy
from edge_sser.train.students.net import Student

_BATCH = 256


def split_validation(training: Sequence[Utterance], share: float) -> tuple[list[int], list[int]]:
    """Splits a training side by speaker into utterances to learn from and to validate on; returns their indices.

    Args:
        training: the training side.
        share: of each corpus's speakers to validate on, 0..1; at least one where there are two. The choice depends on
            the speakers' names alone, so that it is the same in every fold.

    Raises:
        TrainingError: nothing to learn from, or nothing to validate on, would be left.
    """
    speakers: dict[str, set[str]] = {}
    for utterance in training:
        speakers.setdefault(utterance.corpus, set()).add(utterance.speaker)
    held_back = set()
    for corpus, names in speakers.items():
        order = sorted(names, key=lambda name: hashlib.sha256(f"{corpus} {name}".encode()).digest())
        count = min(max(1, round(share * len(order))), len(order) - 1)
        held_back |= {(corpus, name) for name in order[:count]}
    voices = {clip.voice for clip in training if (clip.corpus, clip.speaker) in held_back}
    validation = [utterance.voice in voices for utterance in training]  # a person may speak in several corpora
    if not any(validation):
        raise TrainingError("recipe: validation: each corpus has one speaker only, none can be held back: leave it out")
    places = range(len(training))
    return [place for place in places if not validation[place]], [place for place in places if validation[place]]


class Validator:
    """Scores a student on the clips of the validation speakers, with the windows of the evaluation."""

    def __init__(self, utterances: Sequence[Utterance], preset: str, store: FeatureStore) -> None:
        decision = read_preset(preset).decision
        utterances = [clip for clip in utterances if clip.emotion in EMOTIONS or decision(clip) is not None]
        if not utterances:
            raise TrainingError("recipe: validation: no clip held back has an emotion or stress: leave it out")
        parts = [windows(store[utterance]) for utterance in utterances]
        self._windows = torch.from_numpy(np.concatenate(parts))
        self._clip = torch.from_numpy(np.repeat(np.arange(len(parts)), [part.shape[0] for part in parts]))
        self._corpus = np.array([utterance.corpus for utterance in utterances])
        self._named = np.array([utterance.emotion in EMOTIONS for utterance in utterances])
        self._emotion = np.array(
            [EMOTIONS.index(clip.emotion) if clip.emotion in EMOTIONS else -1 for clip in utterances]
        )
        stress = [decision(utterance) for utterance in utterances]
        self._judged = np.array([value is not None for value in stress])
        self._stress = np.array([value or 0 for value in stress])

    def __call__(self, student: Student, device: torch.device) -> dict[str, float]:
        """Returns `ua`, the emotions' unweighted accuracy, and `auroc`, of stress: means over the corpora, 0..1.

        A corpus with fewer than two emotions does not count for `ua`; without any other, `ua` is left out.
        """
        logits = [student(part.to(device)) for part in torch.split(self._windows, _BATCH)]
        emotions = self._by_clip(torch.cat([part.emotions for part in logits]).cpu())
        stress = self._by_clip(torch.cat([part.stress for part in logits]).cpu()[:, None])[:, 0]
        accuracies, areas = [], []
        for corpus in np.unique(self._corpus):
            inside = self._corpus == corpus
            named = inside & self._named
            classes = np.unique(self._emotion[named])
            if classes.size > 1:
                decisions = classes[emotions[:, classes].argmax(axis=1)]
                accuracies.append(unweighted_accuracy(self._emotion[named], decisions[named]))
            inside &= self._judged
            area = auroc(self._stress[inside], stress[inside])
            if not math.isnan(area):
                areas.append(area)
        ua = {"ua": float(np.mean(accuracies))} if accuracies else {}
        return {**ua, "auroc": float(np.mean(areas)) if areas else 0.5}

    def _by_clip(self, values: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        clips = self._corpus.size
        total = torch.zeros(clips, values.shape[1], dtype=torch.float64).index_add_(0, self._clip, values.double())
        return (total / torch.bincount(self._clip, minlength=clips)[:, None]).numpy()
