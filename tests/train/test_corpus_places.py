"""Places where a corpus may lie: below hidden folders, behind links, in loops."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_folders import sounds

from edge_sser.train.corpora.corpus import audio_files
from edge_sser.train.corpora.index import index
from edge_sser.train.data.waveform import recordings

NAMES = [f"Actor_{actor}/03-01-{emotion}-01-01-01-{actor}.wav" for actor in ("01", "02") for emotion in ("01", "05")]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / ".data" / "ravdess"
    sounds(folder, NAMES, seconds=1.0)
    return folder


def test_a_corpus_below_a_hidden_folder_is_read(corpus: Path) -> None:
    assert len(index([("", corpus)]).utterances) == 4
    assert len(recordings(corpus)) == 4


def test_hidden_files_in_a_corpus_are_not(corpus: Path) -> None:
    sounds(corpus, ["Actor_01/._a.wav", ".trash/b.wav", "__MACOSX/c.wav"], seconds=1.0)
    assert [str(path.relative_to(corpus)) for path in audio_files(corpus)] == NAMES


def test_folders_behind_links_are_read(corpus: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for actor in ("Actor_01", "Actor_02"):
        (linked / actor).symlink_to(corpus / actor)
    assert len(index([("", linked)]).utterances) == 4
    assert len(recordings(linked)) == 4


def test_a_loop_of_links_is_read_once(corpus: Path) -> None:
    (corpus / "Actor_01" / "again").symlink_to(corpus)
    (corpus / "Actor_02" / "gone.wav").symlink_to(corpus / "nowhere")
    assert [str(path.relative_to(corpus)) for path in audio_files(corpus)] == NAMES
