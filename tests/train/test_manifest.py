from __future__ import annotations

import math
from pathlib import Path

import pyarrow
import pytest
from corpus_folders import sounds
from pyarrow import parquet

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.index import index
from edge_sser.train.corpora.manifest import read_manifest
from edge_sser.train.corpora.table import Entry


def entries(folder: Path, text: str) -> list[Entry]:
    path = folder / "mine.csv"
    path.write_text(text, encoding="utf-8")
    return list(read_manifest(path))


def test_a_manifest_reads_its_optional_columns_and_ignores_others(tmp_path: Path) -> None:
    rows = entries(
        tmp_path,
        "path,speaker,emotion,sex,intensity,fold,note\n"
        "a.wav,ann,Anger,female,strong,1,x\nb.wav,bob,boredom,M,low,2,\nc.wav,bob,pleasant surprise,,,2,\n",
    )
    assert [(row.emotion, row.sex, row.intensity, row.fold) for row in rows] == [
        ("angry", "F", "strong", 1),
        ("bored", "M", "low", 2),
        ("surprised", "", "", 2),
    ]
    assert rows[0].path == (tmp_path / "a.wav").resolve()


def test_a_manifest_may_hold_several_corpora(tmp_path: Path) -> None:
    sounds(tmp_path, ["a.wav", "b.wav", "c.wav"], seconds=1.0)
    path = tmp_path / "mine.csv"
    path.write_text("path,speaker,emotion,corpus\na.wav,1,sad,Calls\nb.wav,1,sad,radio\nc.wav,2,calm,\n", "utf-8")
    found = index([("", path)])
    assert [(row.corpus, row.speaker) for row in found.utterances] == [("calls", "1"), ("radio", "1"), ("mine", "2")]
    assert {row.corpus for row in index([("all", path)]).utterances} == {"all"}


def test_stress_is_a_share_or_one_of_three_levels(tmp_path: Path) -> None:
    rows = entries(tmp_path, "path,speaker,stress\na.wav,1,low\na.wav,1,Medium\na.wav,1,high\na.wav,1,0.25\n")
    assert [row.stress for row in rows] == [0.0, 0.5, 1.0, 0.25]
    assert {row.emotion for row in rows} == {""}


def test_votes_become_shares(tmp_path: Path) -> None:
    rows = entries(tmp_path, "path,speaker,p_anger,p_neutral,p_sad\na.wav,1,6,2,0\nb.wav,1,0.25,,0.75\n")
    assert [row.soft for row in rows] == [{"angry": 0.75, "neutral": 0.25}, {"angry": 0.25, "sad": 0.75}]


def test_a_part_of_a_recording_is_named_in_the_place(tmp_path: Path) -> None:
    (row,) = entries(tmp_path, "path,speaker,emotion,start_s,end_s\na.wav,1,calm,1204.5583,1214.0\n")
    assert row.location == f"{(tmp_path / 'a.wav').resolve()}#t=1204.558,1214.000"


def test_a_recording_without_a_label_must_say_so(tmp_path: Path) -> None:
    (row,) = entries(tmp_path, "path,speaker,emotion\na.wav,1,unlabelled\n")
    assert (row.emotion, row.stress) == ("", None)
    with pytest.raises(TrainingError, match=r"line 2: it has no label .*, or unlabelled as the emotion"):
        entries(tmp_path, "path,speaker,emotion\na.wav,1,\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,emotion\na.wav,angry\n", "column speaker is missing"),
        ("path,speaker\na.wav,ann\n", "column emotion is missing"),
        ("", "column path is missing"),
        ("path,speaker,emotion\na.wav,ann,cross\n", "line 2: unknown emotion 'cross'"),
        ("path,speaker,p_cross\na.wav,ann,1\n", "the column emotion is missing"),
        ("path,speaker,p_cross,emotion\na.wav,ann,1,calm\n", "line 2: unknown emotion 'cross'"),
        ("path,speaker,emotion\n../a.wav,ann,angry\n", "leaves the manifest's folder"),
        ("path,speaker,emotion\n/etc/passwd,ann,angry\n", "leaves the manifest's folder"),
        ("path,speaker,emotion,fold\na.wav,ann,angry,one\n", "fold 'one'"),
        ("path,speaker,emotion,fold\na.wav,ann,angry,0\n", "fold '0'"),
        ("path,speaker,emotion\na.wav,,angry\n", "speaker is empty"),
        ("path,speaker,emotion,sex\na.wav,ann,angry,x\n", "sex 'x', expected F, M or nothing"),
        ("path,speaker,emotion,intensity\na.wav,ann,angry,huge\n", "intensity 'huge', expected low, normal, strong"),
        ("path,speaker,stress\na.wav,ann,1.5\n", "stress '1.5', expected 0 to 1 or low, medium, high"),
        ("path,speaker,stress\na.wav,ann,much\n", "stress 'much', expected a number from 0 or low, medium, high"),
        ("path,speaker,stress\na.wav,ann,nan\n", "stress 'nan'"),
        ("path,speaker,p_angry\na.wav,ann,-1\n", "p_angry '-1'"),
        ("path,speaker,arousal,valence\na.wav,ann,0.5,\n", "arousal and valence go together"),
        ("path,speaker,emotion,start_s\na.wav,ann,calm,1\n", "start_s and end_s go together"),
        ("path,speaker,emotion,start_s,end_s\na.wav,ann,calm,3,2\n", "end_s 2 is not after start_s 3"),
        ('path,speaker,emotion\n"a.wav,ann,calm\nb.wav,ann,calm\n', "line"),
    ],
)
def test_a_wrong_manifest_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrainingError, match=r"manifest .*mine\.csv") as caught:
        entries(tmp_path, text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parquet_says_the_same_as_csv_and_leaves_empty_what_is_not_known(tmp_path: Path) -> None:
    columns = {
        "path": ["a.wav", "b.wav"],
        "speaker": [7, 8],
        "emotion": ["anger", None],
        "stress": [math.nan, 0.5],
        "fold": [1, 2],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "mine.parquet")
    rows = list(read_manifest(tmp_path / "mine.parquet"))
    text = "path,speaker,emotion,stress,fold\na.wav,7,anger,,1\nb.wav,8,,0.5,2\n"
    assert rows == entries(tmp_path, text)


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", b"path,speaker,emotion\n"])
def test_a_manifest_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.parquet"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"mine\.parquet: cannot be read as Parquet") as caught:
        list(read_manifest(path))
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_no_text_is_named(tmp_path: Path) -> None:
    (sounds(tmp_path, ["a.wav"]) / "a.wav").rename(tmp_path / "mine.csv")
    with pytest.raises(TrainingError, match=r"mine\.csv"):
        list(read_manifest(tmp_path / "mine.csv"))
