"""The split by clip of scripts/shared_speakers.py shares speakers, and its predictions say so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from edge_sser.train.corpora.table import Utterance, read_table, write_table
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.predictions import (
    Origin,
    make_prediction,
    read_origin,
    read_predictions,
    write_origin,
    write_predictions,
)

SCRIPT = Path(__file__).parents[2] / "scripts" / "shared_speakers.py"


def run(*arguments: object) -> None:
    subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], check=True, timeout=120)


def clip(number: int, corpus: str) -> Utterance:
    return Utterance(
        path=f"Actor_{number % 4}/{corpus}-{number}.wav", corpus=corpus, speaker=f"{number % 4}", sex="F",
        emotion=EMOTIONS[number % 8], intensity="", fold=number % 4 + 1, duration_s=3.0, sha256=f"{corpus}{number}",
    )  # fmt: skip


def test_each_clip_becomes_a_speaker_and_gets_its_own_back(tmp_path: Path) -> None:
    clips = [clip(number, corpus) for corpus in ("ravdess", "nemo") for number in range(24)]
    table, mixed = tmp_path / "table.csv", tmp_path / "mixed.csv"
    write_table(table, clips)
    run("mix", table, mixed)
    found = read_table(mixed)
    ravdess, others = found[:24], found[24:]
    assert others == clips[24:]
    assert len({each.speaker for each in ravdess}) == 24
    assert np.bincount([each.fold for each in ravdess]).tolist() == [0, 4, 4, 4, 4, 4, 4]
    test = [each for each in ravdess if each.fold == 1]
    speakers = {one.speaker for one, each in zip(clips, ravdess, strict=False) if each.fold == 1}
    assert speakers & {one.speaker for one, each in zip(clips, ravdess, strict=False) if each.fold != 1}
    predictions = tmp_path / "predictions.csv"
    write_predictions(predictions, [make_prediction(each, emotions=np.full(8, 0.125), stress=0.5) for each in found])
    write_origin(predictions, Origin(system="trunk", trained_on=("nemo", "ravdess")))
    out = tmp_path / "trunk.original.csv"
    run("keep", table, predictions, out)
    kept = read_predictions(out)
    assert {(item.corpus, item.fold) for item in kept} == {("ravdess", 0)}
    assert [item.speaker for item in kept] == [clips[found.index(each)].speaker for each in test]
    assert (read_origin(out).system, read_origin(out).heard) == ("trunk.original", ("ravdess",))
