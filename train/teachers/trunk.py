"""Teacher of early layers: the frozen trunk of sser-plus under a linear head, which hears the student's own windows.

Attentive heads on the late layers of an encoder learn the training speakers; means and deviations of its early layers
carry over to corpora that nobody trained on, and so do students that learn from them (docs/experiments.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.labels import read_preset
from edge_sser.train.fit.checkpoint import (
    MODEL_FILE,
    data_key,
    load_checkpoint,
    run_folder,
)
from edge_sser.train.fit.frozen import EmbeddingStore, keep_or_fit_head, load_trunk
from edge_sser.train.recipe import Recipe, read_recipe
from edge_sser.train.students.backend import emotion_vote
from edge_sser.train.teachers.ensemble import member_outputs
from edge_sser.train.teachers.make import ProgressBar, open_members
from edge_sser.train.teachers.outputs import OUTPUTS_FILE, write_outputs
from edge_sser.train.teachers.recipe import TRUNK_TEACHER


def make_trunk_teachers(
    utterances: Sequence[Utterance],
    folds: Sequence[int | None],
    preset: str,
    out: Path,
    cache: Path,
    bar: ProgressBar,
) -> None:
    """Makes the teacher of each fold; keeps those that exist already.

    Args:
        utterances: the table.
        folds: to hold out; None: all speakers.
        preset: of the student.
        out: folder of the teacher.
        cache: folder of features and embeddings.
        bar: makes a progress bar.

    Raises:
        MissingComponentError: transformers is not installed.
        TrainingError: the encoder cannot be loaded, a folder holds another teacher, or a file cannot be written.
        SourceError: a recording cannot be read.
    """
    recipe = trunk_recipe(preset)
    trunk = load_trunk(recipe)
    total = 2 * len(utterances)
    with bar(total=total, unit=" recordings", desc=TRUNK_TEACHER) as progress_bar:

        def step(utterance: Utterance) -> None:
            progress_bar.update()

        store = FeatureStore(utterances, cache, step)
        embeddings = EmbeddingStore(trunk, recipe, utterances, store, cache, step)
        progress_bar.update(total - progress_bar.n)
    for fold in folds:
        training, _ = split(utterances, fold)
        path = run_folder(out / "run", fold) / MODEL_FILE
        keep_or_fit_head(path, trunk, training, recipe, embeddings)
        folder = run_folder(out, fold)
        teacher = open_members(training, [path], folder)
        if (folder / OUTPUTS_FILE).exists():
            continue
        trunk.load_state_dict(dict(load_checkpoint(path).tensors))
        with torch.no_grad():
            embedded = (embeddings.select(training)[:, 0] - trunk.centre) * trunk.scale
            outputs = member_outputs(trunk, emotion_vote(recipe), embedded)
        described = {"data": data_key(training), "teacher": teacher.describe()}
        write_outputs(folder / OUTPUTS_FILE, training, outputs, described)


def trunk_recipe(preset: str) -> Recipe:
    """Returns the recipe of the teacher for a student's preset: without a vote where that knows no emotions.

    Raises:
        SettingsError: there is no such preset.
    """
    changes = [f"name={TRUNK_TEACHER}", "student.companion=false", f"preset={json.dumps(preset)}"]
    known = read_preset(preset)
    if not known.emotions_with(1) or not known.emotions_with(0):
        changes.append("emotion_share=0")
    return read_recipe("sser-plus", changes)
