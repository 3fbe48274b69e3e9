"""`edge-sser train manifest`, `index`, `select`, `explore`: from recordings to a table, a part of it, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_sser.errors import TrainingError, UsageError, need_package
from edge_sser.files import write_file

if TYPE_CHECKING:
    from edge_sser.train.corpora.index import Index

TableArgument = Annotated[Path, typer.Argument(help="Table of utterances, from `train index`.")]


def index(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Corpora, each [NAME=]PATH: a folder with RAVDESS, CREMA-D, TESS, SAVEE, EMO-DB or BESST as it is "
            "unpacked, or a manifest (.csv or .parquet)."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Table to write: .parquet or .csv. What is odd goes beside it: .report.txt.")
    ],
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Deal every corpus's speakers into so many folds, not its own."),
    ] = None,
    same_person: Annotated[
        list[str] | None,
        typer.Option(help="CORPUS/SPEAKER=CORPUS/SPEAKER: two speakers who are one person; may be repeated."),
    ] = None,
    drop_twins: Annotated[
        bool, typer.Option("--drop-twins", help="Leave out altered copies of another fold's recordings, do not stop.")
    ] = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="Stop when a published corpus is not all there.")
    ] = False,
) -> None:
    """Reads corpora into one table and reports missing, odd, duplicate and contradictory clips."""
    for package in ("soundfile", "scipy", *(() if out.suffix.lower() == ".csv" else ("pyarrow",))):
        need_package(package, "train", "Training")
    from edge_sser.commands.progress import progress
    from edge_sser.train.corpora.index import IndexOptions, parse_source
    from edge_sser.train.corpora.index import index as make_index
    from edge_sser.train.corpora.report import FindingKind, summary_lines
    from edge_sser.train.corpora.table import write_table

    options = IndexOptions(folds=folds, same=[_parse_pair(text) for text in same_person or ()], drop_twins=drop_twins)
    with progress("index") as work:
        corpora = [parse_source(source) for source in sources]
        found = make_index(corpora, lambda entry: work.advance(), options, work.expect)
    for line in summary_lines(found.findings):
        typer.echo(line, err=True)
    missing = [finding for finding in found.findings if finding.kind is FindingKind.MISSING]
    if complete and missing:
        raise TrainingError(f"{missing[0].corpus}: {missing[0].text}: fetch the rest, or leave out --complete")
    write_table(out, found.utterances)
    summary = list(_summary(found))
    report = out.with_suffix(".report.txt")
    write_file(report, "\n".join([*summary, *map(str, found.findings)]) + "\n", TrainingError)
    if found.findings:
        typer.echo(f"{len(found.findings)} findings in full: {report}", err=True)
    typer.echo("\n".join(summary))


def manifest(
    folder: Annotated[Path, typer.Argument(help="Folder of recordings, whose names tell speaker and emotion.")],
    out: Annotated[Path | None, typer.Option(help="Manifest to write, in FOLDER; manifest.csv by default.")] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Where the guess is wrong: searched for in each path below FOLDER, as "
            "'(?P<speaker>[^/]+)/.*_(?P<emotion>[a-z]+)'.",
        ),
    ] = None,
) -> None:
    """Makes a manifest from the names of folders and files, and says what it guessed."""
    from edge_sser.train.corpora.guess import make_manifest

    path = folder / "manifest.csv" if out is None else out
    typer.echo("\n".join(make_manifest(folder, path, pattern).lines()))
    typer.echo(f"written: {path}")


def select(
    table: TableArgument,
    out: Annotated[Path, typer.Option(help="Table to write: .parquet or .csv.")],
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=PATTERN",
            help="What to keep, as corpus=nemo, statement=01 or speaker=ann*; of one field any, of several all; may be "
            "repeated.",
        ),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option(metavar="FIELD=PATTERN", help="What to leave out; may be repeated.")
    ] = None,
) -> None:
    """Selects part of a table and keeps its folds: to leave a corpus or a sentence out and to test on it."""
    from edge_sser.train.corpora.select import select as select_utterances
    from edge_sser.train.corpora.table import read_table, write_table

    if not (keep or drop):
        raise UsageError("give what to keep or to drop, for example --keep corpus=ravdess or --drop statement=01")
    given = read_table(table)
    found = select_utterances(given, keep or (), drop or ())
    write_table(out, found)
    typer.echo(
        f"{len(found)} of {len(given)} utterances, {len({row.voice for row in found})} speakers, "
        f"{len({row.fold for row in found})} folds"
    )


def explore(
    out: Annotated[Path, typer.Option(help="Folder for the pictures (PNG).")],
    table: Annotated[Path | None, typer.Argument(help="Table of utterances, from `train index`.")] = None,
    clip: Annotated[Path | None, typer.Option(help="Also draw this recording.")] = None,
    preset: Annotated[
        str, typer.Option(help="Mapping of labels to stress: quadrant, sssr, arousal_valence or a .toml file.")
    ] = "quadrant",
) -> None:
    """Draws the emotions, durations, levels and speakers of a table, and the spectrograms of a recording."""
    if table is None and clip is None:
        raise UsageError("give a table of utterances, --clip RECORDING, or both")
    for package, extra in (("scipy", "train"), ("matplotlib", "plot")):
        need_package(package, extra, "train explore")
    from edge_sser.train.corpora.table import read_table
    from edge_sser.train.data.labels import read_preset
    from edge_sser.train.explore import draw_clip, draw_table

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made ({error.strerror or error}): choose another folder") from None
    if table is not None:
        for path in draw_table(read_table(table), read_preset(preset), out):
            typer.echo(path)
    if clip is not None:
        typer.echo(draw_clip(clip, out))


def _summary(found: Index) -> Sequence[str]:
    lines = []
    for corpus, (clips, published) in found.clips.items():
        rows = [utterance for utterance in found.utterances if utterance.corpus == corpus]
        of_published = f" of {published}" if published else ""
        lines.append(
            f"{corpus}: {clips}{of_published} clips; {len(rows)} utterances, {len({row.speaker for row in rows})} "
            f"speakers, {len({row.fold for row in rows})} folds, {sum(row.duration_s for row in rows) / 3600:.2f} h"
        )
    return lines


def _parse_pair(text: str) -> tuple[str, str]:
    first, _, second = text.partition("=")
    if "/" not in first or "/" not in second:
        raise UsageError(f"--same-person {text}: expected CORPUS/SPEAKER=CORPUS/SPEAKER")
    return first, second
