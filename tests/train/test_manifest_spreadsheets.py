"""Manifests as spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.manifest import read_manifest
from edge_sser.train.corpora.table import Entry

PLAIN = "path,speaker,stress\na.wav,ann,0.25\nb.wav,bob,0.75\n"


def entries(folder: Path, content: bytes) -> list[Entry]:
    path = folder / "mine.csv"
    path.write_bytes(content)
    return list(read_manifest(path))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", ";").replace(".25", ",25").replace(".75", ",75").encode(),
        PLAIN.replace(",", "\t").replace(".25", ",25").encode(),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.replace(",", "\t").replace("\n", "\r\n").encode("utf-16"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        PLAIN.replace("path,speaker,stress", "Path,SPEAKER,Stress").encode(),
        PLAIN.replace(",", ", ").replace("path", " path ").encode(),
        PLAIN.encode() + b",,\n , ,\n\n,,\n",
        ("\n\n" + PLAIN).encode(),
        ("sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n")).encode("utf-8-sig"),
        PLAIN.replace("a.wav", '"a.wav"').encode(),
        PLAIN.replace("path,", "path,,").replace(".wav,", ".wav,,").encode(),
    ],
)
def test_what_spreadsheets_make_of_a_manifest_is_read(tmp_path: Path, content: bytes) -> None:
    found = [(row.path.name, row.speaker, row.stress) for row in entries(tmp_path, content)]
    assert found == [("a.wav", "ann", 0.25), ("b.wav", "bob", 0.75)]


def test_a_quoted_decimal_comma_between_commas_is_a_number(tmp_path: Path) -> None:
    (row,) = entries(tmp_path, b'path,speaker,stress\na.wav,ann,"0,5"\n')
    assert row.stress == 0.5


def test_backslashes_of_windows_separate_folders(tmp_path: Path) -> None:
    (row,) = entries(tmp_path, b"path,speaker,stress\n.\\calls\\a.wav,ann,1\n")
    assert row.path == (tmp_path / "calls" / "a.wav").resolve()


def test_a_backslash_in_the_name_of_a_file_that_exists_stays(tmp_path: Path) -> None:
    (tmp_path / "a\\b.wav").touch()
    (row,) = entries(tmp_path, b"path,speaker,stress\na\\b.wav,ann,1\n")
    assert row.path == (tmp_path / "a\\b.wav").resolve()


def test_backslashes_do_not_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="leaves the manifest's folder"):
        entries(tmp_path, b"path,speaker,stress\n..\\..\\a.wav,ann,1\n")


@pytest.mark.parametrize("before", ["", "sep=,\n", "\n"])
def test_errors_name_the_line_of_the_file(tmp_path: Path, before: str) -> None:
    with pytest.raises(TrainingError, match=f"line {3 + before.count(chr(10))}: stress 'much'"):
        entries(tmp_path, (before + PLAIN.replace("0.75", "much")).encode())


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="two columns stress"):
        entries(tmp_path, b"path,speaker,stress,Stress\na.wav,ann,1,0\n")


def test_a_file_without_columns_says_how_they_are_separated(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="separated by comma, semicolon or tab"):
        entries(tmp_path, b"path|speaker|stress\na.wav|ann|1\n")
