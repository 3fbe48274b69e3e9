"""Options of `edge-sser train compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sser.errors import TrainingError, need_package


def compare(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of `train reference`, and files of predictions of other systems (CSV); facts, curves and "
            "the predictions of one corpus and of the original protocol are found beside them.",
        ),
    ],
    html: Annotated[Path | None, typer.Option(help="Page to write.")] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for the pictures (SVG).")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Figures to write as JSON.")] = None,
) -> None:
    """Compares reference systems and ours on speakers never heard, and each reference with its original protocol."""
    need_package("sklearn", "train", "Training")
    from edge_sser.files import write_file
    from edge_sser.train.references.compare import compare as compare_groups
    from edge_sser.train.references.compare_table import json_text, text
    from edge_sser.train.references.result_files import read_groups
    from edge_sser.train.report.comparison import comparison_page, write_pictures
    from edge_sser.train.report.report import check_place

    for place in (html, as_json, plots / "metrics.svg" if plots else None):
        if place is not None:
            check_place(place)
    comparison = compare_groups(read_groups(results))
    typer.echo(text(comparison))
    if as_json is not None:
        write_file(as_json, json_text(comparison), TrainingError)
    if html is not None:
        write_file(html, comparison_page(comparison), TrainingError)
    if plots is not None:
        write_pictures(plots, comparison)
