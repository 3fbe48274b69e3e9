"""`edge-sser baseline`: learns, shows and removes the baseline of a source."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from models import write_model

from edge_sser.model.model import Model
from edge_sser.monitor.baselines import baseline_path, load_baseline
from edge_sser.pipeline.calm_level import POPULATION


@pytest.fixture
def excited(tmp_path):
    """A model to which the recording that ships sounds stressed throughout."""
    return str(write_model(tmp_path / "excited.onnx", centre_db=38.0))


@pytest.fixture
def learned(call, speech, model):
    """The baseline of a source called desk, learned from the recording that ships."""
    result = call("baseline", "learn", "desk", "--recording", speech, "--model", model)
    assert (result.status, result.err) == (0, "")
    return load_baseline("desk")


def read(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text()))


def test_learning_declares_how_the_source_sounds_when_calm(learned, model):
    assert learned.baseline.declared
    assert learned.baseline.heard_seconds > 30.0
    assert learned.baseline.shift == pytest.approx(learned.baseline.anchor - POPULATION)
    assert learned.model == Model.load(Path(model)).label


def test_show_prints_a_table(call, learned, speech, model):
    call("baseline", "learn", "kitchen", "--recording", speech, "--recording", speech, "--model", model)
    result = call("baseline", "show")
    header, desk, kitchen = result.out.splitlines()
    assert (result.status, result.err) == (0, "")
    assert header.split() == ["source", "model", "shift", "speech", "date", "kind"]
    seconds = f"{learned.baseline.heard_seconds:.0f}"
    assert desk.split() == [
        "desk", learned.model, f"{learned.baseline.shift:+.2f}", seconds, "s", learned.updated, "declared"
    ]  # fmt: skip
    assert kitchen.startswith("kitchen")
    assert len(call("baseline", "show", "desk").out.splitlines()) == 2


def test_show_without_baselines_says_how_to_get_one(call):
    result = call("baseline", "show")
    assert (result.status, result.err) == (0, "")
    assert "edge-sser baseline learn" in result.out


def test_show_tells_what_was_learned_while_listening(call, learned):
    path = baseline_path("desk")
    path.write_text(json.dumps(read(path) | {"declared": False, "anchor": POPULATION, "value": -1.5}))
    assert call("baseline", "show").out.splitlines()[1].endswith(" learned")


def test_a_damaged_file_does_not_hide_the_others(call, learned):
    baseline_path("bench").write_text('{"schema": 1, "source": "ben')
    result = call("baseline", "show")
    assert result.status == 1
    assert len(result.out.splitlines()) == 2
    (line,) = result.err.splitlines()
    assert "bench.json" in line
    assert "edge-sser baseline learn or reset bench" in line
    assert call("baseline", "reset", "bench").status == 0
    assert call("baseline", "show").status == 0


def test_a_file_from_the_future_is_refused(call, learned):
    path = baseline_path("desk")
    path.write_text(json.dumps(read(path) | {"updated": "2199-01-01T00:00:00.000Z"}))
    result = call("baseline", "show")
    assert result.status == 1
    assert "future" in result.err


def test_reset_removes_it(call, learned):
    result = call("baseline", "reset", "desk")
    assert (result.status, result.err) == (0, "")
    assert not baseline_path("desk").exists()
    call("baseline", "reset", "desk").refuses(2, "no baseline of desk")


def test_reset_without_a_name_removes_the_only_one_and_never_guesses(call, learned, speech, model):
    call("baseline", "learn", "kitchen", "--recording", speech, "--model", model)
    call("baseline", "reset").refuses(2, "name one", "desk, kitchen")
    call("baseline", "reset", "kitchen")
    assert call("baseline", "reset").status == 0
    call("baseline", "reset").refuses(2, "none is saved")


@pytest.mark.parametrize("name", ["../desk", "Desk", "a b"])
def test_a_name_that_no_source_can_have(call, speech, name):
    call("baseline", "learn", name, "--recording", speech).refuses(2, "lower-case")
    call("baseline", "show", name).refuses(2, "no baseline of")
    call("baseline", "reset", name).refuses(2, "no baseline of")


def test_the_source_is_the_one_of_the_settings(call, tmp_path, speech, model):
    settings = tmp_path / "settings.toml"
    settings.write_text('[[source]]\nname = "desk"\n')
    call("baseline", "learn", "--config", settings, "--recording", speech, "--model", model)
    assert load_baseline("desk").baseline.declared
    call("baseline", "learn", "bench", "--config", settings, "--recording", speech).refuses(
        2, "no source bench", "desk"
    )
    settings.write_text('[[source]]\nname = "desk"\n[[source]]\nname = "wall"\ndevice = "mic:b"\n')
    call("baseline", "learn", "--config", settings, "--recording", speech).refuses(2, "several", "desk, wall")


def test_listening_to_the_source_learns_too_and_listen_uses_it(run, tmp_path, speech_pcm, model):
    settings = tmp_path / "settings.toml"
    settings.write_text('[[source]]\ndevice = "-"\n')
    result = run("baseline", "learn", "--config", settings, "--model", model, stdin=speech_pcm)
    assert result.status == 0
    saved = load_baseline("stdin").baseline
    readings = run("listen", "--config", settings, "--model", model, stdin=speech_pcm[:160_000]).of_type("reading")
    assert readings[0]["baseline"] == "ready"
    assert readings[0]["baseline_shift"] == pytest.approx(saved.shift, abs=0.05)


def test_no_more_than_the_seconds_are_heard(run, tmp_path, speech_pcm, model):
    settings = tmp_path / "settings.toml"
    settings.write_text('[[source]]\ndevice = "-"\n')
    result = run("baseline", "learn", "--config", settings, "--model", model, "--seconds", 10, stdin=speech_pcm)
    assert result.status == 1
    assert "in 10.0 s of sound" in result.err


@pytest.mark.mic
def test_a_silent_microphone(call, virtual_microphone, model):
    virtual_microphone.play(np.zeros(160_000, dtype=np.int16))
    result = call("baseline", "learn", "--seconds", 4, "--model", model)
    assert result.status == 1
    assert "speak as usual" in result.err
    assert "silent" in result.err
    assert "check the microphone" in result.err


def test_stressed_speech_is_refused_and_the_baseline_stays(call, learned, speech, excited):
    before = baseline_path("desk").read_bytes()
    call("baseline", "learn", "desk", "--recording", speech, "--model", excited).refuses(1, "sounds stressed", "calm")
    assert baseline_path("desk").read_bytes() == before


def test_too_little_speech(call, write_audio, speech_samples, model):
    path = write_audio(speech_samples[:240_000])
    call("baseline", "learn", "--recording", path, "--model", model).refuses(1, "s of speech were found", "30 s")


def test_seconds_and_recordings_contradict(call, speech):
    call("baseline", "learn", "--recording", speech, "--seconds", 60).refuses(2, "--seconds", "leave")


@pytest.mark.parametrize("text", ['[baseline]\nmode = "off"\n', "[rolling]\ntime_constant_seconds = 8.0\n"])
def test_settings_without_baselines(call, tmp_path, speech, text):
    settings = tmp_path / "settings.toml"
    settings.write_text(text)
    call("baseline", "learn", "--config", settings, "--recording", speech).refuses(2, "baseline")


def test_a_state_directory_that_cannot_be_written(call, tmp_path, monkeypatch, speech, model):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    call("baseline", "learn", "--recording", speech, "--model", model).refuses(1, "cannot be written")


def test_silence_teaches_nothing(call, write_audio, model):
    path = write_audio(np.zeros(16_000 * 40))
    call("baseline", "learn", "--recording", path, "--model", model).refuses(1, "silent", "recording")
    assert not baseline_path("recording").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_file_to_the_user_of_the_service(call, tmp_path, monkeypatch, speech, model):
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 4321, 4321)
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    assert call("baseline", "learn", "desk", "--recording", speech, "--model", model).status == 0
    for path in (baseline_path("desk"), baseline_path("desk").parent):
        assert (path.stat().st_uid, path.stat().st_gid) == (4321, 4321)
