"""`edge-sser export`: a checkpoint becomes the file that a device runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from edge_sser.errors import missing_extra

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="model.safetensors of a run of `edge-sser train fit`.")],
    out: Annotated[Path, typer.Option(help="Folder to write NAME.onnx into.")],
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            help="Out-of-fold predictions from `train evaluate`, named like the recipe: the calibration and the scores "
            "of the card come from them. Files of other names are baselines. May be repeated."
        ),
    ] = None,
) -> None:
    """Turns a checkpoint into one ONNX file with its card, and proves that it computes the same."""
    for package in ("torch", "onnx", "onnxscript", "safetensors"):
        if find_spec(package) is None:
            raise missing_extra(package, "export", "Export")
    from edge_sser.model import load_model
    from edge_sser.train.checkpoint import load_student
    from edge_sser.train.evaluate import evaluate
    from edge_sser.train.predictions import read_predictions

    from .card import make_card
    from .onnx import export_onnx

    student, recipe, header = load_student(checkpoint)
    evaluations = {path.stem: evaluate(read_predictions(path)) for path in predictions or []}
    card = make_card(recipe, header, evaluations, sum(value.numel() for value in student.parameters()))
    path = out / f"{recipe.name}.onnx"
    difference = export_onnx(student, card, path)
    model = load_model(path, provider="cpu")
    size = path.stat().st_size
    typer.echo(f"{path}: {size / 1000:.0f} kB, {model.label}, logits within {difference:.1e} of the checkpoint's")
    if recipe.name not in evaluations:
        typer.echo(
            f"no --predictions {recipe.name}.csv: the card has no scores, and its probabilities are not calibrated",
            err=True,
        )
