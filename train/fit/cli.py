"""Options of `edge-sser train adapt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sser.errors import need_package
from edge_sser.train.corpora.cli import TableArgument


def adapt(
    model: Annotated[Path, typer.Argument(help="The .onnx model file, or sser-cnn or sser-plus, which ship.")],
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="Model file to write (.onnx).")],
    preset: Annotated[
        str | None, typer.Option(help="How labels become stress; if not given, as the model's card says.")
    ] = None,
) -> None:
    """Re-fits a model's stress head and calibration on a site's labelled clips; writes only what is better."""
    for package in ("onnx", "scipy"):
        need_package(package, "export", "train adapt")
    from edge_sser.train.fit.adapt import adapt as run

    run(model, table, out, preset, typer.echo)
