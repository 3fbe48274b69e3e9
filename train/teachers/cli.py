"""`edge-sser train teacher`: computes a teacher's outputs for a table, for students to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_sser.errors import UsageError, need_package
from edge_sser.train.corpora.cli import TableArgument

if TYPE_CHECKING:
    from edge_sser.train.corpora.table import Utterance
    from edge_sser.train.evaluate.predictions import Prediction
    from edge_sser.train.teachers.teacher import Teacher

ChangeOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A value instead of the recipe's; may be repeated."),
]

ThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="CPU threads, part of what makes a run repeatable; chosen by a measurement when left out."
    ),
]


def teacher(
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="Folder of the teacher.")],
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Speech encoder: a .toml file, whisper-base, whisper-tiny, hubert-base, hubert-large or wavlm-large."
        ),
    ] = None,
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of a run of `train fit` whose students become the teacher; may be repeated."),
    ] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Only for this fold's training side; may be repeated.")] = None,
    final: Annotated[bool, typer.Option(help="Also for all speakers: the teacher of the model to ship.")] = True,
    change: ChangeOption = None,
    predictions: Annotated[
        Path | None, typer.Option(help="CSV to write: each fold's teacher on the speakers that it never heard.")
    ] = None,
    threads: ThreadsOption = None,
) -> None:
    """Makes a teacher for each fold that never heard its speakers, and stores its outputs for the others."""
    need_package("torch", "train", "Training")
    from tqdm import tqdm

    from edge_sser.train.corpora.folds import chosen_folds
    from edge_sser.train.corpora.table import read_table
    from edge_sser.train.data.labels import read_preset
    from edge_sser.train.evaluate.predictions import prediction_from_logits
    from edge_sser.train.fit.threads import choose_threads
    from edge_sser.train.report.report import check_place
    from edge_sser.train.teachers.make import ignore_teacher, make_encoder_teachers, make_ensembles, members_preset
    from edge_sser.train.teachers.recipe import read_teacher_recipe

    if (recipe is None) == (not ensemble):
        raise UsageError("give either --recipe NAME or --ensemble RUN, the folder of a run of train fit")
    if predictions is not None:
        check_place(predictions)  # before hours of computation
    plan = read_teacher_recipe(recipe, change or ()) if recipe else None
    utterances = read_table(table)
    choose_threads(threads, partial(typer.echo, err=True))
    folds = chosen_folds(utterances, fold, final)
    found: list[Prediction] = []

    def predict(teacher: Teacher, held_out: Sequence[Utterance]) -> None:
        found.extend(
            prediction_from_logits(clip, outputs.emotions.numpy(), outputs.stress.item())
            for clip, outputs in ((clip, teacher(clip).mean()) for clip in held_out)
        )

    on_teacher = predict if predictions else ignore_teacher
    if plan is not None:
        preset = plan.preset
        read_preset(preset)
        make_encoder_teachers(utterances, folds, plan, out, partial(tqdm, leave=False), on_teacher)
    else:
        preset = members_preset(ensemble or (), folds)
        make_ensembles(utterances, folds, ensemble or (), out, partial(tqdm, leave=False), on_teacher)
    if predictions:
        _write_predictions(predictions, found, utterances, preset, plan.optimisation.seed if plan else None)


def _write_predictions(
    path: Path, predictions: Sequence[Prediction], utterances: Sequence[Utterance], preset: str, seed: int | None
) -> None:
    from edge_sser.train.evaluate.predictions import Origin, write_origin, write_predictions

    write_predictions(path, predictions)
    corpora = tuple(sorted({utterance.corpus for utterance in utterances}))
    write_origin(path, Origin(system=path.stem, seed=seed, trained_on=corpora, preset=preset))
