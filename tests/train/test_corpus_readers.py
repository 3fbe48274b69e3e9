"""Each reader, on folders that are named like the published corpus."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from corpus_folders import crema_d, emo_db, ravdess, savee, sounds, tess, touch, votes

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.corpus import Corpus
from edge_sser.train.corpora.crema_d import CREMA_D
from edge_sser.train.corpora.emo_db import EMO_DB
from edge_sser.train.corpora.index import index, parse_source
from edge_sser.train.corpora.known import KNOWN, recognise
from edge_sser.train.corpora.ravdess import RAVDESS
from edge_sser.train.corpora.report import Finding, FindingKind
from edge_sser.train.corpora.savee import SAVEE
from edge_sser.train.corpora.table import Entry
from edge_sser.train.corpora.tess import TESS

WHOLE = [
    (RAVDESS, ravdess(), 1440, 24),
    (CREMA_D, crema_d(), 7442, 91),
    (TESS, tess(), 2800, 2),
    (SAVEE, savee(flat=True), 480, 4),
    (SAVEE, savee(flat=False), 480, 4),
    (EMO_DB, emo_db(), 535, 10),
]


def read(corpus: Corpus, folder: Path) -> tuple[dict[str, Entry], list[Finding]]:
    findings: list[Finding] = []
    return {entry.clip: entry for entry in corpus.read(folder, findings)}, findings


@pytest.mark.parametrize(("corpus", "names", "clips", "speakers"), WHOLE, ids=lambda value: getattr(value, "name", ""))
def test_a_whole_corpus_is_recognised_and_nothing_is_missing(
    tmp_path: Path, corpus: Corpus, names: list[str], clips: int, speakers: int
) -> None:
    touch(tmp_path, names)
    assert recognise("", tmp_path) is corpus
    entries, findings = read(corpus, tmp_path)
    assert (len(entries), len({entry.speaker for entry in entries.values()})) == (clips, speakers)
    assert Counter(entry.emotion for entry in entries.values()) == corpus.emotions
    assert [finding for finding in findings if "csv" not in finding.text.lower()] == []
    folds = {entry.speaker: entry.fold for entry in entries.values()}
    assert set(folds.values()) == set(range(1, {"ravdess": 6, "crema-d": 5}.get(corpus.name, speakers) + 1))


@pytest.mark.parametrize(
    ("corpus", "name", "expected"),
    [
        (RAVDESS, "Actor_08/03-01-06-02-01-02-08.wav", ("08", "F", "fearful", "strong", 3)),
        (CREMA_D, "1037_IEO_DIS_LO.wav", ("1037", "", "disgust", "low", 3)),
        (CREMA_D, "1040_ITH_SAD_X.wav", ("1040", "", "sad", "", 3)),
        (TESS, "Tess/YAF_pleasant_surprised/YAF_dog_ps.wav", ("YAF", "F", "surprised", "", 2)),
        (TESS, "OAF_Fear/OAF_back_fear.wav", ("OAF", "F", "fearful", "", 1)),
        (TESS, "OA_bite_neutral.wav", ("OAF", "F", "neutral", "", 1)),
        (SAVEE, "ALL/JK_su07.wav", ("JK", "M", "surprised", "", 3)),
        (SAVEE, "AudioData/KL/n30.wav", ("KL", "M", "neutral", "", 4)),
        (EMO_DB, "wav/16b10Lb.wav", ("16", "F", "bored", "", 10)),
        (EMO_DB, "03a01Fa.wav", ("03", "M", "happy", "", 1)),
    ],
)
def test_a_name_gives_speaker_sex_emotion_intensity_and_fold(
    tmp_path: Path, corpus: Corpus, name: str, expected: tuple[str, ...]
) -> None:
    (entry,) = read(corpus, touch(tmp_path, [name]))[0].values()
    assert (entry.speaker, entry.sex, entry.emotion, entry.intensity, entry.fold) == expected


@pytest.mark.parametrize(
    "name",
    [
        "03-02-05-01-01-01-08.wav",  # song
        "03-01-05-01-01-01-25.wav",
        "1092_DFA_ANG_XX.wav",
        "1001_DFA_ANG_XX.avi",
        "XAF_back_angry.wav",
        "a01.wav",
        "04a01Fa.wav",
        "._03a01Fa.wav",
    ],
)
def test_other_names_belong_to_no_corpus(tmp_path: Path, name: str) -> None:
    touch(tmp_path, [name])
    assert all(not read(corpus, tmp_path)[0] for corpus in KNOWN)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    touch(tmp_path, [name for name in ravdess() if "-24.wav" not in name and "Actor_03/03-01-05" not in name])
    findings = [finding.text for finding in read(RAVDESS, tmp_path)[1]]
    assert findings[0] == "no clip of 1 of 24 speakers: 24"
    assert findings[1].startswith("68 clips are not there: 03-01-01-01-01-01-24, ")
    assert "and 60 more" in findings[1]


def test_where_names_follow_no_rule_the_counts_of_each_emotion_tell(tmp_path: Path) -> None:
    missing = {"wav/03a01Wa.wav", "wav/08a02Wa.wav", "wav/09b10La.wav"}
    assert missing < set(emo_db())
    findings = read(EMO_DB, touch(tmp_path, set(emo_db()) - missing))[1]
    assert [finding.text for finding in findings] == ["clips are not there: 2 of 127 angry, 1 of 81 bored"]
    assert findings[0].kind is FindingKind.MISSING


def test_whole_words_that_are_missing_from_tess_are_noticed(tmp_path: Path) -> None:
    findings = read(TESS, touch(tmp_path, [name for name in tess() if "_back_" in name or "_bite_" in name]))[1]
    (finding,) = findings
    assert finding.text.startswith("clips are not there: 396 of 400 angry, ")


def test_a_clip_that_is_there_twice_is_read_once_from_the_better_file(tmp_path: Path) -> None:
    names = crema_d()
    touch(tmp_path, names)
    touch(tmp_path, [name.replace("AudioWAV", "AudioMP3").replace(".wav", ".mp3") for name in names])
    entries, findings = read(CREMA_D, tmp_path)
    assert len(entries) == 7442
    assert {entry.path.suffix for entry in entries.values()} == {".wav"}
    double = next(finding for finding in findings if finding.kind is FindingKind.DOUBLE)
    assert double.text.startswith("7442 further files")


def test_more_clips_than_were_published_are_odd(tmp_path: Path) -> None:
    touch(tmp_path, [*emo_db(), "wav/03a99Wa.wav"])
    findings = read(EMO_DB, tmp_path)[1]
    assert [finding.kind for finding in findings] == [FindingKind.ODD]
    assert "536 clips, more than the published 535" in findings[0].text


def crema_d_folder(folder: Path) -> Path:
    sounds(folder / "AudioWAV", ["1001_DFA_ANG_XX.wav", "1002_IEO_FEA_HI.wav", "1040_ITH_SAD_X.wav"])
    demographics = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","a","b"\n1002,21,"Female","a","b"\n'
    (folder / "VideoDemographics.csv").write_text(demographics, encoding="utf-8")
    (folder / "processedResults").mkdir()
    table = votes(
        [
            ("100062", "1001_DFA_ANG_XX", (6, 2, 0, 0, 1, 0)),
            ("100100", "1002_IEO_FEA_HI", (0, 0, 0, 0, 0, 0)),
            ("103213", "1040_ITH_SAD_XX", (0, 0, 2, 0, 1, 7)),
            ("200062", "1001_DFA_ANG_XX", (0, 9, 0, 0, 0, 0)),
            ("300062", "1001_DFA_ANG_XX", (0, 0, 0, 9, 0, 0)),
        ]
    )
    (folder / "processedResults" / "tabulatedVotes.csv").write_text(table, encoding="utf-8")
    return folder


@pytest.mark.parametrize("given", ["", "AudioWAV"])
def test_crema_d_takes_the_votes_on_the_voice_alone_and_the_actors_sex(tmp_path: Path, given: str) -> None:
    entries, _ = read(CREMA_D, crema_d_folder(tmp_path) / given)
    first = entries["1001_DFA_ANG_XX"]
    assert first.soft == pytest.approx({"angry": 6 / 9, "disgust": 2 / 9, "neutral": 1 / 9})
    assert (first.sex, first.emotion) == ("M", "angry")
    assert entries["1002_IEO_FEA_HI"].soft == {}
    assert entries["1002_IEO_FEA_HI"].sex == "F"
    assert entries["1040_ITH_SAD_XX"].soft == pytest.approx({"fearful": 0.2, "neutral": 0.1, "sad": 0.7})


def test_crema_d_without_its_tables_says_what_that_costs(tmp_path: Path) -> None:
    found = index([parse_source(str(sounds(tmp_path / "clips", ["1001_DFA_ANG_XX.wav"])))])
    texts = [finding.text for finding in found.findings if finding.kind is FindingKind.MISSING]
    assert any("VideoDemographics.csv is not there: the actors' sex" in text for text in texts)
    assert any("tabulatedVotes.csv is not there: there are no soft labels" in text for text in texts)
    assert (found.utterances[0].corpus, found.utterances[0].soft) == ("crema-d", {})


@pytest.mark.parametrize(("old", "new"), [('"fileName"', '"file"'), ("6,2", "x,2")])
def test_a_table_of_votes_that_is_not_understood_is_named(tmp_path: Path, old: str, new: str) -> None:
    path = crema_d_folder(tmp_path) / "processedResults" / "tabulatedVotes.csv"
    path.write_text(path.read_text("utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(TrainingError, match=r"tabulatedVotes\.csv"):
        read(CREMA_D, tmp_path)


def test_three_levels_of_load_are_read_from_besst_lists(tmp_path: Path) -> None:
    sounds(tmp_path, ["audio/7/close_talk.wav", "audio/8/close_talk.wav"], seconds=4.0)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.scp").write_text(
        "7;21;0;1500;ABC Č;R2_0;Rebus;5.0;0.5;1\n8;5;500;2000;X;R4_5;Rebus;6.0;0.5;3\n", "utf-8"
    )
    (lists / "test.scp").write_text(
        "7;22;1500;3250;D;R3_1;Rebus;5.0;0.5;2\n7;21;0;1500;ABC;R2_0;Rebus;5.0;0.5;1\n", "utf-8"
    )
    found = index([parse_source(str(tmp_path))])
    assert [(row.corpus, row.speaker, row.stress, row.duration_s) for row in found.utterances] == [
        ("besst", "7", 0.5, 1.75),
        ("besst", "7", 0.0, 1.5),
        ("besst", "8", 1.0, 1.5),
    ]
    assert len({row.sha256 for row in found.utterances}) == 3
    assert {row.speaker: row.fold for row in found.utterances} == {"7": 1, "8": 2}


@pytest.mark.parametrize("name", ["", "besst", "mine"])
def test_besst_without_its_lists_says_what_to_fetch(tmp_path: Path, name: str) -> None:
    sounds(tmp_path, ["audio/7/close_talk.wav"], seconds=4.0)
    with pytest.raises(TrainingError, match=r"no list of BESST's segments \(\*\.scp\): put those"):
        index([(name, tmp_path)])


def test_a_known_name_is_insisted_on(tmp_path: Path) -> None:
    sounds(tmp_path, ["DC/a01.wav", "KL/sa02.wav"], seconds=1.0)
    (tmp_path / "wav.scp").write_text("a01 DC/a01.wav\n", encoding="utf-8")
    assert {row.corpus for row in index([("savee", tmp_path)]).utterances} == {"savee"}
    (tmp_path / "wav.scp").unlink()
    with pytest.raises(TrainingError, match="no list of BESST's segments"):
        index([("besst", tmp_path)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7;21;0;1500;ABC;R2_0;Rebus;5.0;0.5;4\n", "load 1 to 3"),
        ("7;21;0;1500;ABC;R2_0;Rebus;5.0;0.5;2\n", "another load"),
    ],
)
def test_a_besst_list_that_is_not_understood_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.scp").write_text("7;21;0;1500;ABC;R2_0;Rebus;5.0;0.5;1\n", encoding="utf-8")
    (tmp_path / "b.scp").write_text(line, encoding="utf-8")
    with pytest.raises(TrainingError, match=r"b\.scp, line 1") as caught:
        index([("besst", tmp_path)])
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("given", "files", "message"),
    [
        ("", [], "no audio file: give a folder of a known corpus, or a manifest"),
        ("tess", [], "no audio file: unpack the archive of doi:10.5683/SP2/E8H2MF there"),
        ("", ["Audio_Speech_Actors_01-24.zip"], "only Audio_Speech_Actors_01-24.zip: unpack it there"),
        ("", ["song.wav"], "none of its 1 audio files is named like 03-01-05-02-01-01-12.wav, 1001_DFA_ANG_XX.wav"),
        ("emodb", ["song.wav"], "none of its 1 audio files is named like 03a01Fa.wav: unpack"),
        (
            "cremad",
            ["DC_a01.wav", "DC_a02.wav"],
            "no file is named like CREMA-D (1001_DFA_ANG_XX.wav), but 2 like SAVEE",
        ),
    ],
)
def test_a_folder_that_is_empty_packed_or_of_another_corpus_is_refused(
    tmp_path: Path, given: str, files: list[str], message: str
) -> None:
    touch(tmp_path, files)
    with pytest.raises(TrainingError) as caught:
        recognise(given, tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_corpus_half_unpacked_is_read_as_far_as_it_goes_and_says_so(toy_corpus: Path, tmp_path: Path) -> None:
    for path in sorted(toy_corpus.glob("*-01.flac"))[:3]:
        shutil.copy(path, tmp_path)
    found = index([("ravdess", tmp_path)])
    assert len(found.utterances) == 3
    assert found.clips == {"ravdess": (3, 1440)}
    assert any(str(finding).startswith("ravdess: missing: 1437 clips are not there") for finding in found.findings)
