"""`train index` and `train explore` as they are typed, and what bad input gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_folders import savee, sounds, touch

from edge_sser.model.shipped import SSER_CNN
from edge_sser.train.corpora.table import read_table, write_table


def train(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_sser.cli", "train", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of SAVEE, a manifest with levels of stress, and a double."""
    folder = tmp_path_factory.mktemp("mixed")
    sounds(folder / "AudioData", [name for name in savee(flat=False) if name[:2] in ("DC", "JE")][::4])
    sounds(folder / "calls", ["1.wav", "2.wav", "3.wav"])
    (folder / "calls" / "4.wav").write_bytes((folder / "calls" / "1.wav").read_bytes())
    lines = [
        "path,speaker,stress,arousal,valence",
        "1.wav,a,low,,",
        "2.wav,b,high,,",
        "3.wav,c,,0.9,0.2",
        "4.wav,a,low,,",
    ]
    (folder / "calls" / "calls.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_corpora_become_one_table_with_a_report_beside_it(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "table.parquet"
    done = train("index", mixed / "AudioData", mixed / "calls" / "calls.csv", "--out", out)
    assert done.stdout.splitlines() == [
        "savee: 60 of 480 clips; 60 utterances, 2 speakers, 2 folds, 0.01 h",
        "calls: 4 clips; 3 utterances, 3 speakers, 3 folds, 0.00 h",
    ]
    assert "savee: missing: no clip of 2 of 4 speakers: JK, KL" in done.stderr
    assert "calls: double: " in done.stderr
    report = out.with_suffix(".report.txt").read_text("utf-8").splitlines()
    assert report[:2] == done.stdout.splitlines()
    assert len(report) == 5
    rows = read_table(out)
    assert [row.stress for row in rows if row.corpus == "calls"] == [0.0, 1.0, None]
    assert all(Path(row.path).is_absolute() for row in rows)


def test_an_incomplete_corpus_stops_where_it_is_asked_to(mixed: Path, tmp_path: Path) -> None:
    done = train("index", mixed / "AudioData", "--out", tmp_path / "t.csv", "--complete", status=1)
    assert done.stderr.splitlines()[-1].startswith("edge-sser: error: savee: no clip of 2 of 4 speakers: JK, KL")
    assert list(tmp_path.iterdir()) == []


def test_folds_persons_and_copies_are_told_on_the_command_line(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    train(
        "index", mixed / "AudioData", mixed / "calls" / "calls.csv", "--out", out, "--folds", "2",
        "--same-person", "savee/DC=calls/b", "--drop-twins",
    )  # fmt: skip
    rows = read_table(out)
    fold = {(row.corpus, row.speaker): row.fold for row in rows}
    assert fold["savee", "DC"] == fold["calls", "b"]
    assert set(fold.values()) == {1, 2}


def test_a_table_and_a_clip_are_drawn(toy_table: Path, speech: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='pip install "edge-sser[plot]"')
    done = train("explore", toy_table, "--out", tmp_path / "pictures", "--clip", speech, "--preset", "sssr")
    names = ["emotions.png", "durations.png", "levels.png", "speakers.png", "demo.png"]
    assert done.stdout.split() == [str(tmp_path / "pictures" / name) for name in names]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == sorted(names)


def test_clips_without_a_label_are_not_scored_and_those_with_another_emotion_are_for_stress(
    toy_table: Path, tmp_path: Path
) -> None:
    rows = read_table(toy_table)
    odd = [replace(rows[0], emotion=""), replace(rows[1], emotion="bored"), *rows[2:]]
    write_table(tmp_path / "odd.parquet", odd)
    done = train("evaluate", SSER_CNN.fp32, "--table", tmp_path / "odd.parquet")
    assert done.stdout.startswith("1 of 48 clips of ravdess have no emotion that the model knows and no stress label: ")
    assert "| ravdess | 47 / 6 / 6 |" in done.stdout
    write_table(tmp_path / "none.csv", [replace(row, emotion="") for row in rows])
    done = train("evaluate", SSER_CNN.fp32, "--table", tmp_path / "none.csv", status=1)
    assert "none.csv: no clip has an emotion that the model knows" in done.stderr
    baseline = tmp_path / "level.csv"
    train("baseline", tmp_path / "odd.parquet", "--out", baseline)
    assert len(baseline.read_text("utf-8").splitlines()) == 48
    done = train("baseline", tmp_path / "none.csv", "--out", tmp_path / "nothing.csv", status=1)
    assert "no clip has an emotion that the model knows" in done.stderr
    assert not (tmp_path / "nothing.csv").exists()


def test_a_corpus_labelled_by_stress_alone_goes_through_evaluation_and_its_page(
    toy_table: Path, tmp_path: Path
) -> None:
    rows = [replace(row, emotion="", stress=float(row.emotion == "angry")) for row in read_table(toy_table)]
    calm = [
        replace(row, corpus="readers", emotion="", stress=0.0, sha256=f"{row.sha256}x", fingerprint=b"")
        for row in rows
        if row.stress == 0.0
    ]
    write_table(tmp_path / "t.parquet", [*rows, *calm])
    train("baseline", tmp_path / "t.parquet", "--out", tmp_path / "level-only.csv")
    done = train(
        "evaluate", SSER_CNN.fp32, "--table", tmp_path / "t.parquet",
        "--predictions", tmp_path / "level-only.csv", "--robustness", "--streaming", "--clips", "8",
        "--html", tmp_path / "r.html", "--json", tmp_path / "r.json",
    )  # fmt: skip
    assert "Warning" not in done.stderr
    assert "ravdess, sser-cnn.onnx, level-only, majority: its clips have no emotion" in done.stdout
    assert "none of its judged clips is stressed" in done.stdout
    assert "nan" not in done.stdout
    assert ">nan" not in (tmp_path / "r.html").read_text("utf-8")
    report = json.loads((tmp_path / "r.json").read_text("utf-8"), parse_constant=pytest.fail)
    own, readers = report["systems"]["sser-cnn.onnx"]["seeds"][0]["corpora"]
    assert (own["ua"], own["clips"]) == (None, 48)
    assert 0.0 <= own["auroc"] <= 1.0
    assert (readers["auroc"], readers["judged"]) == (None, 24)
    assert 0.0 <= readers["false_alarms"] <= 1.0
    quiet = {each["name"]: each["rate"]["hours"] for each in report["streaming"]["quiet"]}
    assert quiet["readers, each speaker alone"] > 0.0
    assert any("AUROC and UAR of stress on readers" in line for line in report["robustness"]["missing"])
    assert report["seconds_of_speech"]


def test_a_part_of_a_table_is_taken_by_statement_and_corpus(toy_table: Path, tmp_path: Path) -> None:
    out = tmp_path / "one.parquet"
    done = train("select", toy_table, "--out", out, "--keep", "statement=01", "--drop", "speaker=0[16]")
    assert done.stdout == "16 of 48 utterances, 4 speakers, 4 folds\n"
    rows = {row.path: row for row in read_table(toy_table)}
    for row in read_table(out):
        assert row == rows[row.path]
        assert Path(row.path).name.split("-")[4] == row.statement == "01"
    for arguments, status, message in (
        ((), 2, "give what to keep or to drop"),
        (("--keep", "mood=x"), 2, "expected FIELD=PATTERN with FIELD corpus, speaker"),
        (("--keep", "statement=03"), 2, "no utterance of the table has such a statement: it has 01, 02"),
        (("--drop", "corpus=*"), 1, "no utterance is left"),
    ):
        assert message in train("select", toy_table, "--out", tmp_path / "no.csv", *arguments, status=status).stderr
    assert not (tmp_path / "no.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("index", "nowhere", "--out", "t.csv"), 1, "corpus nowhere: no such folder or manifest"),
        (("index", "empty", "--out", "t.csv"), 1, "empty: it holds no audio file"),
        (("index", "packed", "--out", "t.csv"), 1, "packed: it holds only AudioData.zip: unpack it there"),
        (("index", "emo-db=other", "--out", "t.csv"), 1, "is named like EMO-DB (03a01Fa.wav), but 2 like SAVEE"),
        (("index", "silent", "--out", "t.csv"), 1, "none of its recordings can be used"),
        (("index", "notes.txt", "--out", "t.csv"), 1, "expected a folder, or a manifest that ends in .csv or .parquet"),
        (("index", "columns.csv", "--out", "t.csv"), 1, "the column speaker is missing"),
        (("index", "label.csv", "--out", "t.csv"), 1, "line 2: unknown emotion 'cross'"),
        (("index", "outside.csv", "--out", "t.csv"), 1, "line 2: path ../x.wav leaves the manifest's folder"),
        (("index", "twofolds.csv", "--out", "t.csv"), 1, "speaker ann of twofolds stands in fold 2 and in fold 1"),
        (("index", "a=other", "a=other", "--out", "t.csv"), 1, "corpus a is given twice"),
        (("index", "other", "--out", "notes.txt/t.csv"), 1, "cannot be written"),
        (("index", "other", "--out", "t.csv", "--same-person", "DC"), 2, "expected CORPUS/SPEAKER=CORPUS/SPEAKER"),
        (("index", "other", "--out", "t.csv", "--same-person", "savee/DC=savee/XX"), 1, "no clip is by savee/XX"),
        (("index", "other", "--out", "t.csv", "--folds", "1"), 2, "--folds"),
        (("explore", "--out", "pictures"), 2, "give a table of utterances, --clip RECORDING, or both"),
        (("explore", "nowhere.parquet", "--out", "pictures"), 1, "table nowhere.parquet"),
        (("explore", "label.csv", "--out", "pictures"), 1, "expected the columns path"),
        (("explore", "--clip", "notes.txt", "--out", "pictures"), 1, "notes.txt: cannot be read as audio"),
        (("explore", "label.csv", "--out", "notes.txt"), 2, "--out notes.txt"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    touch(tmp_path, ["packed/AudioData.zip", "silent/DC_a01.wav"])
    sounds(tmp_path, ["other/DC_a01.wav", "other/JE_a02.wav", "a.wav"])
    sounds(tmp_path, ["b.wav", "c.wav"])
    manifests = {
        "columns.csv": "path,emotion\na.wav,calm\n",
        "label.csv": "path,speaker,emotion\na.wav,ann,cross\n",
        "outside.csv": "path,speaker,emotion\n../x.wav,ann,calm\n",
        "twofolds.csv": "path,speaker,emotion,fold\na.wav,ann,calm,1\nb.wav,ann,sad,2\n",
        "notes.txt": "not a table\n",
    }
    for name, text in manifests.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = train(*arguments, status=status)
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if line.startswith("edge-sser: error:")]
    if errors:  # the option parser has a form of its own
        assert len(errors) == 1
    assert message in done.stderr
    assert not (tmp_path / "t.csv").exists()
