"""Real windows to quantise with, drawn from the training side alone, and the held-out side to judge the result on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import TrainingError, UsageError
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.folds import check_disjoint, split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.fit.run import data_key

CALIBRATION_WINDOWS = 256
TUNING_WINDOWS = 512
SEED = 1


@dataclass(frozen=True, slots=True)
class Sides:
    """Who may be used for what.

    Attributes:
        training: utterances to draw calibration windows from.
        test: utterances of other speakers, to compare FP32 and INT8 on.
        strangers: whether the checkpoint never heard the test speakers. If it did, only differences mean something.
    """

    training: Sequence[Utterance]
    test: Sequence[Utterance]
    strangers: bool


def find_sides(
    header: Mapping[str, Any],
    table: Sequence[Utterance],
    *,
    held_out: int | None = None,
    test: Sequence[Utterance] | None = None,
) -> Sides:
    """Finds out which fold a checkpoint left out, and parts the table by it.

    Args:
        header: of the checkpoint.
        table: the utterances of its run, all folds.
        held_out: fold to leave out where the checkpoint was trained on all speakers.
        test: utterances to judge by instead of the fold that was left out.

    Raises:
        TrainingError: the checkpoint was trained on other recordings, or a test speaker or recording stands on the
            training side too.
        UsageError: no fold is left to judge by, another one than the checkpoint left out was asked for, or `test` and
            `held_out` are both given.
    """
    folds = sorted({utterance.fold for utterance in table})
    left_out = [fold for fold in (*folds, None) if data_key(split(table, fold)[0]) == header["data"]]
    if not left_out:
        raise TrainingError(
            "the checkpoint was trained on other recordings than this table leaves for any fold: "
            "give --calibration the table that train fit was given"
        )
    fold = left_out[0]
    if test is not None:
        if held_out is not None:
            raise UsageError("--test and --held-out both say whom to judge by: leave one of them out")
        training, _ = split(table, fold)
        check_disjoint(training, test)
        return Sides(training, test, strangers=True)
    if held_out is not None and held_out not in folds:
        raise UsageError(f"--held-out {held_out}: the table has the folds {', '.join(map(str, folds))}")
    if fold is None:
        if held_out is None:
            raise UsageError(
                "the checkpoint was trained on all speakers, so nobody is left to judge by: give --test TABLE with "
                "strangers, or --held-out FOLD to compare on speakers that it knows"
            )
        training, test = split(table, held_out)
        return Sides(training, test, strangers=False)
    if held_out not in (None, fold):
        raise UsageError(f"--held-out {held_out}: the checkpoint left out fold {fold}, and knows the others")
    training, test = split(table, fold)
    return Sides(training, test, strangers=True)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Windows drawn from the training side.

    Attributes:
        calibration: float32 [n, frames, bands], to find ranges with.
        tuning: float32 [m, frames, bands] of other recordings, to choose methods and nodes by.
        seed: of the draw.
        sha256: of the calibration windows.
    """

    calibration: NDArray[np.float32]
    tuning: NDArray[np.float32]
    seed: int
    sha256: str


def draw(training: Sequence[Utterance], *, seed: int = SEED) -> Drawn:
    """Draws windows, one a recording.

    Raises:
        TrainingError: fewer than two recordings.
        SourceError: a recording cannot be read.
    """
    if len(training) < 2:
        raise TrainingError("calibration needs at least two recordings: give a larger table")
    random = np.random.default_rng(seed)
    order = random.permutation(len(training))
    parts = min(CALIBRATION_WINDOWS, len(training) // 2)
    chosen = []
    for place in order[: parts + TUNING_WINDOWS]:
        clip = windows(log_mel(read_audio(training[place].path)))
        chosen.append(clip[random.integers(len(clip))])
    calibration = np.stack(chosen[:parts])
    return Drawn(calibration, np.stack(chosen[parts:]), seed, hashlib.sha256(calibration.tobytes()).hexdigest())
