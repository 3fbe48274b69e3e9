"""A manifest guessed from the names of folders and files."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_train_cli import edge_sser

from edge_sser.errors import EdgeSserError
from edge_sser.train.corpora.guess import Guess, by_pattern, guess, make_manifest
from edge_sser.train.corpora.manifest import read_manifest


def rows(found: Guess) -> list[tuple[str, str]]:
    return [(row.speaker, row.emotion or row.stress) for row in found.rows]


def test_a_folder_for_each_speaker_and_one_for_each_emotion_in_any_order() -> None:
    assert rows(guess(["ann/Anger/1.wav", "bob/neutral/1.wav"])) == [("ann", "angry"), ("bob", "neutral")]
    assert rows(guess(["Anger/ann/1.wav", "neutral/bob/1.wav"])) == [("ann", "angry"), ("bob", "neutral")]
    assert rows(guess(["data/ann/1_ang.wav", "data/bob/2_neu.wav"])) == [("ann", "angry"), ("bob", "neutral")]


def test_flat_names_begin_with_the_speaker() -> None:
    found = guess(["es01_angry_01.wav", "es02_sad_03.flac", "es02_stressed.wav", "es02_relaxed.wav", "es02_hello.wav"])
    assert rows(found) == [("es01", "angry"), ("es02", "sad"), ("es02", "1"), ("es02", "0")]
    assert found.odd == ["es02_hello.wav"]


def test_a_word_within_another_is_no_label_and_the_file_speaks_before_its_folder() -> None:
    assert guess(["ann/language-01.wav"]).odd == ["ann/language-01.wav"]
    assert rows(guess(["neutral/ann/a-sad.wav", "neutral/bob/b.wav"])) == [("ann", "sad"), ("bob", "neutral")]


def test_a_name_that_begins_with_the_emotion_gives_no_speaker() -> None:
    assert guess(["angry_01.wav"]).odd == ["angry_01.wav"]


def test_a_pattern_names_the_groups() -> None:
    pattern = r"(?P<emotion>[a-z]+)-(?P<speaker>\d+)\."
    assert rows(by_pattern(["x/anger-07.wav", "x/sad-08.wav", "x/odd-09.wav"], pattern)) == [
        ("07", "angry"),
        ("08", "sad"),
    ]
    for wrong, message in (("(", "not a regular expression"), ("(?P<speaker>a)", "expected the groups")):
        with pytest.raises(EdgeSserError, match=message):
            by_pattern(["a"], wrong)


def test_hidden_files_are_no_recordings(tmp_path: Path) -> None:
    for name in ("anna/angry.wav", "ben/calm.wav", "anna/._angry.wav", ".trash/old_angry.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert sorted(row.path for row in make_manifest(tmp_path, tmp_path / "manifest.csv").rows) == [
        "anna/angry.wav",
        "ben/calm.wav",
    ]


def test_the_command_writes_what_the_index_reads_and_says_what_it_guessed(tmp_path: Path) -> None:
    for name in ("ann/anger/1.wav", "ann/calm/1.wav", "=bob/fear/1.wav", "=bob/unknown/1.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    said = edge_sser("train", "manifest", tmp_path).stdout
    assert "3 recordings" in said
    assert "labels: angry 1, calm 1, fearful 1" in said
    assert "speakers: 2 (=bob, ann)" in said
    assert "files left out, as they are not understood: 1, for example =bob/unknown/1.wav" in said
    entries = list(read_manifest(tmp_path / "manifest.csv"))
    assert {(entry.speaker, entry.emotion) for entry in entries} >= {("ann", "angry"), ("ann", "calm")}
    assert all(entry.path.exists() for entry in entries)


def test_folders_that_say_nothing_are_refused(tmp_path: Path) -> None:
    for folder, message in ((tmp_path / "none", "no such folder"), (tmp_path, "no recordings in it")):
        with pytest.raises(EdgeSserError, match=message):
            make_manifest(folder, folder / "manifest.csv")
    (tmp_path / "1.wav").touch()
    with pytest.raises(EdgeSserError, match="none of the 1 names gives a speaker and an emotion"):
        make_manifest(tmp_path, tmp_path / "manifest.csv")
    with pytest.raises(EdgeSserError, match="whose recordings it names"):
        make_manifest(tmp_path, tmp_path.parent / "manifest.csv")
    assert not (tmp_path / "manifest.csv").exists()
