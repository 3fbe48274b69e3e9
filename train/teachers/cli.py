"""`edge-sser train teacher`: what a teacher says of a table's recordings, for students to be taught by."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_sser.errors import UsageError

if TYPE_CHECKING:
    from ..corpora.table import Utterance


def teacher(
    table: Annotated[Path, typer.Argument(help="Table of utterances, from `train index`.")],
    out: Annotated[Path, typer.Option(help="Folder of the teacher.")],
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of a run of `train fit`: its students become the teacher, fold by fold. Several times."
        ),
    ] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Only for this fold's training side; may be repeated.")] = None,
    final: Annotated[bool, typer.Option(help="Also for all speakers: the teacher of the model to ship.")] = True,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Makes a teacher for each fold, which never heard that fold's speakers, and keeps what it says of the others."""
    from ..cli import chosen_folds, need, run_folder

    need("torch")
    import torch
    from tqdm import tqdm

    from ..corpora.table import read_table
    from ..fit import MODEL_FILE
    from ..folds import split
    from .make import make_ensemble

    if not ensemble:
        raise UsageError("give --ensemble RUN, the folder of a run of train fit, at least once")
    utterances = read_table(table)
    torch.set_num_threads(threads)
    for held_out in chosen_folds(utterances, fold, final):
        training, _ = split(utterances, held_out)
        with tqdm(total=len(training), unit=" recordings", desc=run_folder(out, held_out).name) as bar:
            members = [run_folder(run, held_out) / MODEL_FILE for run in ensemble]
            make_ensemble(training, members, run_folder(out, held_out), partial(_step, bar))


def _step(bar: Any, utterance: Utterance) -> None:
    bar.update()
