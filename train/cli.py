"""`edge-sser train`: from recordings to a trained and scored student."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_sser.errors import UsageError, need_package
from edge_sser.train.ablation import ablation
from edge_sser.train.corpora import cli as cli_corpora
from edge_sser.train.evaluate.cli import evaluate
from edge_sser.train.fit.runs import chosen_folds, run_folder
from edge_sser.train.teachers.cli import teacher

if TYPE_CHECKING:
    from edge_sser.train.fit.run import Epoch

app = typer.Typer(
    help="Make a table of recordings, train a student on it, score it on strangers' voices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(cli_corpora.index)
app.command()(cli_corpora.select)
app.command()(cli_corpora.explore)
app.command()(teacher)
app.command()(ablation)

TableArgument = Annotated[Path, typer.Argument(help="Table of utterances, from `train index`.")]


@app.command()
def fit(
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    recipe: Annotated[str, typer.Option(help="Recipe: a .toml file, or the name of one that ships.")] = "sser-cnn",
    fold: Annotated[
        list[int] | None, typer.Option(help="Train without this fold's speakers, to score on them; may be repeated.")
    ] = None,
    final: Annotated[bool, typer.Option(help="Also train on all speakers: the model to ship.")] = True,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="What the recipe's [distillation] learns from: the folder of a teacher, from `train teacher`, or the "
            "name of a teacher's recipe, which is then made in OUT/teacher/NAME first. Several teach together; without "
            "one, labels alone do."
        ),
    ] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of recorded noise, for a recipe that mixes it in.")] = None,
    rooms: Annotated[
        Path | None, typer.Option(help="Folder of impulse responses, for a recipe with twins in rooms.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder to keep features in, for several runs to share; OUT/cache.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A value instead of the recipe's; may be repeated."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves for TensorBoard beside the checkpoints.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; part of what makes a run repeatable.")] = 2,
) -> None:
    """Trains one student for each fold, and one on all speakers. Takes up where it was interrupted."""
    need_package("torch", "train", "Training")
    import torch
    from tqdm import tqdm

    from edge_sser.train.corpora.folds import split
    from edge_sser.train.corpora.table import read_table
    from edge_sser.train.data.mixing import open_heard
    from edge_sser.train.data.presets import read_preset
    from edge_sser.train.fit.board import Board, check_tensorboard
    from edge_sser.train.fit.parallel import join_world
    from edge_sser.train.fit.run import check_teacher, taught
    from edge_sser.train.fit.run import fit as fit_student
    from edge_sser.train.recipe import read_recipe
    from edge_sser.train.teachers.lesson import check_hearing
    from edge_sser.train.teachers.make import make_hubert
    from edge_sser.train.teachers.recipe import read_teacher_recipe, shipped

    if tensorboard:
        check_tensorboard()
    plan = read_recipe(recipe, change or ())
    alone = plan.distillation is not None and not teacher
    if alone:
        plan = plan.model_copy(update={"distillation": None})
    check_teacher(plan, bool(teacher))
    if plan.distillation:
        check_hearing(len(teacher or ()), plan.distillation.teacher_hears)
    read_preset(plan.preset)
    utterances = read_table(table)
    runs = chosen_folds(utterances, fold, final)
    sides = [(held_out, split(utterances, held_out)[0]) for held_out in runs]
    made = [Path(name) for name in teacher or () if name not in shipped()]
    for held_out, training in sides if made else ():  # what is wrong with a teacher is told before hours of work
        taught(made, plan, training, held_out)
    torch.set_num_threads(threads)
    world = join_world()
    if alone and world.first:
        typer.echo(f"no --teacher: {recipe} learns from labels alone", err=True)
    with world.in_turn():
        store, mixed = open_heard(
            plan, utterances, cache or out / "cache", noise=noise, rooms=rooms, silent=not world.first
        )
    taught_in = [out / "teacher" / name if name in shipped() else Path(name) for name in teacher or ()]
    with world.in_turn():
        for name, folder in zip(teacher or (), taught_in, strict=True):
            if name in shipped() and world.first:
                own = read_teacher_recipe(name, [f"preset={json.dumps(plan.preset)}"])
                make_hubert(utterances, runs, own, folder, partial(tqdm, leave=False))
    with tqdm(total=len(runs) * plan.optimisation.epochs, unit=" epochs", disable=world.rank > 0) as bar:
        for position, (held_out, training) in enumerate(sides):
            bar.set_description("all speakers" if held_out is None else f"fold {held_out}")

            board = Board(run_folder(out, held_out)) if tensorboard and world.first else None

            def shown(epoch: Epoch, before: int = position * plan.optimisation.epochs, board: Any = board) -> None:
                if board is not None:
                    board.add(epoch)
                bar.update(before + epoch.number - bar.n)
                bar.set_postfix(epoch.shown())

            lesson = taught(taught_in, plan, training, held_out)
            folder = run_folder(out, held_out)
            path = fit_student(training, plan, store, folder, shown, lesson=lesson, mixed=mixed, world=world)
            bar.update((position + 1) * plan.optimisation.epochs - bar.n)
            if world.first:
                tqdm.write(str(path))
    world.leave()


app.command()(evaluate)


@app.command()
def baseline(
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="Out-of-fold predictions to write (CSV).")],
    kind: Annotated[str, typer.Option(help="What it knows of a clip: level-only or level-pitch.")] = "level-only",
    preset: Annotated[
        str, typer.Option(help="How labels become stress: quadrant, sssr, arousal_valence or a .toml file.")
    ] = "quadrant",
) -> None:
    """Predictions of a trivial system, to be set beside every score."""
    need_package("sklearn", "train", "Training")
    from tqdm import tqdm

    from edge_sser.train.corpora.table import read_table
    from edge_sser.train.data.presets import read_preset
    from edge_sser.train.evaluate.baselines import fit_baseline
    from edge_sser.train.evaluate.predictions import Baseline, Origin, write_origin, write_predictions

    if kind not in (Baseline.LEVEL, Baseline.LEVEL_PITCH):
        raise UsageError(f"--kind {kind}: expected {Baseline.LEVEL.value} or {Baseline.LEVEL_PITCH.value}")
    read_preset(preset)
    utterances = read_table(table)
    with tqdm(total=len(utterances), unit=" recordings", desc=kind) as bar:
        found = fit_baseline(utterances, preset, Baseline(kind), lambda utterance: bar.update() and None)
    write_predictions(out, found)
    corpora = tuple(sorted({utterance.corpus for utterance in utterances}))
    write_origin(out, Origin(system=kind, trained_on=corpora, preset=preset, baseline=True))
