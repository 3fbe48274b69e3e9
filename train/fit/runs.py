"""Where the parts of a run stand, and which it has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sser.errors import UsageError
from edge_sser.train.corpora.table import Utterance

MODEL_FILE = "model.safetensors"  # of a finished student or teacher, in its folder


def run_folder(out: Path, fold: int | None) -> Path:
    """Where the student or teacher of a fold, or of all speakers, stands below a run's folder."""
    return out / ("final" if fold is None else f"fold-{fold}")


def chosen_folds(utterances: Sequence[Utterance], wanted: Sequence[int] | None, final: bool) -> list[int | None]:
    """The folds to hold out: those wanted, or all; and None, all speakers, where `final`.

    Raises:
        UsageError: the table has no such fold.
    """
    folds = sorted({utterance.fold for utterance in utterances})
    for number in wanted or ():
        if number not in folds:
            raise UsageError(f"--fold {number}: the table has the folds {', '.join(map(str, folds))}")
    return [*(wanted or folds), *([None] if final else [])]
