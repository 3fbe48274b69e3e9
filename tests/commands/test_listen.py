"""`edge-sser listen` from end to end."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

COMMAND = [sys.executable, "-m", "edge_sser.cli"]


def listen_to_pipe(model: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, "listen", "--source", "-", "--model", model, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_recording_gives_readings_that_fit_the_schema(call, speech, model):
    result = call("listen", "--no-pace", "--source", speech, "--model", model, "--node", "cab12")
    assert (result.status, result.err) == (0, "")
    events = result.events
    assert events[0]["type"] == "status"
    assert (events[0]["state"], events[-1]["state"]) == ("online", "stopped")
    readings = result.of_type("reading")
    assert readings[0]["id"] == "cab12/demo/000000"
    assert (readings[0]["start_s"], readings[0]["end_s"], readings[1]["end_s"]) == (0.0, 3.0, 3.5)
    assert any(reading["stress"] is not None for reading in readings)


def test_raw_pcm_on_standard_input_gives_the_readings_of_the_file(run, call, speech, speech_pcm, model):
    piped = run("listen", "--source", "-", "--model", model, stdin=speech_pcm)
    assert (piped.status, piped.err) == (0, "")
    filed = call("listen", "--no-pace", "--source", speech, "--model", model)
    what = ("end_s", "speech_ratio", "stress", "stress_rolling", "level", "dbfs")
    assert [[reading[key] for key in what] for reading in piped.of_type("reading")] == [
        [reading[key] for key in what] for reading in filed.of_type("reading")
    ]


def test_ids_of_live_readings_are_unique_across_restarts_and_those_of_a_recording_are_the_same(
    run, call, speech, speech_pcm, model
):
    live = [run("listen", "--source", "-", "--model", model, stdin=speech_pcm) for _ in range(2)]
    ids = [{reading["id"] for reading in result.of_type("reading")} for result in live]
    assert ids[0]
    assert not ids[0] & ids[1]
    filed = [call("listen", "--no-pace", "--source", speech, "--model", model).of_type("reading") for _ in range(2)]
    assert filed[0] == filed[1]


@pytest.mark.mic
def test_speech_at_a_microphone_gives_the_readings_of_the_same_audio_in_a_file(
    call, virtual_microphone, speech_pcm, write_audio, model
):
    spoken = np.frombuffer(speech_pcm, dtype="<i2")[: 6 * 16_000]
    process = subprocess.Popen([*COMMAND, "listen", "--model", model], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    virtual_microphone.wait_until_recorded()
    virtual_microphone.play(spoken)
    heard = []
    for line in process.stdout:
        event = json.loads(line)
        heard += [event] if event["type"] == "reading" else []
        if heard and heard[-1]["end_s"] >= 5.5:  # the last half second may still wait in the sound server
            break
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    filed = call("analyze", write_audio(spoken, "spoken.wav"), "--model", model).of_type("reading")
    own = {"id", "source", "ts", "latency_ms"}
    assert [{key: value for key, value in reading.items() if key not in own} for reading in heard] == [
        {key: value for key, value in reading.items() if key not in own} for reading in filed[: len(heard)]
    ]
    assert any(reading["stress"] is not None for reading in heard)
    assert all(reading["latency_ms"] is not None for reading in heard)


def test_several_sources_are_told_apart_by_name(call, speech, write_audio, model):
    silence = write_audio(np.zeros(64_000), "silence.wav")
    result = call("listen", "--no-pace", "--source", speech, "--source", silence, "--model", model)
    assert result.status == 0
    assert {reading["source"] for reading in result.of_type("reading")} == {"demo", "silence"}


def test_a_torn_last_sample_is_left_out_with_one_line(run, speech_pcm, model):
    whole = run("listen", "--source", "-", "--model", model, stdin=speech_pcm[:128_000])
    torn = run("listen", "--source", "-", "--model", model, stdin=speech_pcm[:128_001])
    assert torn.status == 0
    (line,) = torn.err.splitlines()
    assert "standard input ended in the middle of a sample" in line
    assert len(torn.of_type("reading")) == len(whole.of_type("reading")) == 3


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_ends_cleanly_with_the_last_episode_closed(model, tmp_path, speech_pcm, number, status):
    config = tmp_path / "config.toml"
    config.write_text("[rolling]\nelevated = 0.1\n")  # the toy model is soon undecided, and never sure
    process = listen_to_pipe(model, "--config", str(config))
    feeder = threading.Thread(target=lambda: (process.stdin.write(speech_pcm), process.stdin.flush()))
    feeder.start()
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1]["type"] == "episode":
            break
    feeder.join()
    process.send_signal(number)
    process.stdin.close()
    # Not `communicate`, which reads past the buffer of `stdout` and would lose what is in it.
    events += [json.loads(line) for line in process.stdout]
    errors = process.stderr.read()
    process.wait(timeout=60)
    assert (process.returncode, errors) == (status, b"")
    assert [event["phase"] for event in events if event["type"] == "episode"][-1] == "end"
    assert events[-1] == {**events[-1], "type": "status", "state": "stopped"}


def test_an_output_pipe_that_closes_ends_it_with_one_line(model, speech):
    process = subprocess.Popen(
        [*COMMAND, "listen", "--source", str(speech), "--no-pace", "--model", model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    json.loads(process.stdout.readline())
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait(timeout=60) == 0
    (line,) = errors.splitlines()
    assert "standard output was closed by its reader" in line
    process.stderr.close()


@pytest.mark.parametrize("form", ["jsonl", "text"])
def test_a_full_disk_behind_standard_output_is_one_line(model, speech, form):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "listen", "--source", speech, "--no-pace", "--model", model, "--format", form],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    (line,) = done.stderr.decode().splitlines()
    assert line == "edge-sser: error: standard output cannot be written: No space left on device"
    assert done.returncode == 1


def test_text_in_a_pipe_is_one_plain_line_a_reading(call, speech, model):
    result = call("listen", "--no-pace", "--source", speech, "--model", model, "--format", "text")
    assert result.status == 0
    assert "\x1b" not in result.out
    assert any("dBFS" in line and "stress" in line for line in result.out.splitlines())


def test_text_on_a_terminal_on_request(model, speech):
    text = _on_a_terminal("listen", "--source", str(speech), "--no-pace", "--model", model, "--format", "text")
    assert "\x1b" not in text
    assert "dBFS" in text


def test_a_terminal_gets_a_live_view_and_gets_its_cursor_back(model, speech):
    view = _on_a_terminal("listen", "--source", str(speech), "--no-pace", "--model", model)
    assert "stress" in view
    assert "\x1b[" in view
    assert '"type"' not in view
    assert view.rindex("\x1b[?25h") > view.rindex("\x1b[?25l")


def test_json_lines_on_a_terminal_on_request(model, speech):
    text = _on_a_terminal("listen", "--source", str(speech), "--no-pace", "--model", model, "--format", "jsonl")
    assert json.loads(text.splitlines()[0])["type"] == "status"


def test_events_also_go_to_the_file_of_the_settings(call, tmp_path, speech, model):
    events = tmp_path / "events.jsonl"
    config = tmp_path / "config.toml"
    config.write_text(f'[file]\npath = "{events}"\n')
    result = call("listen", "--no-pace", "--source", speech, "--model", model, "--config", config)
    assert result.status == 0
    assert events.read_text() == result.out


def test_a_file_without_a_folder_is_in_the_state_directory(call, tmp_path, speech, model, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    config = tmp_path / "config.toml"
    config.write_text('[file]\npath = "events.jsonl"\n')
    result = call("listen", "--no-pace", "--source", speech, "--model", model, "--config", config)
    assert result.status == 0
    assert (tmp_path / "state" / "events.jsonl").read_text() == result.out


def _on_a_terminal(*arguments: str) -> str:
    """Returns the output of a command on a terminal of 80 columns."""
    mine, its = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=its,
        env=os.environ | {"TERM": "xterm-256color"},
        start_new_session=True,  # /dev/tty, where keys come from, is not that of whoever runs the tests
    )
    os.close(its)
    shown = b""
    while True:
        try:
            part = os.read(mine, 65_536)
        except OSError:  # Linux says EIO when the last writer has gone
            break
        if not part:
            break
        shown += part
    os.close(mine)
    assert process.wait(timeout=60) == 0
    return shown.decode()
