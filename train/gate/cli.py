"""Options of `edge-sser train gate`."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_sser.errors import UsageError, need_package
from edge_sser.train.corpora.cli import TableArgument

if TYPE_CHECKING:
    from edge_sser.train.gate.data import GateCorpus


def gate(
    table: TableArgument,
    nonspeech: Annotated[
        list[Path],
        typer.Option(help="Folder of recordings without speech; may be repeated. Each has a row of its own."),
    ],
    out: Annotated[Path, typer.Option(help="File of weights to write (.npz).")],
    words: Annotated[
        list[str] | None,
        typer.Option(help="Corpus whose clips are single words recorded in the wild; may be repeated."),
    ] = None,
    licence: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=LICENCE", help="Licence of a corpus or folder, for the card; may be repeated."),
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Only measure the file: train nothing.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything that is random.")] = 1,
    speech_windows: Annotated[
        int, typer.Option(min=1, help="Windows with speech to train on; half as many more without.")
    ] = 4000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the windows.")] = 12,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads, and processes that make windows.")] = 2,
) -> None:
    """Trains the network of the speech gate, and prints the share of windows it scores of speech and other sounds."""
    for package in ("torch", "scipy"):
        need_package(package, "train", "Training")
    import torch

    from edge_sser.pipeline.gate import SpeechNet
    from edge_sser.train.corpora.table import read_table
    from edge_sser.train.gate.data import make_windows, read_corpus
    from edge_sser.train.gate.measure import measure
    from edge_sser.train.gate.measure import table as as_table
    from edge_sser.train.gate.net import arrays, train, write_weights

    licences = dict(_pair(text) for text in licence or ())
    utterances = read_table(table)
    held_out = read_corpus(utterances, words or (), nonspeech, held_out=True)
    if not test:
        torch.set_num_threads(threads)
        corpus = read_corpus(utterances, words or (), nonspeech, held_out=False)
        typer.echo("making windows of speech and other sounds: some minutes", err=True)
        others = round(1.5 * speech_windows)
        windows = make_windows(corpus, speech=speech_windows, nonspeech=others, seed=seed, jobs=threads)
        net = train(windows, seed=seed, epochs=epochs, report=partial(typer.echo, err=True))
        write_weights(out, arrays(net), {})
    rows = measure(SpeechNet(out), held_out)
    if not test:
        card = _card(corpus, licences, seed)
        card["scored"] = {
            row.sound: {f"{gain:g} dB": round(share, 3) for gain, share in row.scored.items()} for row in rows
        }
        write_weights(out, arrays(net), card)
    typer.echo(as_table(rows))


def _card(corpus: GateCorpus, licences: dict[str, str], seed: int) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for clip in corpus.speech:
        counts[clip.corpus] = counts.get(clip.corpus, 0) + 1
    speech = [(name, {"speech": True, "recordings": count}) for name, count in sorted(counts.items())]
    other = [(name, {"speech": False, "recordings": len(sounds)}) for name, sounds in corpus.nonspeech.items()]
    return {
        "name": "speech-net",
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "seed": seed,
        "training": [
            {"name": name, "licence": licences.get(name, "your own"), **entry} for name, entry in (*speech, *other)
        ],
    }


def _pair(text: str) -> tuple[str, str]:
    name, equals, licence = text.partition("=")
    if not (name and equals and licence):
        raise UsageError(f"--licence {text}: expected NAME=LICENCE")
    return name, licence
