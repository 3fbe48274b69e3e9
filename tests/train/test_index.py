from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.index import index
from edge_sser.train.corpora.table import read_table, write_table
from edge_sser.train.folds import check_disjoint, split


def manifest(folder: Path, text: str) -> Path:
    random = np.random.default_rng(0)
    for name in ("a.wav", "b.wav", "c.wav"):
        soundfile.write(folder / name, 0.1 * random.standard_normal(24_000), 16_000)
    path = folder / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_ravdess_names_give_speaker_sex_emotion_intensity_and_fold(toy_corpus: Path) -> None:
    rows = {Path(row.path).stem: row for row in index([("ravdess", toy_corpus)]).utterances}
    row = rows["03-01-05-01-02-01-08"]
    assert (row.speaker, row.sex, row.emotion, row.intensity, row.fold) == ("08", "F", "angry", "normal", 3)
    assert len(rows) == 48


def test_a_manifest_reads_its_optional_columns_and_ignores_others(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "path,speaker,emotion,sex,intensity,fold,note\n"
        "a.wav,ann,Anger,f,strong,1,x\nb.wav,bob,neutral,M,,2,\nc.wav,bob,happy,M,,2,\n",
    )
    rows = index([("mine", path)]).utterances
    assert [(row.emotion, row.sex, row.intensity, row.fold) for row in rows] == [
        ("angry", "F", "strong", 1),
        ("neutral", "M", "", 2),
        ("happy", "M", "", 2),
    ]
    assert rows[0].duration_s == 1.5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,emotion\na.wav,angry\n", "column speaker is missing"),
        ("path,speaker,emotion\na.wav,ann,cross\n", "line 2: unknown emotion 'cross'"),
        ("path,speaker,emotion\n../a.wav,ann,angry\n", "leaves the manifest's folder"),
        ("path,speaker,emotion,fold\na.wav,ann,angry,one\n", "fold 'one'"),
        ("path,speaker,emotion\na.wav,,angry\n", "speaker is empty"),
        ("path,speaker,emotion,fold\na.wav,ann,angry,1\nb.wav,bob,calm,\n", "has no fold"),
        ("path,speaker,emotion\nnone.wav,ann,angry\n", "none.wav"),
    ],
)
def test_a_wrong_manifest_is_named_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(TrainingError, match=r"mine\.csv|wav") as caught:
        index([("mine", manifest(tmp_path, text))])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_another_corpus_is_refused(tmp_path: Path) -> None:
    manifest(tmp_path, "")
    with pytest.raises(TrainingError, match="named like RAVDESS"):
        index([("ravdess", tmp_path)])


def test_doubles_silence_and_torn_recordings_are_left_out_and_named(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "path,speaker,emotion\na.wav,ann,angry\ndouble.flac,ann,angry\nzero.wav,bob,calm\ntorn.wav,bob,calm\n",
    )
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    soundfile.write(tmp_path / "double.flac", samples, rate)
    soundfile.write(tmp_path / "zero.wav", np.zeros(16_000), 16_000)
    (tmp_path / "torn.wav").write_bytes((tmp_path / "b.wav").read_bytes()[:20])
    found = index([("mine", path)])
    assert [Path(row.path).name for row in found.utterances] == ["a.wav"]
    assert len(found.odd) == 3
    assert "the same recording as" in found.odd[0]
    assert "digital silence" in found.odd[1]
    assert "torn.wav" in found.odd[2]


def test_folds_made_here_keep_speakers_apart_and_are_even(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    lines = ["path,speaker,emotion"]
    for number in range(24):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * random.standard_normal(8_000), 16_000)
        lines.append(f"{number}.wav,speaker{number % 8},calm")
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    rows = index([("mine", path)]).utterances
    assert {row.fold for row in rows} == {1, 2, 3, 4, 5, 6}
    for fold in range(1, 7):
        training, test = split(rows, fold)
        assert not {row.speaker for row in training} & {row.speaker for row in test}
        assert len(training) + len(test) == 24


def test_the_leak_gate_stops_a_shared_speaker_and_a_shared_recording(toy_table: Path) -> None:
    rows = read_table(toy_table)
    training, test = split(rows, 1)
    with pytest.raises(TrainingError, match="speaker"):
        check_disjoint(training, [replace(training[0], sha256="new")])
    with pytest.raises(TrainingError, match="the same recording"):
        check_disjoint(training, [replace(test[0], sha256=training[0].sha256)])


def test_a_table_survives_writing_and_reading_and_a_foreign_file_is_refused(toy_table: Path, tmp_path: Path) -> None:
    rows = read_table(toy_table)
    write_table(tmp_path / "again.csv", rows)
    assert read_table(tmp_path / "again.csv") == rows
    (tmp_path / "foreign.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    for name in ("foreign.csv", "missing.csv"):
        with pytest.raises(TrainingError, match="train index"):
            read_table(tmp_path / name)


def test_a_corpus_half_unpacked_is_read_as_far_as_it_goes(toy_corpus: Path, tmp_path: Path) -> None:
    for path in sorted(toy_corpus.glob("*-01.flac"))[:3]:
        shutil.copy(path, tmp_path)
    assert len(index([("ravdess", tmp_path)]).utterances) == 3
