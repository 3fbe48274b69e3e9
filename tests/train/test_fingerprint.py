"""Altered copies of a recording are recognised, and recordings of different people are not taken for copies."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from components import require
from scipy import signal
from voices import RATE

from edge_sser.errors import TrainingError
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.fingerprint import LANDMARKS, SHARED_VOICES, TWIN_LANDMARKS, fingerprint, twins
from edge_sser.train.corpora.folds import check_disjoint, split
from edge_sser.train.corpora.index import IndexOptions, index
from edge_sser.train.corpora.report import FindingKind
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio

Alter = Callable[[np.ndarray], np.ndarray]


def utterance(name: str, samples: np.ndarray, *, fold: int = 1) -> Utterance:
    return Utterance(
        path=name, corpus="mine", speaker=name, sex="", emotion="calm", intensity="", fold=fold, duration_s=1.0,
        sha256=name, fingerprint=fingerprint(log_mel(samples.astype(np.float32))),
    )  # fmt: skip


def noise(samples: np.ndarray, snr_db: float) -> np.ndarray:
    random = np.random.default_rng(0).standard_normal(samples.size)
    return samples + random * np.sqrt(np.mean(samples**2)) * 10 ** (-snr_db / 20)


def telephone(samples: np.ndarray) -> np.ndarray:
    return signal.sosfilt(signal.butter(4, (300, 3400), "bandpass", fs=RATE, output="sos"), samples)


@pytest.fixture(scope="module")
def sentences(speech: Path) -> list[np.ndarray]:
    """Four pieces of the recording that ships, 3 s each."""
    samples = read_audio(speech)
    return [samples[start * RATE : (start + 3) * RATE].astype(np.float64) for start in (1, 8, 16, 24)]


@pytest.mark.parametrize(
    "alter",
    [
        lambda samples: 0.25 * samples,
        lambda samples: noise(samples, 20),
        lambda samples: noise(samples, 10),
        lambda samples: np.concatenate([np.full(1_637, 1e-4), samples]),
        lambda samples: samples[1_637:],
        telephone,
        lambda samples: noise(telephone(samples[1_000:]), 20) * 2,
    ],
    ids=["gain", "noise at 20 dB", "noise at 10 dB", "later", "earlier", "telephone", "all at once"],
)
def test_an_altered_copy_is_a_twin(sentences: list[np.ndarray], alter: Alter) -> None:
    originals = [utterance(f"original{number}", samples) for number, samples in enumerate(sentences)]
    copies = [utterance(f"copy{number}", alter(samples)) for number, samples in enumerate(sentences)]
    assert twins([*originals, *copies]) == [(number, number + 4) for number in range(4)]


def test_a_speakers_own_copies_are_no_leak(sentences: list[np.ndarray]) -> None:
    one = utterance("ann", sentences[0])
    assert twins([one, replace(one, sha256="x")]) == []
    elsewhere = replace(one, corpus="two", speaker="x1")
    assert twins([one, elsewhere]) == [(0, 1)]
    assert twins([one, replace(elsewhere, person="mine/ann")]) == []


def test_what_many_voices_share_is_of_the_room_and_makes_no_twins(sentences: list[np.ndarray]) -> None:
    row = utterance("ann", sentences[0])
    shared = np.frombuffer(row.fingerprint, "<u4")[: 2 * TWIN_LANDMARKS]

    def recordings(voices: int) -> list[Utterance]:
        own = np.arange(voices * 50, dtype="<u4").reshape(voices, 50)
        prints = [np.concatenate([shared, marks]).tobytes() for marks in own]
        return [replace(row, speaker=str(number), fingerprint=mark) for number, mark in enumerate(prints)]

    assert twins(recordings(SHARED_VOICES)) != []
    assert twins(recordings(SHARED_VOICES + 1)) == []


def test_a_fingerprint_is_small_and_silence_has_none(sentences: list[np.ndarray]) -> None:
    long = np.concatenate(sentences * 5)
    assert len(fingerprint(log_mel(long.astype(np.float32)))) == 4 * LANDMARKS
    assert len(fingerprint(log_mel(np.zeros(RATE, dtype=np.float32)))) == 0
    assert twins([]) == []


@pytest.fixture
def leaking(tmp_path: Path, sentences: list[np.ndarray]) -> Path:
    """A manifest in which one of bob's recordings is one of ann's, made noisier, louder and later."""
    lines = ["path,speaker,emotion"]
    for number, samples in enumerate(sentences):
        soundfile.write(tmp_path / f"{number}.wav", 0.3 * samples, RATE)
        lines.append(f"{number}.wav,{('ann', 'bob')[number % 2]},calm")
    soundfile.write(tmp_path / "copy.wav", np.roll(noise(0.6 * sentences[0], 20), 800), RATE)
    lines.append("copy.wav,bob,calm")
    (tmp_path / "mine.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "mine.csv"


def test_an_altered_copy_in_another_fold_stops_the_index_or_is_left_out(leaking: Path) -> None:
    with pytest.raises(TrainingError, match=r"copy\.wav is an altered copy of .*0\.wav .* --drop-twins"):
        index([("mine", leaking)])
    found = index([("mine", leaking)], options=IndexOptions(drop_twins=True))
    assert [Path(row.path).name for row in found.utterances] == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert [finding.kind for finding in found.findings] == [FindingKind.TWIN]


def test_the_leak_gate_stops_a_run_on_an_altered_copy(leaking: Path) -> None:
    rows = index([("mine", leaking)], options=IndexOptions(same=[("mine/ann", "mine/bob")])).utterances
    apart = [replace(row, person="", fold=1 + (row.speaker == "bob")) for row in rows]
    with pytest.raises(TrainingError, match=r"copy\.wav is an altered copy of .*0\.wav|0\.wav is an altered copy"):
        split(apart, 1)
    check_disjoint(
        [row for row in apart if row.fold == 1], [row for row in apart if row.fold == 2 and "copy" not in row.path]
    )


@pytest.mark.shared_data
def test_no_two_actors_are_taken_for_copies_though_they_say_the_same_sentences() -> None:
    data = Path(os.environ.get("EDGE_SSER_DATA", ""))
    require((data / "ravdess.csv").is_file(), "the development recordings are not there: set EDGE_SSER_DATA")
    with (data / "ravdess.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["emotion"] in ("angry", "calm", "neutral")]
    clips = [replace(utterance(row["path"], read_audio(data / row["path"])), speaker=row["speaker"]) for row in rows]
    assert len(clips) == 480
    assert twins(clips) == []
