"""The speech gate against sounds that are not speech, and the training of its network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from streams import RATE, make_monitor, play

pytest.importorskip("torch", reason='pip install "edge-sser[train,export]"')

import torch
from typer.testing import CliRunner

from edge_sser.audio.source import AudioBlock
from edge_sser.events import Level, Reading
from edge_sser.model.model import Model
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.pipeline.gate import BLOCKS, SHAPES, SpeechNet, shipped_net
from edge_sser.train.cli import app
from edge_sser.train.gate.data import NOT_SPEECH, SPEECH, UNCERTAIN, WINDOW, label_blocks
from edge_sser.train.gate.net import GateNet, arrays, normalise, write_weights
from edge_sser.train.gate.sounds import KINDS, synthesise

SECONDS = 40.0
MACHINES = ("hum", "beeps", "dtmf", "chords", "sweep", "fan")
MOST = {"beeps": 0.05, "chords": 0.12, "sweep": 0.02}
"""Largest share of windows that is scored, where it is not zero."""


@pytest.fixture(scope="module")
def shipped() -> Model:
    return Model.load(None)


@pytest.mark.parametrize("kind", MACHINES)
def test_sounds_of_machines_are_hardly_ever_scored_and_never_raise_the_level(shipped: Model, kind: str) -> None:
    scored = total = 0
    for seed in range(4):
        monitor = make_monitor(shipped)
        events = play(monitor, [AudioBlock(synthesise(kind, f"unseen {seed}", SECONDS))])
        readings = [event for event in events if isinstance(event, Reading)]
        total += len(readings)
        scored += sum(reading.stress is not None for reading in readings)
        assert {reading.level for reading in readings} <= {None, Level.LOW}
    assert total == 4 * (2 * int(SECONDS) - 5)
    assert scored / total <= MOST.get(kind, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_sound_and_another_seed_another(kind: str) -> None:
    sound = synthesise(kind, 1, 2.0, dbfs=-26.0, snr_db=30.0)
    assert sound.shape == (2 * RATE,)
    assert sound.dtype == np.float32
    assert np.abs(sound).max() <= 1.0
    assert 10 * np.log10(np.mean(sound.astype(np.float64) ** 2)) == pytest.approx(-26.0, abs=3.0)
    assert np.array_equal(sound, synthesise(kind, 1, 2.0, dbfs=-26.0, snr_db=30.0))
    assert not np.array_equal(sound, synthesise(kind, 2, 2.0, dbfs=-26.0, snr_db=30.0))


def test_blocks_are_labelled_by_their_energy() -> None:
    levels = np.full(BLOCKS, -26.0)
    levels[:3] = -200.0
    levels[3:6] = (-50.0, -55.0, -66.0)
    clean = np.repeat(10 ** (levels / 20), WINDOW // BLOCKS)
    labels = label_blocks(clean, word=False)
    assert labels[:6].tolist() == [NOT_SPEECH] * 3 + [SPEECH, UNCERTAIN, NOT_SPEECH]
    assert (labels[6:] == SPEECH).all()
    assert label_blocks(clean, word=True)[:6].tolist() == [NOT_SPEECH] * 3 + [UNCERTAIN] * 3
    assert not label_blocks(np.zeros(WINDOW), word=True).any()


def test_the_device_computes_what_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = GateNet().eval()
    path = tmp_path / "net.npz"
    write_weights(path, arrays(net), {"name": "test"})
    window = log_mel(synthesise("music", 0, 3.0))
    with torch.no_grad():
        expected = net(normalise(torch.from_numpy(window)[None]))[0].numpy()
    assert SpeechNet(path).log_odds(window) == pytest.approx(expected, abs=1e-4)
    first = path.read_bytes()
    write_weights(path, arrays(net), {"name": "test"})
    assert path.read_bytes() == first


def test_the_weights_that_ship_say_what_they_were_trained_on() -> None:
    from edge_sser.model.shipped import models_folder

    with np.load(models_folder() / "speech-net.npz", allow_pickle=False) as file:
        card = json.loads(str(file["card"]))
        assert set(file.files) == {*SHAPES, "card"}
    assert {entry["name"] for entry in card["training"]} >= {"ravdess", "nemo", "indian-emospeech", "librispeech"}
    assert all(entry["licence"].startswith(("CC0", "CC BY", "Apache-2.0")) for entry in card["training"])
    assert card["scored"]["hum"]["0 dB"] == 0.0
    assert np.isfinite(shipped_net().log_odds(np.zeros((FEATURES.frames, FEATURES.bands), dtype=np.float32))).all()


def test_the_command_trains_measures_and_writes_a_card(toy_table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "alarms"
    folder.mkdir()
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", synthesise("beeps", number, 1.0 + number), RATE)
    out = tmp_path / "net.npz"
    options = ["gate", str(toy_table), "--nonspeech", str(folder), "--out", str(out)]
    run = CliRunner().invoke(
        app, [*options, "--speech-windows", "40", "--epochs", "2", "--licence", "alarms=CC0"], catch_exceptions=False
    )
    assert run.exit_code == 0
    assert "| recorded alarms |" in run.stdout
    with np.load(out, allow_pickle=False) as file:
        card = json.loads(str(file["card"]))
    assert {"name": "alarms", "licence": "CC0", "speech": False, "recordings": 2} in card["training"]
    again = CliRunner().invoke(app, [*options, "--test"], catch_exceptions=False)
    assert again.stdout == run.stdout
