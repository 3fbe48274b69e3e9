"""Splits of clips into training, validation and test: speaker-disjoint folds, and those of the studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_sser.errors import TrainingError, UsageError
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.fit.validation import split_validation
from edge_sser.train.references.recipe import Original, ReferenceRecipe


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """Clip or one of its twins.

    Attributes:
        place: of the clip among the utterances.
        twin: number of the twin; 0: the clip itself.
    """

    place: int
    twin: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Items of one training.

    Attributes:
        fold: its number; 0 for a training on all speakers.
        training: to learn from; all have an emotion.
        validation: to choose an epoch on; all have an emotion.
        test: to predict.
    """

    fold: int
    training: Sequence[Item]
    validation: Sequence[Item]
    test: Sequence[Item]


def honest_split(utterances: Sequence[Utterance], recipe: ReferenceRecipe, fold: int | None) -> Split:
    """Splits by speaker: a fold of the table to test, and validation speakers from the training side.

    Twins are made of clips to learn from alone.

    Args:
        utterances: of a table.
        recipe: with the share of validation speakers and the number of twins.
        fold: to hold out; None: a training on all speakers, without a test.

    Raises:
        UsageError: the table has one fold alone, which would be held out.
        TrainingError: a person would stand on two sides, or the split has no clips for something.
    """
    if fold is not None and len({utterance.fold for utterance in utterances}) < 2:
        raise UsageError(
            "all clips are in one fold, so that nobody would be left to test on: choose corpora with two speakers or "
            "more, or take --original-protocol"
        )
    place = {utterance.path: index for index, utterance in enumerate(utterances)}
    twins = range(1 + (recipe.twins.count if recipe.twins else 0))
    training, test = split(utterances, fold)
    named = [clip for clip in training if clip.emotion in EMOTIONS]
    learned, held = list(range(len(named))), list[int]()
    if recipe.validation and named:
        learned, held = split_validation(named, recipe.validation)
    found = Split(
        fold or 0,
        [Item(place[named[index].path], twin) for index in learned for twin in twins],
        [Item(place[named[index].path]) for index in held],
        [Item(place[clip.path]) for clip in test],
    )
    _check_classes(utterances, found)
    return found


def original_splits(
    utterances: Sequence[Utterance], recipe: ReferenceRecipe, folds: Sequence[int] | None, seed: int
) -> list[Split]:
    """Splits as the study did, whoever speaks; with its twins, copies of one clip come to stand on both sides.

    Args:
        utterances: of a table.
        recipe: with the protocol of the study.
        folds: to test, from 1; None: all of the protocol.
        seed: of the draws.

    Raises:
        UsageError: the protocol has no such fold.
        TrainingError: there are too few clips.
    """
    original = recipe.original
    count = recipe.twins.count if recipe.twins else 0
    before, after = (range(1 + count), range(1)) if original.twins else (range(1), range(1 + count))
    named = [place for place, clip in enumerate(utterances) if clip.emotion in EMOTIONS]
    items = [Item(place, twin) for place in named for twin in before]
    random = np.random.default_rng(seed)
    order = random.permutation(len(items))
    tests = np.array_split(order, original.folds) if original.split == "folds" else [_share(order, original)]
    out = []
    for number, test in enumerate(tests, start=1):
        if folds and number not in folds:
            continue
        rest = random.permutation(np.setdiff1d(order, test))
        held, learned = np.split(rest, [round(original.validation_share * rest.size)])
        training = [Item(items[index].place, max(items[index].twin, twin)) for index in learned for twin in after]
        out.append(Split(number, training, [items[index] for index in held], sorted(items[index] for index in test)))
        _check_classes(utterances, out[-1])
    unknown = [number for number in folds or () if number not in range(1, len(tests) + 1)]
    if unknown:
        raise UsageError(f"--fold {unknown[0]}: the protocol of the study has the folds 1 to {len(tests)}")
    return out


def _share(
    order: np.ndarray[tuple[int], np.dtype[np.int64]], original: Original
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return order[: max(1, round(original.test_share * order.size))]


def _check_classes(utterances: Sequence[Utterance], split: Split) -> None:
    """Checks that a system can learn what it is tested on.

    Raises:
        TrainingError: the test has no clip, or an emotion that nobody on the training side has, or the training side
            has one emotion only.
    """
    learned, tested = (
        {utterances[item.place].emotion for item in items} & set(EMOTIONS) for items in (split.training, split.test)
    )
    name = f"fold {split.fold}" if split.fold else "the training on all speakers"
    if len(learned) < 2:
        raise TrainingError(
            f"{name}: its training side has {'the emotion ' + learned.pop() if learned else 'no emotion'} alone: a "
            "classifier needs two; give a table with more corpora or speakers"
        )
    missing = sorted(tested - learned)
    if missing:
        raise TrainingError(
            f"{name}: it has clips that are {missing[0]}, and its training side has none: leave them out with train "
            f"select --drop emotion={missing[0]}, or choose other folds with --fold"
        )
