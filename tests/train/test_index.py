from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_folders import RATE, sounds

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.folds import check_disjoint, split
from edge_sser.train.corpora.index import Index, IndexOptions, index
from edge_sser.train.corpora.report import Finding, FindingKind, summary_lines
from edge_sser.train.corpora.table import COLUMNS, Utterance, read_table, write_table
from edge_sser.train.data.audio import read_audio


def manifest(folder: Path, text: str) -> Path:
    sounds(folder, ("a.wav", "b.wav", "c.wav"), seconds=1.5)
    path = folder / "mine.csv"
    path.write_text("path,speaker,emotion" + text, encoding="utf-8")
    return path


def findings(found: Index) -> list[tuple[FindingKind, str]]:
    return [(finding.kind, finding.text) for finding in found.findings]


def test_duration_level_and_labels_reach_the_table(toy_corpus: Path) -> None:
    rows = {Path(row.path).stem: row for row in index([("ravdess", toy_corpus)]).utterances}
    row = rows["03-01-05-01-02-01-08"]
    assert (row.speaker, row.sex, row.emotion, row.intensity, row.fold) == ("08", "F", "angry", "normal", 3)
    samples = soundfile.read(row.path)[0]
    assert row.duration_s == pytest.approx(samples.size / RATE, abs=1e-4)
    assert row.level_dbfs == pytest.approx(20 * np.log10(np.sqrt(np.mean(samples**2))), abs=0.01)
    assert len(rows) == 48


def test_a_part_of_a_recording_is_measured_alone(tmp_path: Path) -> None:
    sounds(tmp_path, ["long.wav"], seconds=90.0)
    path = tmp_path / "mine.csv"
    path.write_text("path,speaker,emotion,start_s,end_s\nlong.wav,1,calm,80.5,82.25\nlong.wav,2,calm,1,2\n", "utf-8")
    row = index([("mine", path)]).utterances[0]
    assert row.duration_s == 1.75
    whole = soundfile.read(tmp_path / "long.wav", dtype="float32")[0]
    assert np.array_equal(read_audio(row.path), whole[round(80.5 * RATE) : round(82.25 * RATE)])


def lfs(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: soundfile.write(path, np.full(160, 0.1), RATE), "0.01 s long, expected 0.25 to 60 s"),
        (lambda path: soundfile.write(path, np.zeros(3600 * 800), 800, format="FLAC"), "3600.00 s long, expected"),
        (lambda path: soundfile.write(path, np.zeros(RATE), RATE), "silent (-120 dBFS)"),
        (lambda path: soundfile.write(path, np.resize([1, -1], RATE).astype(np.int16), RATE), "silent (-90 dBFS)"),
        (lambda path: path.write_bytes(b"RIFF and then nothing"), "cannot be read as audio"),
        (lambda path: path.write_bytes(b""), "cannot be read as audio"),
        (lfs, "is a pointer of Git LFS, not audio: run git lfs pull"),
        (lambda path: soundfile.write(path, np.full(RATE, np.nan), RATE, "FLOAT"), "not numbers"),
        (lambda path: None, "cannot be read as audio"),
    ],
    ids=["10 ms", "an hour", "zeros", "converter noise", "torn", "empty", "lfs", "nan", "missing"],
)
def test_a_recording_that_cannot_be_used_is_left_out_and_named(tmp_path: Path, make: object, message: str) -> None:
    path = manifest(tmp_path, "\na.wav,ann,angry\nodd.wav,bob,calm\nb.wav,bob,calm\n")
    make(tmp_path / "odd.wav")  # type: ignore[operator]
    found = index([("mine", path)])
    assert [Path(row.path).name for row in found.utterances] == ["a.wav", "b.wav"]
    ((kind, text),) = findings(found)
    assert kind is FindingKind.ODD
    assert "odd.wav" in text
    assert message in text
    assert "\n" not in text


def test_a_corpus_of_which_nothing_can_be_used_stops(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("path,speaker,emotion\nnone.wav,ann,angry\n", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"mine\.csv: none of its recordings can be used: .*none\.wav"):
        index([("mine", path)])
    path.write_text("path,speaker,emotion\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="it is empty"):
        index([("mine", path)])


def test_a_double_is_left_out_whatever_its_container(tmp_path: Path) -> None:
    path = manifest(tmp_path, "\na.wav,ann,angry\ndouble.flac,ann,angry\n")
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    soundfile.write(tmp_path / "double.flac", samples, rate)
    found = index([("mine", path)])
    assert [Path(row.path).name for row in found.utterances] == ["a.wav"]
    assert findings(found) == [(FindingKind.DOUBLE, f"{tmp_path}/double.flac: the same recording as {tmp_path}/a.wav")]


@pytest.mark.parametrize("labels", ["ann,sad", "bob,angry"])
def test_of_contradictory_doubles_none_is_used(tmp_path: Path, labels: str) -> None:
    path = manifest(tmp_path, f"\na.wav,ann,angry\ntwice.wav,{labels}\nagain.wav,ann,angry\nb.wav,bob,calm\n")
    for name in ("twice.wav", "again.wav"):
        (tmp_path / name).write_bytes((tmp_path / "a.wav").read_bytes())
    found = index([("mine", path)])
    assert [Path(row.path).name for row in found.utterances] == ["b.wav"]
    ((kind, text),) = findings(found)
    assert kind is FindingKind.CONTRADICTORY
    assert "twice.wav is the same recording as" in text


def two_corpora(folder: Path, first: str, second: str) -> list[tuple[str, Path]]:
    one, two = folder / "one", folder / "two"
    for place, text, names in ((one, first, ("a.wav", "b.wav")), (two, second, ("c.wav", "d.wav"))):
        sounds(place, names)
        (place / "m.csv").write_text("path,speaker,emotion,fold\n" + text, encoding="utf-8")
    return [("one", one / "m.csv"), ("two", two / "m.csv")]


def test_a_double_in_another_corpus_is_no_contradiction_and_tells_of_one_person(tmp_path: Path) -> None:
    sources = two_corpora(tmp_path, "a.wav,ann,angry,\nb.wav,bob,calm,\n", "c.wav,x1,unlabelled,\nd.wav,x2,sad,\n")
    (tmp_path / "two" / "c.wav").write_bytes((tmp_path / "one" / "a.wav").read_bytes())
    found = index(sources)
    assert [(row.corpus, row.speaker) for row in found.utterances] == [("one", "ann"), ("one", "bob"), ("two", "x2")]
    assert findings(found)[0][1].endswith("if the speaker is one person, say so: --same-person one/ann=two/x1")


def test_one_person_in_two_corpora_gets_one_fold(tmp_path: Path) -> None:
    sources = two_corpora(tmp_path, "a.wav,ann,angry,\nb.wav,bob,calm,\n", "c.wav,x1,angry,\nd.wav,x2,sad,\n")
    rows = index(sources, options=IndexOptions(same=[("two/x1", "one/bob")])).utterances
    fold = {(row.corpus, row.speaker): row.fold for row in rows}
    assert fold["one", "bob"] == fold["two", "x1"] == 2
    assert fold["one", "ann"] == fold["two", "x2"] == 1
    assert {row.person for row in rows if row.speaker in ("bob", "x1")} == {"two/x1"}
    first, second = two_corpora(
        tmp_path / "folds", "a.wav,ann,angry,\nb.wav,bob,calm,\n", "c.wav,x1,angry,2\nd.wav,x2,sad,1\n"
    )
    for order in ([first, second], [second, first]):  # whoever brings folds keeps them
        found = index(order, options=IndexOptions(same=[("two/x1", "one/ann")])).utterances
        assert {(row.speaker, row.fold) for row in found} == {("ann", 2), ("bob", 1), ("x1", 2), ("x2", 1)}
    with pytest.raises(TrainingError, match="who is bob of one"):
        check_disjoint([row for row in rows if row.corpus == "one"], [row for row in rows if row.corpus == "two"])


def test_one_person_in_two_given_folds_stops_unless_they_are_dealt_anew(tmp_path: Path) -> None:
    sources = two_corpora(tmp_path, "a.wav,ann,angry,1\nb.wav,bob,calm,2\n", "c.wav,x1,angry,1\nd.wav,x2,sad,2\n")
    same = [("one/bob", "two/x1")]
    with pytest.raises(TrainingError, match="speaker x1 of two, who is bob of one, stands in fold 1 and in fold 2"):
        index(sources, options=IndexOptions(same=same))
    fold = {row.speaker: row.fold for row in index(sources, options=IndexOptions(same=same, folds=2)).utterances}
    assert fold["bob"] == fold["x1"]
    with pytest.raises(TrainingError, match="no clip is by two/x9"):
        index(sources, options=IndexOptions(same=[("one/bob", "two/x9")]))


def test_a_speaker_in_two_folds_stops(tmp_path: Path) -> None:
    path = manifest(tmp_path, ",fold\na.wav,ann,angry,1\nb.wav,ann,calm,2\nc.wav,bob,calm,2\n")
    with pytest.raises(TrainingError, match="speaker ann of mine stands in fold 2 and in fold 1"):
        index([("mine", path)])
    assert len({row.fold for row in index([("mine", path)], options=IndexOptions(folds=5)).utterances}) == 2


def test_a_corpus_that_names_folds_names_all(tmp_path: Path) -> None:
    path = manifest(tmp_path, ",fold\na.wav,ann,angry,1\nb.wav,bob,calm,\n")
    with pytest.raises(TrainingError, match=r"b\.wav: it has no fold"):
        index([("mine", path)])


def test_folds_made_here_keep_speakers_apart_and_are_even_in_clips_and_sex(tmp_path: Path) -> None:
    sounds(tmp_path, [f"{number}.wav" for number in range(48)])
    lines = [f"{n}.wav,speaker{n % 12},calm,{'FM'[n % 12 // 6]}" for n in range(48)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["path,speaker,emotion,sex", *lines]), encoding="utf-8")
    rows = index([("mine", path)], options=IndexOptions(folds=3)).utterances
    assert {row.fold for row in rows} == {1, 2, 3}
    for fold in (1, 2, 3):
        training, test = split(rows, fold)
        assert not {row.speaker for row in training} & {row.speaker for row in test}
        assert (len(training), len(test)) == (32, 16)
        assert sum(row.sex == "F" for row in test) == 8


def test_the_leak_gate_stops_a_shared_speaker_and_a_shared_recording(toy_table: Path) -> None:
    rows = read_table(toy_table)
    training, test = split(rows, 1)
    with pytest.raises(TrainingError, match="speaker"):
        check_disjoint(training, [replace(training[0], sha256="new")])
    with pytest.raises(TrainingError, match="the same recording"):
        check_disjoint(training, [replace(test[0], sha256=training[0].sha256)])


def test_long_lists_of_findings_are_cut_short() -> None:
    many = [Finding(FindingKind.ODD, "mine", str(number)) for number in range(30)]
    lines = list(summary_lines([*many, Finding(FindingKind.DOUBLE, "mine", "x")], 2))
    assert lines == ["mine: odd: 0", "mine: odd: 1", "mine: odd: and 28 more", "mine: double: x"]


def full() -> Utterance:
    return Utterance(
        path="/x/a, b.wav#t=1.000,2.000", corpus="mine", speaker="ann", person="one/ann", sex="F", emotion="angry",
        soft={"angry": 0.75, "neutral": 0.25}, intensity="low", stress=0.5, arousal=0.25, valence=1.0, fold=3,
        duration_s=1.0, level_dbfs=-20.5, sha256="ab", fingerprint=b"\x00\xff\n,", statement="Kids, \"too\"",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["again.csv", "again.parquet"])
def test_a_table_survives_writing_and_reading(toy_table: Path, tmp_path: Path, name: str) -> None:
    rows = [*read_table(toy_table), full()]
    write_table(tmp_path / name, rows)
    assert list(read_table(tmp_path / name)) == rows
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_table_of_an_older_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    header = "path,corpus,speaker,sex,emotion,intensity,fold,duration_s,sha256"
    path.write_text(f"{header}\na.wav,ravdess,01,M,angry,strong,1,3.5,ab\n", encoding="utf-8")
    (row,) = read_table(path)
    assert (row.emotion, row.fold, row.soft, row.stress, row.level_dbfs, row.fingerprint) == (
        "angry",
        1,
        {},
        None,
        None,
        b"",
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("foreign.csv", b"a,b\n1,2\n"),
        ("missing.csv", None),
        ("missing.parquet", None),
        ("torn.parquet", b"PAR1"),
        ("empty.csv", ",".join(COLUMNS).encode() + b"\n"),
        ("bad.csv", ",".join(COLUMNS).encode() + b"\na,c,s,,F,calm,,,7,,,1,1.0,,x,,\n"),
        ("worse.csv", ",".join(COLUMNS).encode() + b"\na,c,s,,F,calm,,,,,,one,1.0,,x,,\n"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match="train index") as caught:
        read_table(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_cut_short_is_refused(toy_table: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.parquet"
    write_table(path, read_table(toy_table))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"cut\.parquet: not Parquet"):
        read_table(path)


@pytest.mark.parametrize("name", ["taken.csv", "taken.parquet", "file/table.csv"])
def test_a_table_that_cannot_be_written_is_named_and_leaves_nothing_behind(
    toy_table: Path, tmp_path: Path, name: str
) -> None:
    for folder in ("taken.csv", "taken.parquet"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written"):
        write_table(tmp_path / name, read_table(toy_table))
    assert list(tmp_path.rglob("*.part")) == []
