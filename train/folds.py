"""Folds that keep speakers apart, and the gate that stops a run when they do not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from edge_sser.errors import TrainingError

from .corpora.table import Utterance

FOLDS = 6


def assign_folds(utterances: Sequence[Utterance], folds: int = FOLDS) -> Sequence[Utterance]:
    """Gives a corpus without folds speaker-disjoint ones, of similar size; keeps the folds it came with.

    Args:
        utterances: of one corpus.
        folds: how many to make at most; fewer when there are fewer speakers.

    Raises:
        TrainingError: some utterances come with a fold and others without.
    """
    with_fold = [utterance for utterance in utterances if utterance.fold]
    if with_fold:
        if len(with_fold) < len(utterances):
            bare = next(utterance for utterance in utterances if not utterance.fold)
            raise TrainingError(f"{bare.path}: it has no fold, others of {bare.corpus} have: give all or none")
        return utterances
    clips: dict[str, int] = defaultdict(int)
    for utterance in utterances:
        clips[utterance.speaker] += 1
    sizes = [0] * min(folds, len(clips))
    fold_of: dict[str, int] = {}
    # The largest speakers first, each into the smallest fold so far.
    for speaker in sorted(clips, key=lambda name: (-clips[name], name)):
        smallest = sizes.index(min(sizes))
        fold_of[speaker] = smallest + 1
        sizes[smallest] += clips[speaker]
    return [replace(utterance, fold=fold_of[utterance.speaker]) for utterance in utterances]


def split(utterances: Sequence[Utterance], fold: int | None) -> tuple[list[Utterance], list[Utterance]]:
    """Training and test utterances of a fold; all and none when fold is None.

    Raises:
        TrainingError: a speaker or a recording would stand on both sides.
    """
    training = [utterance for utterance in utterances if utterance.fold != fold]
    test = [utterance for utterance in utterances if utterance.fold == fold]
    check_disjoint(training, test)
    return training, test


def check_disjoint(training: Iterable[Utterance], test: Iterable[Utterance]) -> None:
    """The leak gate.

    Raises:
        TrainingError: a speaker or a recording stands on both sides; the message names it.
    """
    speakers = {(utterance.corpus, utterance.speaker) for utterance in training}
    recordings = {utterance.sha256: utterance.path for utterance in training}
    for utterance in test:
        if (utterance.corpus, utterance.speaker) in speakers:
            raise TrainingError(
                f"speaker {utterance.speaker} of {utterance.corpus} stands in fold {utterance.fold} and in others: "
                "the scores would be of known voices; give each speaker one fold"
            )
        if utterance.sha256 in recordings:
            raise TrainingError(
                f"{utterance.path} is the same recording as {recordings[utterance.sha256]} on the training side: "
                "remove one"
            )
