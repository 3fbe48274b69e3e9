"""Answers to bad input: one clear line, the documented status, and nothing on standard output that is no event."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from components import require_pyaudio
from models import changed_card, write_model

COMMANDS = ["analyze", "listen"]


@pytest.fixture(params=COMMANDS)
def hear(request, call, model):
    """Hears a recording through each command that can."""

    def hear(path, *arguments, model=model):
        source = [path] if request.param == "analyze" else ["--no-pace", "--source", path]
        return call(request.param, *source, "--model", model, *arguments)

    return hear


def test_a_missing_file(hear, tmp_path):
    hear(tmp_path / "gone.wav").refuses(1, "gone.wav does not exist", "check the path")


def test_an_empty_file(hear, tmp_path):
    path = tmp_path / "empty.wav"
    path.touch()
    hear(path).refuses(1, "empty.wav is empty", "again")


def test_a_directory(hear, tmp_path):
    hear(tmp_path).refuses(1, "is a directory", "name the audio files")


def test_a_file_that_is_no_audio(hear, tmp_path):
    path = tmp_path / "letter.wav"
    path.write_text("Dear Sir or Madam")
    hear(path).refuses(1, "letter.wav is not audio", "expected WAV")


def test_a_truncated_file_gives_what_it_holds_and_then_the_error(hear, tmp_path, speech):
    path = tmp_path / "torn.flac"
    path.write_bytes(speech.read_bytes()[:300_000])
    result = hear(path)
    result.refuses(1, "torn.flac is truncated or damaged", "again")
    assert len(result.of_type("reading")) > 10


def test_a_file_of_zeros_is_silence_not_calm_and_not_full_scale(hear, write_audio):
    result = hear(write_audio(np.zeros(64_000)))
    assert (result.status, result.err) == (0, "")
    for reading in result.of_type("reading"):
        assert (reading["stress"], reading["level"], reading["confidence"]) == (None, None, None)
        assert reading["dbfs"] == -120.0


def test_a_file_of_nans(hear, write_audio):
    result = hear(write_audio(np.full(64_000, np.nan), subtype="FLOAT"))
    result.refuses(1, "not numbers", "again")
    assert result.of_type("reading") == []


def test_full_scale_noise_is_flagged_as_clipped(hear, write_audio):
    result = hear(write_audio(np.sign(np.random.default_rng(0).standard_normal(64_000)), subtype="FLOAT"))
    assert (result.status, result.err) == (0, "")
    assert all(reading["clipped"] for reading in result.of_type("reading"))


def test_a_file_of_a_tenth_of_a_second(hear, write_audio):
    hear(write_audio(np.zeros(1_600))).refuses(1, "3 s", "recording", "give")


def test_nothing_on_standard_input(run, model):
    run("listen", "--source", "-", "--model", model).refuses(1, "standard input ended before any audio came")


def test_too_little_on_standard_input(run, model):
    run("listen", "--source", "-", "--model", model, stdin=bytes(3_200)).refuses(1, "stdin ended before 3 s of audio")


def test_a_recording_on_standard_input_instead_of_raw_pcm(run, speech, model):
    run("listen", "--source", "-", "--model", model, stdin=speech.read_bytes()).refuses(1, "FLAC", "raw PCM")


def test_no_pyaudio(call, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    for arguments in (["listen", "--model", model], ["devices"]):
        call(*arguments).refuses(1, "pyaudio", 'pip install "edge-sser[mic]"')


@pytest.fixture
def bad_models(tmp_path, model):
    """Model files that cannot be used, by what their error must say."""
    good = Path(model).read_bytes()
    paths = {name: tmp_path / f"{name}.onnx" for name in ("missing", "truncated", "letter", "cardless", "other")}
    paths["truncated"].write_bytes(good[: len(good) // 2])
    paths["letter"].write_text("Dear Sir or Madam")
    write_model(paths["cardless"], card=None)
    features = dict(changed_card().features) | {"bands": 40}
    write_model(paths["other"], card=changed_card(features=features))
    return paths


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("missing", "give an .onnx file"),
        ("truncated", "not a model"),
        ("letter", "not a model"),
        ("cardless", "no card"),
        ("other", "bands"),
    ],
)
def test_a_bad_model(hear, bad_models, speech, name, part):
    result = hear(speech, model=bad_models[name])
    result.refuses(1, str(bad_models[name]), part)
    assert result.out == ""


def test_a_bad_model_is_one_error_however_many_recordings_wait(run, bad_models, speech):
    run("analyze", speech, speech, "--jobs", 2, "--model", bad_models["cardless"]).refuses(1, "no card")


@pytest.mark.mic
def test_a_microphone_that_disappears(virtual_microphone, model, speech):
    samples, _ = soundfile.read(speech, dtype="int16")
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_sser.cli", "listen", "--model", model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    virtual_microphone.wait_until_recorded()
    virtual_microphone.play(samples)
    for line in process.stdout:
        if json.loads(line)["type"] == "reading":
            break
    virtual_microphone.kill()
    for line in process.stdout:
        if json.loads(line).get("state") == "missing":
            break
    process.terminate()
    _, errors = process.communicate(timeout=60)
    line = errors.decode().splitlines()[0]
    assert line.startswith("edge-sser: microphone ")
    assert "plug it in again" in line
    assert line.endswith("; it is looked for until it is back")
    assert process.returncode == 0


@pytest.mark.mic
def test_no_microphone(call, model, monkeypatch, tmp_path):
    require_pyaudio()
    (tmp_path / "alsa.conf").write_text("pcm.unplugged { type hw card 99 }\n")
    monkeypatch.setenv("ALSA_CONFIG_PATH", str(tmp_path / "alsa.conf"))
    for arguments in (["listen", "--model", model], ["devices"]):
        call(*arguments).refuses(1, "no microphone was found", "plug one in")
