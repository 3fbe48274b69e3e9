"""The folder of a run as training leaves it, with students that learned nothing: for what only looks at runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.fit.checkpoint import MODEL_FILE, Checkpoint, data_key, make_student, run_folder, save_checkpoint
from edge_sser.train.recipe import read_recipe


def write_run(folder: Path, fitted: Sequence[Utterance], recipe: Path, *, final: bool = True) -> Path:
    """A student of its own for each fold, and one for all speakers.

    Args:
        folder: of the run.
        fitted: the table that it would have been trained on.
        recipe: of the students.
        final: whether the one for all speakers is there.
    """
    plan = read_recipe(str(recipe))
    for place, fold in enumerate([*sorted({clip.fold for clip in fitted}), *([None] if final else [])]):
        torch.manual_seed(place)
        student = make_student(plan, len(EMOTIONS))
        training, _ = split(fitted, fold)
        header = {
            "recipe": plan.model_dump(mode="json"),
            "emotions": list(EMOTIONS),
            "corpora": [{"name": name} for name in sorted({clip.corpus for clip in training})],
            "data": data_key(training),
        }
        save_checkpoint(run_folder(folder, fold) / MODEL_FILE, Checkpoint(student.state_dict(), header))
    return folder
