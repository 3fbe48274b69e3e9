"""`edge-sser doctor`: what is wrong is found, with its remedy."""

from __future__ import annotations

import sys

import pytest
from components import require_pyaudio


@pytest.fixture
def examine(call, tmp_path, model):
    """Runs the doctor with settings; the line of each check, and the remedy below it, by the check's name."""

    def examine(settings: str = "", *, model: str = model):
        path = tmp_path / "config.toml"
        path.write_text(f'{settings}\n[model]\npath = "{model}"\n')
        result = call("doctor", "--config", path)
        assert result.err == ""
        found: dict[str, str] = {}
        name = ""
        for line in result.out.splitlines():
            if not line.startswith(" ") and line.partition(" ")[0] in ("fine", "warning", "problem"):
                name = line[9:21].strip()
            if name:
                found[name] = f"{found.get(name, '')} {line}".strip()
        return result.status, found

    return examine


RECORDING = '[[source]]\ndevice = "talk.flac"'
MICROPHONE = '[[source]]\ndevice = "mic"'


def test_a_machine_that_analyses_recordings_is_fine(examine):
    status, found = examine(RECORDING)
    assert status == 0
    for name in ("settings", "runtime", "model", "recordings", "speech gate", "capture"):
        assert found[name].startswith("fine")
    assert "tiny@" in found["model"]
    assert "CPU" in found["runtime"]


def test_a_missing_model_is_a_problem(examine, tmp_path):
    status, found = examine(RECORDING, model=str(tmp_path / "gone.onnx"))
    assert status == 1
    assert found["model"].startswith("problem")
    assert "gone.onnx" in found["model"]


def test_wrong_settings_are_a_problem_and_the_other_checks_go_on(examine):
    status, found = examine("[gate]\nagressiveness = 1")
    assert status == 1
    assert "gate.aggressiveness" in found["settings"]
    assert found["speech gate"].startswith("fine")


def test_a_runtime_that_cannot_be_imported_is_a_problem(examine, monkeypatch):
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    status, found = examine(RECORDING)
    assert status == 1
    assert found["speech gate"].startswith("problem")
    assert "pip install" in found["speech gate"]


def test_no_pyaudio_is_a_problem_only_for_who_wants_a_microphone(examine, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    status, found = examine(MICROPHONE)
    assert status == 1
    assert found["pyaudio"].startswith("problem")
    assert 'pip install "edge-sser[mic]"' in found["pyaudio"]
    status, found = examine(RECORDING)
    assert status == 0
    assert found["pyaudio"].startswith("warning")


@pytest.mark.mic
def test_no_microphone_is_a_problem_only_for_who_wants_one(examine, monkeypatch, tmp_path):
    require_pyaudio()
    (tmp_path / "alsa.conf").write_text("pcm.unplugged { type hw card 99 }\n")
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "alsa.conf"))
    status, found = examine(MICROPHONE)
    assert status == 1
    assert "plug one in" in found["microphones"]
    assert found["capture"].startswith("problem")
    assert examine(RECORDING)[0] == 0


@pytest.mark.mic
def test_a_microphone_that_delivers_zeros_may_be_muted(examine, virtual_microphone):
    import numpy as np

    virtual_microphone.play(np.zeros(160_000, dtype=np.int16))
    status, found = examine(MICROPHONE)
    assert status == 0
    assert found["capture"].startswith("warning")
    assert "unmute" in found["capture"]


@pytest.mark.mic
def test_a_microphone_that_hears_something_is_fine(examine, virtual_microphone):
    import numpy as np

    virtual_microphone.play(np.random.default_rng(0).integers(-3_000, 3_000, 160_000).astype(np.int16))
    status, found = examine(MICROPHONE)
    assert status == 0
    assert found["capture"].startswith("fine")
    assert "mic:" in found["microphones"]


def test_a_device_node_that_this_user_may_not_open_is_named(examine, monkeypatch, tmp_path):
    node = tmp_path / "pcmC0D0c"
    node.touch()
    monkeypatch.setattr("edge_sser.doctor.SOUND_DEVICES", tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: path != node)
    status, found = examine(MICROPHONE)
    assert status == 1
    assert "usermod -aG audio" in found["permission"]
