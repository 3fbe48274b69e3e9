"""Splits RAVDESS by clip, so that speakers stand on both sides: what such a split says of a system of ours.

    python scripts/shared_speakers.py mix TABLE MIXED               then `train fit MIXED --fold 1 --no-final …`
    python scripts/shared_speakers.py keep TABLE PREDICTIONS OUT    of fold 1, for `train compare`

`mix` gives each clip of RAVDESS a speaker of its own and a fold at random, since `train fit` refuses to share speakers.
`keep` gives its predictions the speakers of TABLE again and says that they were heard in training.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_sser.train.corpora.table import read_table, write_table
from edge_sser.train.evaluate.predictions import read_origin, read_predictions, write_origin, write_predictions
from edge_sser.train.references.results import NO_FOLD

CORPUS = "ravdess"
FOLDS, SEED = 6, 1


def mix(table: Path, out: Path) -> None:
    """Writes a table in which a fold of RAVDESS shares its speakers with the others."""
    clips = read_table(table)
    places = [place for place, clip in enumerate(clips) if clip.corpus == CORPUS]
    folds = np.random.default_rng(SEED).permutation(len(places)) % FOLDS + 1
    fold_of = dict(zip(places, folds.tolist(), strict=True))
    write_table(
        out,
        [
            replace(clip, speaker=f"clip-{place}", person="", fold=fold_of[place]) if place in fold_of else clip
            for place, clip in enumerate(clips)
        ],
    )


def keep(table: Path, predictions: Path, out: Path) -> None:
    """Writes the predictions of fold 1 of RAVDESS with the speakers of the table, as heard in training."""
    clips = [clip for clip in read_table(table) if clip.corpus == CORPUS]
    speakers = {"/".join(Path(clip.path).parts[-2:]): clip.speaker for clip in clips}
    chosen = [item for item in read_predictions(predictions) if item.corpus == CORPUS and item.fold == 1]
    write_predictions(out, [replace(item, speaker=speakers[item.path], fold=NO_FOLD) for item in chosen])
    write_origin(out, replace(read_origin(predictions), system=out.stem, heard=(CORPUS,)))


if __name__ == "__main__":
    {"mix": mix, "keep": keep}[sys.argv[1]](*map(Path, sys.argv[2:]))
