"""`edge-sser train`: from recordings to a trained and scored student."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from edge_sser.errors import TrainingError, UsageError, need_package
from edge_sser.train.ablation import CacheOption, ablation
from edge_sser.train.corpora.cli import TableArgument, explore, index, manifest, select
from edge_sser.train.evaluate.cli import evaluate, operating, stamp
from edge_sser.train.fit.cli import adapt
from edge_sser.train.gate.cli import gate
from edge_sser.train.references.cli import reference
from edge_sser.train.references.compare_cli import compare
from edge_sser.train.teachers.cli import ChangeOption, ThreadsOption, teacher

app = typer.Typer(
    help="Make a table of recordings, train a student on it, score it on strangers' voices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(manifest)
app.command()(index)
app.command()(select)
app.command()(explore)
app.command()(teacher)
app.command()(ablation)


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
            help="Teacher for the recipe's [distillation]: a folder from `train teacher`, or the name of one that "
            "ships, which is made in OUT/teacher/NAME first. May be repeated: several teach together. Without one, "
            "the student learns from labels alone."
        ),
    ] = None,
    companion: Annotated[
        list[Path] | None,
        typer.Option(
            help="Run of a small student that stands beside a frozen trunk, as in sser-plus; may be repeated."
        ),
    ] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of recorded noise, for a recipe that mixes it in.")] = None,
    rooms: Annotated[
        Path | None, typer.Option(help="Folder of impulse responses, for a recipe with twins in rooms.")
    ] = None,
    cache: CacheOption = None,
    change: ChangeOption = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves for TensorBoard beside the checkpoints.")
    ] = False,
    threads: ThreadsOption = None,
) -> None:
    """Trains one student for each fold, and one on all speakers. Resumes an interrupted run."""
    need_package("torch", "train", "Training")
    from edge_sser.train.fit.run import FitRequest, run

    request = FitRequest(
        table=table,
        out=out,
        recipe=recipe,
        changes=change or (),
        folds=fold or (),
        final=final,
        companions=companion or (),
        teachers=teacher or (),
        noise=noise,
        rooms=rooms,
        cache=cache,
        tensorboard=tensorboard,
        threads=threads,
    )
    run(request, partial(typer.echo, err=True))


@app.command()
def transfer(
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="Folder of the runs and of the table, transfer.md.")],
    recipe: Annotated[str, typer.Option(help="Recipe: a .toml file, or the name of one that ships.")] = "sser-cnn",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 1, 2 and so on.")] = 3,
    teacher: Annotated[
        list[str] | None,
        typer.Option(help="Name of a teacher that ships: made anew without the held-out corpus; may be repeated."),
    ] = None,
    cache: CacheOption = None,
    change: ChangeOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Trains on all corpora but one, tests on that one, in turn: how a recipe does on a site it never heard."""
    need_package("torch", "train", "Training")
    from edge_sser.files import write_file
    from edge_sser.train.corpora.table import read_table
    from edge_sser.train.evaluate.transfer import transfer as run_transfer
    from edge_sser.train.evaluate.transfer import transfer_table
    from edge_sser.train.fit.run import FitRequest
    from edge_sser.train.teachers.recipe import shipped_teachers

    unknown = [name for name in teacher or () if name not in shipped_teachers()]
    if unknown:
        raise UsageError(f"--teacher {unknown[0]}: expected a teacher that ships: {', '.join(shipped_teachers())}")
    request = FitRequest(
        table=table,
        out=out,
        recipe=recipe,
        changes=change or (),
        teachers=teacher or (),
        cache=cache,
        threads=threads,
    )
    found = run_transfer(request, read_table(table), range(1, seeds + 1), partial(typer.echo, err=True))
    text = transfer_table(found)
    write_file(out / "transfer.md", text.encode(), TrainingError, "choose another --out")
    typer.echo(text)


app.command()(evaluate)
app.command()(adapt)
app.command()(gate)
app.command()(operating)
app.command()(stamp)
app.command()(reference)
app.command()(compare)


@app.command()
def baseline(
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="Out-of-fold predictions to write (CSV).")],
    kind: Annotated[str, typer.Option(help="Features of a clip: level-only or level-pitch.")] = "level-only",
    preset: Annotated[
        str, typer.Option(help="Mapping of labels to stress: quadrant, sssr, arousal_valence or a .toml file.")
    ] = "quadrant",
) -> None:
    """Writes the predictions of a trivial system, the baseline beside every score."""
    need_package("sklearn", "train", "Training")
    from tqdm import tqdm

    from edge_sser.train.corpora.table import read_table
    from edge_sser.train.data.labels import read_preset
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
