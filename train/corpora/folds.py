"""Speaker-disjoint folds, and the leak check that stops a run when they are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge_sser.errors import TrainingError, UsageError
from edge_sser.train.corpora.table import Utterance

FOLDS = 6


def assign_folds(
    utterances: Sequence[Utterance], folds: int | None = None, fixed: Mapping[str, int] | None = None
) -> Sequence[Utterance]:
    """Assigns speaker-disjoint folds to a corpus without folds; keeps the folds of a corpus that has some.

    Args:
        utterances: of one corpus.
        folds: how many to make, fewer when there are fewer speakers; None: `FOLDS`, and those that the corpus came
            with are kept.
        fixed: fold by voice of people who are in other corpora too; they keep that fold.

    Raises:
        TrainingError: some utterances come with a fold and others without.
    """
    with_fold = [utterance for utterance in utterances if utterance.fold]
    if with_fold and folds is None:
        if len(with_fold) < len(utterances):
            without_fold = next(utterance for utterance in utterances if not utterance.fold)
            raise TrainingError(
                f"{without_fold.path}: it has no fold, others of {without_fold.corpus} have: give all or none"
            )
        return utterances
    fold_of = _assign(utterances, folds or FOLDS, fixed or {})
    return [replace(utterance, fold=fold_of[utterance.voice]) for utterance in utterances]


def split(utterances: Sequence[Utterance], fold: int | None) -> tuple[list[Utterance], list[Utterance]]:
    """Returns training and test utterances of a fold; all and none when fold is None.

    Raises:
        TrainingError: a person, a recording or an altered copy of one would stand on both sides.
    """
    training = [utterance for utterance in utterances if utterance.fold != fold]
    test = [utterance for utterance in utterances if utterance.fold == fold]
    check_disjoint(training, test)
    return training, test


def chosen_folds(utterances: Sequence[Utterance], chosen: Sequence[int] | None, final: bool) -> list[int | None]:
    """Returns the folds to hold out: the chosen ones, or all; and None, for all speakers, where `final`.

    Raises:
        UsageError: the table has no such fold.
    """
    folds = sorted({utterance.fold for utterance in utterances})
    for number in chosen or ():
        if number not in folds:
            raise UsageError(f"--fold {number}: the table has the folds {', '.join(map(str, folds))}")
    return [*(chosen or folds), *([None] if final else [])]


def check_disjoint(training: Sequence[Utterance], test: Sequence[Utterance]) -> None:
    """Checks that training and test share nobody.

    Raises:
        TrainingError: a person, a recording or an altered copy of one stands on both sides; the message names it.
    """
    if not training or not test:
        return
    voices = {utterance.voice: utterance for utterance in training}
    recordings = {utterance.sha256: utterance.path for utterance in training}
    for utterance in test:
        if utterance.voice in voices:
            raise TrainingError(_shared_voice_message(voices[utterance.voice], utterance))
        if utterance.sha256 in recordings:
            raise TrainingError(
                f"{utterance.path} is the same recording as {recordings[utterance.sha256]} on the training side: "
                "remove one"
            )
    for one, other in straddling_twins([*training, *test], [0] * len(training) + [1] * len(test)):
        raise TrainingError(
            f"{other.path} is an altered copy of {one.path}, whose speaker has another name and fold: the scores would "
            "be of known recordings; make the table again with train index --drop-twins, or give both one speaker"
        )


def check_folds(utterances: Sequence[Utterance]) -> None:
    """Checks all folds of a table at once, except for altered copies; see `straddling_twins`.

    Raises:
        TrainingError: a person stands in two folds.
    """
    seen: dict[str, Utterance] = {}
    for utterance in utterances:
        first = seen.setdefault(utterance.voice, utterance)
        if first.fold != utterance.fold:
            raise TrainingError(_shared_voice_message(first, utterance))


def straddling_twins(utterances: Sequence[Utterance], sides: Sequence[int]) -> list[tuple[Utterance, Utterance]]:
    """Returns recordings that are altered copies of each other, under different voices and on different `sides`.

    A side is a fold, or training and test. All are compared with all.
    """
    from edge_sser.train.corpora.fingerprint import twins

    return [(utterances[a], utterances[b]) for a, b in twins(utterances) if sides[a] != sides[b]]


def _assign(utterances: Sequence[Utterance], folds: int, fixed: Mapping[str, int]) -> Mapping[str, int]:
    clips: dict[str, int] = defaultdict(int)
    sex: dict[str, str] = {}
    for utterance in utterances:
        clips[utterance.voice] += 1
        sex[utterance.voice] = utterance.sex
    numbers = range(1, min(folds, len(clips)) + 1)
    size: dict[int, int] = defaultdict(int)
    size_of_sex: dict[tuple[int, str], int] = defaultdict(int)
    fold_of: dict[str, int] = {}
    # Those whose fold is taken first, then the largest speakers, each into the fold with the least of that sex so far.
    for voice in sorted(clips, key=lambda name: (name not in fixed, -clips[name], name)):
        fold = fixed.get(voice) or min(numbers, key=lambda number: (size_of_sex[number, sex[voice]], size[number]))
        fold_of[voice] = fold
        size[fold] += clips[voice]
        size_of_sex[fold, sex[voice]] += clips[voice]
    return fold_of


def _shared_voice_message(one: Utterance, other: Utterance) -> str:
    voice = f"speaker {other.speaker} of {other.corpus}"
    if (one.corpus, one.speaker) != (other.corpus, other.speaker):
        voice = f"speaker {other.speaker} of {other.corpus}, who is {one.speaker} of {one.corpus},"
    return (
        f"{voice} stands in fold {other.fold} and in fold {one.fold}: the scores would be of known voices; give each "
        "speaker one fold, or deal them again with train index --folds"
    )
