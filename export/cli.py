"""`edge-sser export`: a checkpoint becomes the file that a device runs."""

from __future__ import annotations

import math
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from edge_sser.errors import ModelError, UsageError, need_package
from edge_sser.model.tensorrt import has_tensorrt

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class TargetChoice(str, Enum):
    """What INT8 files to make."""

    CPU = "cpu"
    TENSORRT = "tensorrt"
    ALL = "all"


@app.command()
def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="model.safetensors of a run of `edge-sser train fit`; or a model file (.onnx) to build an engine of."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder to write NAME.onnx into; with --int8 a new one.")] = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            help="Out-of-fold predictions from `train evaluate`, named like the recipe: the calibration and the scores "
            "of the card come from them. Files of other names are baselines. May be repeated."
        ),
    ] = None,
    evaluation: Annotated[
        Path | None,
        typer.Option(
            help="JSON of `train evaluate RUN --streaming`: the card tells from it how far readings with little speech "
            "can be trusted."
        ),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Also write INT8 files, if they do what FP32 does.")] = False,
    target: Annotated[
        TargetChoice | None, typer.Option(help="What INT8 is for: ONNX Runtime on a CPU (the default), or TensorRT.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="The run's table of utterances: INT8 is calibrated on its training side.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Table of strangers to judge INT8 by, instead of the fold that was left out.")
    ] = None,
    held_out: Annotated[
        int | None, typer.Option(help="Fold to judge INT8 by where the checkpoint was trained on all speakers.")
    ] = None,
    qat: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="EPOCHS",
            help="Train on for this many epochs as INT8 computes: for INT8 that loses too much.",
        ),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="For --qat: the features that `train fit` kept, mostly RUN/cache.")
    ] = None,
    allow_loss: Annotated[
        float, typer.Option(min=0.0, help="Allow this many times the loss that INT8 may have.")
    ] = 1.0,
    engines: Annotated[
        Path | None, typer.Option(help="Folder for TensorRT engines, when it is not the one `listen` looks into.")
    ] = None,
    workspace_mib: Annotated[
        int | None, typer.Option(min=1, help="Most memory that a kernel of an engine may take for itself, MiB.")
    ] = None,
) -> None:
    """Turns a checkpoint into one ONNX file with its card, and proves that it computes the same.

    `edge-sser export FILE.onnx --target tensorrt` builds the engine of a model file, on the machine that will run it.

    With --int8, quantised files are made beside it, and refused if on held-out speakers stress AUROC falls by more than
    0.005, the emotions' accuracy by more than 1 point, or more than 3 % of the levels differ.
    """
    if not math.isfinite(allow_loss):
        raise UsageError(f"--allow-loss {allow_loss}: expected a number, as 2 for twice the loss")
    build = partial(_build, engines=engines, workspace_mib=workspace_mib)
    others = (target, calibration, test, held_out, qat)
    if checkpoint.suffix == ".onnx":
        if target is not TargetChoice.TENSORRT:
            raise UsageError(f"{checkpoint}: of a model file an engine is built: add --target tensorrt")
        if (
            int8
            or allow_loss != 1.0
            or any(value is not None for value in (out, predictions, evaluation, cache, *others[1:]))
        ):
            raise UsageError(
                f"{checkpoint}: of a model file only an engine is built: only --engines and --workspace-mib go with it"
            )
        build(checkpoint)
        return
    if out is None:
        raise UsageError("--out is missing: give the folder to write the model into")
    if not int8 and (allow_loss != 1.0 or any(value is not None for value in others)):
        raise UsageError("--target, --calibration, --test, --held-out, --qat and --allow-loss belong to --int8: add it")
    if cache is not None and qat is None:
        raise UsageError("--cache belongs to --qat: add it")
    for package in ("torch", "onnx", "onnxscript", "safetensors", "scipy", "tqdm"):
        need_package(package, "export", "Export")
    from edge_sser.export.card import make_card
    from edge_sser.export.onnx import export_onnx
    from edge_sser.export.speech_trust import read_speech_trust
    from edge_sser.model.model import Model
    from edge_sser.train.evaluate.predictions import read_predictions
    from edge_sser.train.evaluate.scores import evaluate
    from edge_sser.train.fit.checkpoint import load_student

    builds = _can_build(target)
    student, recipe, header = load_student(checkpoint)
    evaluations = {path.stem: evaluate(read_predictions(path), recipe.preset) for path in predictions or []}
    trust = None if evaluation is None else read_speech_trust(evaluation, system=recipe.name, preset=recipe.preset)
    card = make_card(recipe, header, evaluations, sum(value.numel() for value in student.parameters()), trust)
    if int8:
        from edge_sser.export.calibration import find_sides
        from edge_sser.export.int8 import SUFFIXES, RefusedError, export_int8, judge_engine
        from edge_sser.export.qat import open_qat
        from edge_sser.export.quantize import Target
        from edge_sser.export.verify import Limits
        from edge_sser.train.corpora.table import read_table

        if calibration is None:
            raise UsageError("--int8 needs recordings: give --calibration the table that train fit was given")
        table = read_table(calibration)
        sides = find_sides(header, table, held_out=held_out, test=None if test is None else read_table(test))
        try:
            with open_qat(qat, student, recipe, table, sides, cache) as trained_on:
                text = export_int8(
                    partial(export_onnx, student, card),
                    recipe.name,
                    out,
                    checkpoint=checkpoint,
                    targets=[*Target] if target is TargetChoice.ALL else [Target((target or TargetChoice.CPU).value)],
                    sides=sides,
                    limits=Limits(allow_loss),
                    say=partial(typer.echo, err=True),
                    qat=trained_on,
                )
            typer.echo(text)
            if builds:
                graph = out / f"{recipe.name}{SUFFIXES[Target.TENSORRT]}"
                engine = build(graph)
                fp32 = out / f"{recipe.name}.onnx"
                typer.echo(judge_engine(fp32, graph, engine, sides=sides, limits=Limits(allow_loss)))
        except RefusedError as refused:
            typer.echo(refused.report)
            raise
    else:
        path = out / f"{recipe.name}.onnx"
        difference = export_onnx(student, card, path)
        model = Model.load(path, runtime="cpu")
        size = path.stat().st_size
        typer.echo(f"{path}: {size / 1000:.0f} kB, {model.label}, logits within {difference:.1e} of the checkpoint's")
    if recipe.name not in evaluations:
        typer.echo(
            f"no --predictions {recipe.name}.csv: the card has no scores, and its probabilities are not calibrated",
            err=True,
        )
    elif not evaluations[recipe.name].calibrated:
        typer.echo("no corpus has stressed and other clips: the probabilities are not calibrated", err=True)


def _can_build(target: TargetChoice | None) -> bool:
    """Whether an engine is to be built: --target tensorrt insists on it, --target all takes it where it can be had."""
    from edge_sser.export.engine import check_board, need_tensorrt

    if target is TargetChoice.TENSORRT:
        need_tensorrt()
        check_board()
        return True
    if target is TargetChoice.ALL and has_tensorrt():
        try:
            check_board()
        except ModelError as error:
            typer.echo(f"no engine will be built: {error}", err=True)
            return False
        return True
    return False


def _build(model: Path, *, engines: Path | None, workspace_mib: int | None) -> Path:
    """Builds an engine, prints what came of it, and returns where it is. Needs no torch."""
    from edge_sser.export.engine import build_engine, report

    built = build_engine(model, engines=engines, workspace_mib=workspace_mib, say=partial(typer.echo, err=True))
    typer.echo(report(built))
    return built.path
