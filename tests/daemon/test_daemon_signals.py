"""Termination: at any moment, with a reader that does not read, with outputs that hang."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from mqtt_rig import LIMIT_SECONDS, eventually, free_port
from voices import voice

COMMAND = [sys.executable, "-m", "edge_sser", "listen", "--node", "cab12"]
STAGES = 20  # moments of start-up at which it is told to end


def start_up_seconds(command: list[str], environment: dict[str, str]) -> float:
    """Returns the time until the status is online, on this machine at this moment."""
    begun = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline()
    took = time.monotonic() - begun
    process.terminate()
    process.communicate(timeout=LIMIT_SECONDS)
    return took


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_stage_of_start_up_ends_the_program_at_once(tmp_path, speech, model, number):
    config = tmp_path / "config.toml"
    events = tmp_path / "events.jsonl"
    config.write_text(
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n[metrics]\nport = {free_port()}\n[file]\npath = "{events}"\n'
    )
    command = [*COMMAND, "--model", model, "--source", str(speech), "--config", str(config)]
    environment = {**os.environ, "STATE_DIRECTORY": str(tmp_path / "state")}

    def written() -> int:
        return events.read_bytes().count(b'"online"')

    took = start_up_seconds(command, environment)
    online = 0
    for stage in range(STAGES):
        before = written()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        if stage < STAGES - 1:
            time.sleep(1.3 * took * stage / STAGES)
        else:  # start-up may take longer now than it took then: the last stage is past it for certain
            eventually(lambda before=before: written() > before, "it is online")
        process.send_signal(number)
        out, errors = process.communicate(timeout=LIMIT_SECONDS)
        said = [json.loads(line) for line in out.splitlines()]
        online += bool(said)
        if b"KeyboardInterrupt" in errors:  # the interpreter was starting, and had not come to this program
            assert b"edge_sser/" not in errors, f"stage {stage}: {errors.decode()}"
            continue
        # Before it can catch a signal there is nothing to put in order, and the signal ends it as it would anything.
        assert process.returncode in ({signal.SIGTERM: 0, signal.SIGINT: 130}[number], -number), errors
        assert b"Traceback" not in errors, f"stage {stage}: {errors.decode()}"
        if said:
            assert [each["state"] for each in said if each["type"] == "status"] == ["online", "stopped"]
    assert 0 < online < STAGES  # some stages were before listening, some in it
    states = [json.loads(line)["state"] for line in events.read_bytes().splitlines() if b'"status"' in line]
    assert states == ["online", "stopped"] * (len(states) // 2)
    done = subprocess.run(command, env=environment, capture_output=True, timeout=LIMIT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr  # nothing that was left keeps it from starting


def test_a_reader_that_stops_reading_delays_neither_the_other_outputs_nor_the_end(tmp_path, model):
    events = tmp_path / "events.jsonl"
    config = tmp_path / "config.toml"
    config.write_text(f'[file]\npath = "{events}"\n')
    process = subprocess.Popen(
        [*COMMAND, "--model", model, "--source", "-", "--config", str(config)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    sound = voice(pitch_hz=180.0, syllables_hz=4.0, seconds=60.0, seed=1)
    for _ in range(10):  # several times what a pipe holds of events
        process.stdin.write((sound * 32_767).astype("<i2").tobytes())
    process.stdin.flush()
    eventually(lambda: events.exists() and events.read_bytes().count(b'"reading"') > 1_100, "readings in the file")
    process.terminate()
    assert process.wait(LIMIT_SECONDS) == 0
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(20) == b'{"type":"status","sc'  # what was written is still there
    assert process.stderr.read() == b""
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
