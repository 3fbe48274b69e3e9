"""The pictures: that they are drawn, and that what is drawn is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import fft
from voices import RATE

from edge_sser.errors import SinkError, SourceError, TrainingError
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.labels import read_preset
from edge_sser.train.explore import PITCH_CLASSES, _Colours, chroma, draw_clip, draw_table, mfcc, spectrogram_db

matplotlib = pytest.importorskip("matplotlib", reason='pip install "edge-sser[plot]"')
PNG = b"\x89PNG\r\n\x1a\n"


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize(("hertz", "name"), [(220.0, "A"), (440.0, "A"), (880.0, "A"), (261.63, "C"), (1108.73, "C#")])
def test_chroma_is_the_pitch_class_in_every_octave(hertz: float, name: str) -> None:
    folded = chroma(tone(hertz))
    assert folded.shape[0] == 12
    middle = folded[:, folded.shape[1] // 2]
    assert PITCH_CLASSES[int(middle.argmax())] == name
    assert middle.max() == pytest.approx(1.0)


def test_mfcc_undone_gives_the_features_back() -> None:
    features = log_mel(tone(500.0))
    coefficients = mfcc(features, features.shape[1])
    assert fft.idct(coefficients.T, type=2, norm="ortho", axis=1) == pytest.approx(features, abs=1e-3)


def test_the_spectrogram_of_a_tone_is_highest_at_the_tone_and_reads_its_level() -> None:
    power = spectrogram_db(tone(1_000.0))
    middle = power[:, power.shape[1] // 2]
    assert middle.argmax() * RATE / 512 == pytest.approx(1_000.0, abs=16)
    assert middle.max() == pytest.approx(20 * np.log10(0.25), abs=0.5)  # half of the amplitude is at -1000 Hz


def test_a_clip_is_drawn(speech: Path, tmp_path: Path) -> None:
    path = draw_clip(speech, tmp_path)
    assert path == tmp_path / "demo.png"
    assert path.read_bytes().startswith(PNG)


def test_a_clip_too_short_or_torn_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(160), RATE)
    with pytest.raises(SourceError, match=r"short\.wav: 0\.010 s long"):
        draw_clip(tmp_path / "short.wav", tmp_path)
    (tmp_path / "torn.wav").write_bytes(b"RIFF")
    with pytest.raises(SourceError, match=r"torn\.wav"):
        draw_clip(tmp_path / "torn.wav", tmp_path)
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize("preset", ["quadrant", "arousal_valence"])
def test_a_table_is_drawn_whatever_its_labels(toy_table: Path, tmp_path: Path, preset: str) -> None:
    rows = list(read_table(toy_table))
    votes = [replace(row, corpus="votes", soft={"angry": 0.5, "sad": 0.5}) for row in rows]
    levels = [replace(row, corpus="levels", emotion="", stress=0.5, sex="") for row in rows]
    nothing = [replace(row, corpus="nothing", emotion="") for row in rows]
    paths = draw_table([*rows, *votes, *levels, *nothing], read_preset(preset), tmp_path)
    assert [path.name for path in paths] == ["emotions.png", "durations.png", "levels.png", "speakers.png"]
    assert all(path.read_bytes().startswith(PNG) for path in paths)


def test_levels_of_a_corpus_without_emotions_are_drawn_by_stress(toy_table: Path) -> None:
    from matplotlib.figure import Figure

    rows = [replace(row, emotion="", stress=float(row.emotion == "angry")) for row in read_table(toy_table)]
    rows += [replace(row, stress=None) for row in rows[:2]]
    axes = Figure().subplots()
    _Colours(read_preset("quadrant")).draw_levels(axes, rows)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["not stressed", "stressed", "no emotion"]


def test_a_table_without_levels_is_named(toy_table: Path, tmp_path: Path) -> None:
    rows: list[Utterance] = [replace(row, level_dbfs=None) for row in read_table(toy_table)]
    with pytest.raises(TrainingError, match="has no levels"):
        draw_table(rows, read_preset("quadrant"), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(toy_table: Path, tmp_path: Path) -> None:
    (tmp_path / "emotions.png").mkdir()
    with pytest.raises(SinkError, match=r"emotions\.png: cannot be written"):
        draw_table(read_table(toy_table), read_preset("quadrant"), tmp_path)
