"""Sources in the words of other programs, and slips on the command line."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MICROPHONES = [
    "hw:1,0",
    "plughw:CARD=Device,DEV=0",
    "default",
    "sysdefault:CARD=PCH",
    "dsnoop:0",
    "pulse",
    "alsa_input.usb-0d8c_USB_PnP_Sound_Device-00.mono-fallback",
    "@DEFAULT_SOURCE@",
    "/dev/snd/pcmC0D0c",
    "1",
]


@pytest.mark.parametrize("name", MICROPHONES)
def test_the_name_of_a_microphone_elsewhere_is_told_what_to_write(call, model, name):
    call("listen", "--source", name, "--model", model).refuses(1, name, "mic:ID", "edge-sser devices")


def test_a_file_of_such_a_name_is_a_file(call, model, tmp_path, write_audio, speech, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").write_bytes(speech.read_bytes())
    result = call("listen", "--no-pace", "--source", "default", "--model", model, "--format", "jsonl")
    assert (result.status, result.err) == (0, "")


@pytest.mark.parametrize("url", ["rtsp://cam.example/stream", "http://radio.example/a.mp3", "udp://@239.0.0.1:1234"])
def test_a_url_is_told_to_be_piped_in(call, model, url):
    call("listen", "--source", url, "--model", model).refuses(1, url.partition(":")[0], "ffmpeg -i URL", "--source -")


def test_a_password_in_a_url_is_not_repeated(call, model):
    result = call("listen", "--source", "rtsp://admin:hunter2@cam.example/1", "--model", model)
    result.refuses(1, "rtsp://cam.example/1")
    assert "hunter2" not in result.err


def test_analyze_says_that_a_url_is_no_file(call, model):
    call("analyze", "https://radio.example/a.mp3", "--model", model).refuses(1, "URL", "curl")


def test_a_file_without_the_flag_is_told_the_flag(call):
    result = call("listen", "a.wav", "b.wav")
    result.refuses(2, "did you mean edge-sser listen --source a.wav --source b.wav?")


@pytest.mark.parametrize(("words", "expected"), [("edge-sser li", "listen"), ("edge-sser listen --sou", "--source")])
def test_the_shell_completes_commands_and_options(words, expected):
    place = str(len(words.split()) - 1)
    environment = {**os.environ, "_EDGE_SSER_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    command = [sys.executable, "-m", "edge_sser"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert expected in done.stdout.split()
