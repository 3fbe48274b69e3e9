"""Options of `edge-sser train reference`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from edge_sser.errors import UsageError, need_package
from edge_sser.train.teachers.cli import ChangeOption


def reference(
    name: Annotated[str | None, typer.Argument(help="Reference system: a name of --list, or a .toml file.")] = None,
    show: Annotated[bool, typer.Option("--list", help="Show the systems that ship.")] = False,
    table: Annotated[Path | None, typer.Option(help="Table of utterances, from `train index`.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of NAME.csv, the predictions, and of JSON files beside it.")
    ] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Only this fold; may be repeated.")] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Train and test on this corpus of the table alone; may be repeated.")
    ] = None,
    original: Annotated[
        bool,
        typer.Option(
            "--original-protocol",
            help="Split and settings of the study, with speakers on both sides: what leaks, and no score of strangers.",
        ),
    ] = False,
    test: Annotated[
        Path | None,
        typer.Option(help="Also train on all speakers, and predict this table of other speakers as fold 0."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and random splits.")] = 1,
    change: ChangeOption = None,
    onnx: Annotated[
        Path | None, typer.Option(help="Also train on all speakers, and write that network as an ONNX file.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Trains a system of the field fold by fold, and scores it. Goes on where an interrupted run stopped."""
    from edge_sser.train.references.recipe import read_reference_recipe, reference_names

    if show:
        for known in reference_names():
            recipe = read_reference_recipe(known)
            published = f"; published: {recipe.published}" if recipe.published else ""
            typer.echo(f"{known}: {recipe.title} ({recipe.corpora}{published})")
        return
    if name is None or table is None or out is None:
        missing = next(
            text for value, text in ((name, "NAME"), (table, "--table FILE"), (out, "--out FOLDER")) if value is None
        )
        raise UsageError(
            f"{missing} is missing: edge-sser train reference NAME --table FILE --out FOLDER, with a NAME of --list"
        )
    for package, extra in (("torch", "train"), ("sklearn", "train"), *((("onnx", "export"),) if onnx else ())):
        need_package(package, extra, "train reference")
    import torch

    from edge_sser.train.references.run import ReferenceRequest, run

    torch.set_num_threads(threads)
    request = ReferenceRequest(
        name=name,
        table=table,
        out=out,
        changes=change or (),
        folds=fold or (),
        corpora=corpus or (),
        original=original,
        seed=seed,
        test=test,
        onnx=onnx,
    )
    run(request, partial(typer.echo, err=True), typer.echo)
