"""Runs an export: a checkpoint to model files, or a model file to a TensorRT engine.

The second needs no torch, so everything that imports torch is imported when needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge_sser.errors import ModelError, UsageError, need_package
from edge_sser.export.engine import ALL, build_engines, check_board, describe_engine, need_library
from edge_sser.model.tensorrt_library import RTX, TENSORRT

if TYPE_CHECKING:
    from edge_sser.model.card import Card
    from edge_sser.train.recipe import Recipe
    from edge_sser.train.students.net import Student

FEW_DRAWS = 2  # of the bootstrap: a verdict needs no intervals
PACKAGES = ("torch", "onnx", "onnxscript", "safetensors", "scipy", "tqdm")

_print_progress = partial(typer.echo, err=True)


class TargetChoice(str, Enum):
    """INT8 files to make, or the library to build engines with."""

    CPU = "cpu"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """Options of `edge-sser export`, as its help describes them.

    Raises:
        UsageError: an option is missing, has a wrong value, or does not go with the others.
    """

    checkpoint: Path
    out: Path | None = None
    predictions: Sequence[Path] = ()
    evaluation: Path | None = None
    int8: bool = False
    target: TargetChoice | None = None
    calibration: Path | None = None
    test: Path | None = None
    held_out: int | None = None
    float_nodes: Sequence[str] = ()
    qat: int | None = None
    cache: Path | None = None
    allow_loss: float = 1.0
    engines: Path | None = None
    workspace_mib: int | None = None
    capabilities: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not math.isfinite(self.allow_loss):
            raise UsageError(f"--allow-loss {self.allow_loss}: expected a number, as 2 for twice the loss")
        quantising = self.allow_loss != 1.0 or any(
            value not in (None, ())
            for value in (self.calibration, self.test, self.held_out, self.float_nodes, self.qat)
        )
        if self.capabilities and self.target is not TargetChoice.TENSORRT_RTX:
            raise UsageError("--compute-capability belongs to --target tensorrt-rtx: add it")
        if self.is_model_file:
            if self.target not in (TargetChoice.TENSORRT, TargetChoice.TENSORRT_RTX):
                raise UsageError(
                    f"{self.checkpoint}: a model file can become an engine only: add --target tensorrt or tensorrt-rtx"
                )
            if self.int8 or quantising or self.predictions or self.out or self.evaluation or self.cache:
                raise UsageError(
                    f"{self.checkpoint}: a model file becomes an engine, and only --engines, --workspace-mib and "
                    "--compute-capability go with it"
                )
            return
        if self.target is TargetChoice.TENSORRT_RTX:
            raise UsageError("--target tensorrt-rtx builds from a model file (.onnx): export one, with --target all")
        if self.out is None:
            raise UsageError("--out is missing: give the folder to write the model into")
        if not self.int8 and (quantising or self.target is not None):
            raise UsageError(
                "--target, --calibration, --test, --held-out, --float, --qat and --allow-loss belong to --int8: add it"
            )
        if self.cache is not None and self.qat is None:
            raise UsageError("--cache belongs to --qat: add it")
        if self.int8 and self.calibration is None:
            raise UsageError("--int8 needs recordings: give --calibration the table that train fit was given")

    @property
    def is_model_file(self) -> bool:
        """True for a model file, False for a checkpoint."""
        return self.checkpoint.suffix == ".onnx"


def run_export(request: ExportRequest) -> None:
    """Makes the files of a request, and prints them.

    Raises:
        MissingComponentError: a package is missing.
        ModelError: a file cannot be made, or loses more than the limits allow.
        TrainingError: the checkpoint, a table or an evaluation cannot be used.
    """
    if request.is_model_file:
        _build(request, request.checkpoint)
        return
    for package in PACKAGES:
        need_package(package, "export", "Export")
    from edge_sser.export.card import make_card, read_speech_trust
    from edge_sser.train.evaluate.predictions import read_predictions
    from edge_sser.train.evaluate.scores import evaluate
    from edge_sser.train.fit.checkpoint import load_student

    builds_engine = _can_build(request.target)
    student, recipe, header = load_student(request.checkpoint)
    predictions = {path.stem: read_predictions(path) for path in request.predictions}
    evaluations = {name: evaluate(each, recipe.preset) for name, each in predictions.items()}
    trust = None
    if request.evaluation is not None:
        trust = read_speech_trust(request.evaluation, system=recipe.name, preset=recipe.preset)
    parameters = sum(value.numel() for value in student.parameters())
    card = make_card(recipe, header, evaluations, parameters, trust, predictions.get(recipe.name, ()))
    if request.int8:
        _export_int8(request, student, recipe, header, card, builds_engine=builds_engine)
    else:
        _export_fp32(request, student, card)
    if recipe.name not in evaluations:
        _print_progress(
            f"no --predictions {recipe.name}.csv: the card has no scores, and its probabilities are not calibrated"
        )
        return
    if not evaluations[recipe.name].calibrated:
        _print_progress("no corpus has stressed and other clips: the probabilities are not calibrated")
    _print_verdict(request.predictions, recipe)


def _print_verdict(predictions: Sequence[Path], recipe: Recipe) -> None:
    """Repeats the verdict of the evaluation page on the exported system."""
    from edge_sser.train.evaluate.predictions import read_origin, read_predictions
    from edge_sser.train.evaluate.systems import group_systems, score
    from edge_sser.train.evaluate.verdict import verdicts

    scored = [score(read_origin(path), read_predictions(path), recipe.preset) for path in predictions]
    for verdict in verdicts(group_systems(scored, draws=FEW_DRAWS)):
        _print_progress(f"verdict on {verdict}")


def _export_fp32(request: ExportRequest, student: Student, card: Card) -> None:
    from edge_sser.export.onnx import export_onnx
    from edge_sser.model.model import Model

    assert request.out is not None
    path = request.out / f"{card.name}.onnx"
    difference = export_onnx(student, card, path)
    label = Model.load(path, runtime="cpu").label
    size = path.stat().st_size
    typer.echo(f"{path}: {size / 1000:.0f} kB, {label}, logits within {difference:.1e} of the checkpoint's")


def _export_int8(
    request: ExportRequest,
    student: Student,
    recipe: Recipe,
    header: Mapping[str, Any],
    card: Card,
    *,
    builds_engine: bool,
) -> None:
    from edge_sser.export.calibration import split_speakers
    from edge_sser.export.gate import Limits, RefusedError, judge_engine
    from edge_sser.export.int8 import SUFFIXES, export_int8
    from edge_sser.export.onnx import export_onnx
    from edge_sser.export.qat import open_qat
    from edge_sser.export.quantize import Target
    from edge_sser.train.corpora.table import read_table

    assert request.out is not None
    assert request.calibration is not None
    table = read_table(request.calibration)
    test = None if request.test is None else read_table(request.test)
    speakers = split_speakers(header, table, held_out=request.held_out, test=test)
    choice = request.target or TargetChoice.CPU
    limits = Limits(request.allow_loss)
    try:
        with open_qat(request.qat, student, recipe, table, speakers, request.cache) as qat:
            text = export_int8(
                partial(export_onnx, student, card),
                recipe.name,
                request.out,
                checkpoint=request.checkpoint,
                targets=[*Target] if choice is TargetChoice.ALL else [Target(choice.value)],
                speakers=speakers,
                float_nodes=request.float_nodes,
                limits=limits,
                progress=_print_progress,
                qat=qat,
            )
        typer.echo(text)
        if builds_engine:
            fp32, graph = (request.out / f"{recipe.name}{end}" for end in (".onnx", SUFFIXES[Target.TENSORRT]))
            engine = _build(request, graph)
            typer.echo(judge_engine(fp32, graph, engine, test=speakers.test, limits=limits))
    except RefusedError as refused:
        typer.echo(refused.report)
        raise


def _can_build(target: TargetChoice | None) -> bool:
    """Returns True when an engine can be built: required for --target tensorrt, optional for --target all."""
    if target is TargetChoice.TENSORRT:
        need_library(TENSORRT)
        check_board()
        return True
    if target is TargetChoice.ALL and TENSORRT.is_installed:
        try:
            check_board()
        except ModelError as error:
            _print_progress(f"no engine will be built: {error}")
            return False
        return True
    return False


def _build(request: ExportRequest, model: Path) -> Path:
    """Builds engines, prints a description of each, and returns the path of the last."""
    built = build_engines(
        model,
        library=RTX if request.target is TargetChoice.TENSORRT_RTX else TENSORRT,
        capabilities=request.capabilities or (ALL,),
        engines=request.engines,
        workspace_mib=request.workspace_mib,
        progress=_print_progress,
    )
    for each in built:
        typer.echo(describe_engine(each))
    return built[-1].path
