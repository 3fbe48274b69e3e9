"""`edge-sser train teacher`: what a teacher says of a table's recordings, for students to be taught by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_sser.errors import UsageError, need_package

if TYPE_CHECKING:
    from edge_sser.train.corpora.table import Utterance
    from edge_sser.train.evaluate.predictions import Prediction
    from edge_sser.train.teachers.teacher import Teacher


def teacher(
    table: Annotated[Path, typer.Argument(help="Table of utterances, from `train index`.")],
    out: Annotated[Path, typer.Option(help="Folder of the teacher.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A speech encoder with a head: a .toml file, or whisper-base, whisper-tiny, hubert-base, hubert-large "
            "or wavlm-large."
        ),
    ] = None,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a run of `train fit`: its students become the teacher, fold by fold. Several times."
        ),
    ] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Only for this fold's training side; may be repeated.")] = None,
    final: Annotated[bool, typer.Option(help="Also for all speakers: the teacher of the model to ship.")] = True,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value instead of the recipe's; may be repeated."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="CSV to write: what each fold's teacher says of the speakers that it never heard."),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Makes a teacher for each fold, which never heard that fold's speakers, and keeps what it says of the others."""
    need_package("torch", "train", "Training")
    import torch
    from tqdm import tqdm

    from edge_sser.train.corpora.folds import chosen_folds
    from edge_sser.train.corpora.table import read_table
    from edge_sser.train.data.labels import read_preset
    from edge_sser.train.evaluate.predictions import Origin, prediction_of, write_origin, write_predictions
    from edge_sser.train.report.report import check_place
    from edge_sser.train.teachers.make import ignore, make_ensembles, make_hubert, members_preset
    from edge_sser.train.teachers.recipe import read_teacher_recipe

    if (recipe is None) == (not ensemble):
        raise UsageError("give either --recipe NAME or --ensemble RUN, the folder of a run of train fit")
    if predictions is not None:
        check_place(predictions)  # not after hours
    plan = read_teacher_recipe(recipe, change or ()) if recipe else None
    utterances = read_table(table)
    torch.set_num_threads(threads)
    folds = chosen_folds(utterances, fold, final)
    found: list[Prediction] = []

    def predict(teacher: Teacher, held_out: Sequence[Utterance]) -> None:
        found.extend(
            prediction_of(clip, said.emotions.numpy(), said.stress.item())
            for clip, said in ((clip, teacher(clip).mean()) for clip in held_out)
        )

    on_teacher = predict if predictions else ignore
    if plan is not None:
        preset = plan.preset
        read_preset(preset)
        make_hubert(utterances, folds, plan, out, partial(tqdm, leave=False), on_teacher)
    else:
        preset = members_preset(ensemble or (), folds)
        make_ensembles(utterances, folds, ensemble or (), out, partial(tqdm, leave=False), on_teacher)
    if predictions:
        write_predictions(predictions, found)
        corpora = tuple(sorted({utterance.corpus for utterance in utterances}))
        seed = plan.optimisation.seed if plan else None
        write_origin(predictions, Origin(system=predictions.stem, seed=seed, trained_on=corpora, preset=preset))
