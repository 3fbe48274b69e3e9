"""`edge-sser train ablation`: the gain of each part of a recipe, over several seeds."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_sser.errors import TrainingError, UsageError, need_package
from edge_sser.files import write_file
from edge_sser.train.corpora.cli import TableArgument
from edge_sser.train.evaluate.metrics import worst_known
from edge_sser.train.teachers.cli import ChangeOption, ThreadsOption

if TYPE_CHECKING:
    from edge_sser.train.corpora.table import Utterance
    from edge_sser.train.data.features import FeatureStore
    from edge_sser.train.data.mixing import AugmentationSources
    from edge_sser.train.evaluate.predictions import Prediction
    from edge_sser.train.evaluate.scores import Scores
    from edge_sser.train.recipe import Recipe
    from edge_sser.train.students.net import Student

CacheOption = Annotated[
    Path | None, typer.Option(help="Folder to keep features in, for several runs to share; OUT/cache.")
]

# Changes to the recipe by table and key; None removes the table.
_QUIET: Mapping[str, Mapping[str, Any] | None] = {"augmentation": {"noise": 0.0, "room": 0.0}, "twins": None}
_NO_FEATURES: Mapping[str, Any] = {"features": 0.0, "similarity": 0.0}
ROWS: Mapping[str, Mapping[str, Mapping[str, Any] | None]] = {
    "labels": {**_QUIET, "distillation": None},
    "labels + logits": {**_QUIET, "distillation": _NO_FEATURES},
    "labels + logits + features": _QUIET,
    "labels + logits + features + noise": {},
    "labels + noise": {"distillation": None},
}


def ablation(
    table: TableArgument,
    teacher: Annotated[
        list[Path], typer.Option(help="Folder of a teacher, from `train teacher`; several teach together.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the runs and of the table, ablation.md and ablation.json.")],
    recipe: Annotated[str, typer.Option(help="Recipe that distils, with noise and rooms.")] = "sser-cnn",
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 1, 2 and so on.")] = 3,
    fold: Annotated[list[int] | None, typer.Option(help="Only this fold; may be repeated.")] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of recorded noise, as for `train fit`.")] = None,
    rooms: Annotated[Path | None, typer.Option(help="Folder of impulse responses, as for `train fit`.")] = None,
    change: ChangeOption = None,
    cache: CacheOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Trains a recipe with and without its parts: labels, + logits, + features, + noise. Resumes."""
    need_package("torch", "train", "Training")
    from tqdm import tqdm

    from edge_sser.train.corpora.folds import chosen_folds, split
    from edge_sser.train.corpora.table import read_table
    from edge_sser.train.data.labels import read_preset
    from edge_sser.train.data.mixing import open_training_data
    from edge_sser.train.evaluate.predictions import predict, scorable
    from edge_sser.train.evaluate.scores import evaluate
    from edge_sser.train.fit.teaching import load_lessons
    from edge_sser.train.fit.threads import choose_threads
    from edge_sser.train.recipe import read_recipe

    plan = read_recipe(recipe, change or ())
    if plan.distillation is None:
        raise UsageError(
            f"recipe {plan.name} has no [distillation], and train ablation takes apart a recipe that distils: give "
            "--recipe sser-cnn, or a .toml file with that table"
        )
    read_preset(plan.preset)  # an error comes before a day of training
    utterances = read_table(table)
    scored = {clip.sha256 for clip in scorable(utterances, plan.preset)}
    folds = [number for number in chosen_folds(utterances, fold, False) if number is not None]
    for number in folds:  # so do errors of a teacher
        load_lessons(teacher, plan, split(utterances, number)[0], number)
    choose_threads(threads, partial(typer.echo, err=True))
    store, sources = open_training_data(plan, utterances, cache or out / "cache", noise=noise, rooms=rooms)
    scores: dict[str, list[Sequence[Scores]]] = {}
    with tqdm(total=len(ROWS) * seeds * len(folds), unit=" runs") as bar:
        for name, changes in ROWS.items():
            for seed in range(1, seeds + 1):
                bar.set_description(f"{name}, seed {seed}")
                found: list[Prediction] = []
                for number in folds:
                    row = with_changes(plan, {**changes, "optimisation": {"seed": seed}})
                    folder = out / name.replace(" + ", "-") / f"seed-{seed}"
                    model, test = _train_fold(utterances, number, row, store, sources, teacher, folder)
                    found += predict(model, [clip for clip in test if clip.sha256 in scored])
                    bar.update()
                scores.setdefault(name, []).append(evaluate(found, plan.preset).corpora)
    text = render(scores)
    write_file(out / "ablation.md", text + "\n", TrainingError)
    values = {name: [[_summarise(item) for item in seed] for seed in seeds_of] for name, seeds_of in scores.items()}
    write_file(out / "ablation.json", json.dumps(values, indent=1) + "\n", TrainingError)
    typer.echo(text)


def with_changes(recipe: Recipe, changes: Mapping[str, Mapping[str, Any] | None]) -> Recipe:
    """Returns a recipe with other values; None removes a table."""
    from edge_sser.train.recipe import Recipe

    values = recipe.model_dump(mode="json")
    for table, content in changes.items():
        values[table] = None if content is None else {**values[table], **content}
    return Recipe.model_validate(values)


def render(scores: Mapping[str, Sequence[Sequence[Scores]]]) -> str:
    """Renders a Markdown table: mean and standard deviation over seeds, and the worst fold of any seed.

    `scores` has the corpora of each seed by row.
    """
    lines = [
        "| corpus | learns from | seeds | UA % | worst fold | stress AUROC | worst fold |",
        "|---|---|---|---|---|---|---|",
    ]
    corpora = [corpus.corpus for corpus in next(iter(scores.values()))[0]]
    for index, corpus in enumerate(corpora):
        for name, seeds in scores.items():
            one = [found[index] for found in seeds]
            lines.append(
                f"| {corpus} | {name} | {len(one)} | {_spread([100 * item.ua for item in one], 1)} "
                f"| {_spread([100 * worst_known(item.ua_worst for item in one)], 1)} "
                f"| {_spread([item.auroc for item in one], 3)} "
                f"| {_spread([worst_known(item.auroc_worst for item in one)], 3)} |"
            )
    for index, corpus in enumerate(corpora):
        lines += _remarks(corpus, {name: [found[index] for found in seeds] for name, seeds in scores.items()})
    return "\n".join(lines)


def _remarks(corpus: str, scores: Mapping[str, Sequence[Scores]]) -> list[str]:
    """Returns a line for each score that could not be computed, with the runs concerned unless all."""
    runs_by_remark: dict[str, list[str]] = {}
    for name, seeds in scores.items():
        for number, found in enumerate(seeds, 1):
            for remark in found.remarks():
                runs_by_remark.setdefault(remark, []).append(f"{name}, seed {number}")
    run_count = sum(len(seeds) for seeds in scores.values())
    return [
        f"\n{corpus}: {remark}" if len(runs) == run_count else f"\n{corpus} ({'; '.join(runs)}): {remark}"
        for remark, runs in runs_by_remark.items()
    ]


def _spread(values: Sequence[float], digits: int) -> str:
    if any(math.isnan(value) for value in values):
        return "-"
    middle = f"{mean(values):.{digits}f}"
    return f"{middle} +- {stdev(values):.{digits}f}" if len(values) > 1 else middle


def _summarise(scores: Scores) -> dict[str, Any]:
    values = scores.as_dict()
    names = ("corpus", "ua", "ua_worst", "auroc", "auroc_worst", "judged", "false_alarms", "missed")
    return {name: values[name] for name in names if name in values}


def _train_fold(
    utterances: Sequence[Utterance],
    fold: int,
    recipe: Recipe,
    store: FeatureStore,
    sources: AugmentationSources,
    teacher: Sequence[Path],
    folder: Path,
) -> tuple[Student, Sequence[Utterance]]:
    """Trains the student that leaves a fold out; returns the run folder and the fold."""
    from edge_sser.train.corpora.folds import split
    from edge_sser.train.fit.checkpoint import load_student, run_folder
    from edge_sser.train.fit.run import fit
    from edge_sser.train.fit.teaching import load_lessons

    training, test = split(utterances, fold)
    lesson = load_lessons(teacher, recipe, training, fold)
    path = fit(training, recipe, store, run_folder(folder, fold), lesson=lesson, sources=sources)
    return load_student(path)[0], test
