"""`edge-sser listen --mqtt` with a real broker: messages and commands."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import soundfile
from mqtt_rig import eventually

from edge_sser.daemon.session import STALLED_SECONDS
from edge_sser.pipeline.calm_level import POPULATION

SETTINGS = """
[[source]]
device = "{device}"
name = "desk"

[rolling]
time_constant_seconds = 2.0
dwell_seconds = 0.5
elevated = 0.3
high = 0.6

[mqtt]
url = "mqtt://127.0.0.1:{port}"
retry_min_seconds = 0.1
retry_max_seconds = 0.3
"""
RATE_HZ = 16_000


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).integers(-9_000, 9_000, int(seconds * RATE_HZ), dtype=np.int16)


@pytest.fixture
def configure(tmp_path):
    """Writes a settings file."""

    def configure(*, port, device, more=""):
        path = tmp_path / "config.toml"
        path.write_text(SETTINGS.format(port=port, device=device) + more)
        return path

    return configure


def test_the_broker_gets_the_lines_of_standard_output(start, broker, start_subscriber, configure, speech):
    subscriber = start_subscriber(broker.port, "edge-sser/#")
    config = configure(port=broker.port, device=speech)
    daemon = start("--config", config, "--log-level", "info")
    eventually(lambda: daemon.events("episode") and len(daemon.events("reading")) >= 8, "an episode")
    assert daemon.stop() == 0
    told = [line for line in daemon.lines if json.loads(line)["type"] in ("episode", "health")]
    eventually(
        lambda: len([m for m in subscriber.received if m.topic.endswith(("episode", "health"))]) >= len(told), "all"
    )
    assert [m.payload for m in subscriber.received if m.topic.endswith(("/episode", "/health"))] == told
    readings = [line for line in daemon.lines if json.loads(line)["type"] == "reading"]
    heard = [message.payload for message in subscriber.on("edge-sser/cab12/desk/reading")]
    assert heard == readings[-len(heard) :]  # the first may come before the connection
    assert len(heard) >= 4
    states = [message.json["state"] for message in subscriber.on("edge-sser/cab12/status")]
    assert states == ["online", "stopped"]
    assert "does not use" not in "".join(daemon.log)


def test_a_password_in_the_url_is_refused_and_not_repeated(start, speech):
    daemon = start("--source", speech, "--mqtt", "mqtt://cab:hunter2@127.0.0.1")
    assert daemon.wait() == 2
    (line,) = daemon.log
    assert "--mqtt" in line
    assert "mqtt.password_file" in line
    assert "hunter2" not in line


@pytest.mark.mic
def test_off_closes_the_microphone_and_on_opens_it_also_across_a_restart(
    start, broker, start_subscriber, configure, virtual_microphone
):
    subscriber = start_subscriber(broker.port, "edge-sser/#")
    config = configure(port=broker.port, device="mic")
    virtual_microphone.play(noise(120))
    daemon = start("--config", config)
    daemon.await_readings(1)

    subscriber.publish("edge-sser/cab12/listen/set", "OFF")
    eventually(lambda: not virtual_microphone.is_recorded(), "the microphone is let go of")
    eventually(lambda: daemon.states() == ["ok", "paused"], "health says paused, after the last reading")
    before = len(daemon.events("reading"))
    threading.Event().wait(STALLED_SECONDS + 0.3)  # longer than an open source may say nothing
    assert len(daemon.events("reading")) == before
    assert daemon.states() == ["ok", "paused"]
    assert subscriber.on("edge-sser/cab12/listen/state")[-1].payload == b"OFF"
    subscriber.publish("edge-sser/cab12/listen/set", "ON")
    daemon.await_readings(1)
    assert daemon.states() == ["ok", "paused", "ok"]
    numbers = [int(reading["id"].removeprefix("cab12/desk/")) for reading in daemon.events("reading")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    subscriber.publish("edge-sser/cab12/listen/set", "OFF")
    eventually(lambda: not virtual_microphone.is_recorded(), "the microphone is let go of again")
    assert daemon.stop() == 0
    daemon = start("--config", config)
    eventually(lambda: daemon.events("status"), "the start")
    threading.Event().wait(0.5)
    assert not virtual_microphone.is_recorded()
    assert daemon.states() == ["paused"]
    assert any("a command has turned listening off" in line for line in daemon.log)
    subscriber.publish("edge-sser/cab12/listen/set", "ON")
    eventually(lambda: daemon.states() == ["paused", "ok"], "it is heard")
    assert daemon.stop() == 0


def test_a_recording_goes_on_when_listening_is_turned_off_with_one_warning(start, broker, start_subscriber, speech):
    subscriber = start_subscriber(broker.port, "edge-sser/#")
    daemon = start("--source", speech, "--mqtt", f"mqtt://127.0.0.1:{broker.port}")  # the flag alone will do
    daemon.await_readings(1)
    subscriber.publish("edge-sser/cab12/listen/set", "OFF")
    eventually(lambda: daemon.log, "a line in the log")
    daemon.await_readings(2)
    assert daemon.stop() == 0
    assert subscriber.on("edge-sser/cab12/demo/reading")
    assert daemon.log == ["edge-sser: demo is no microphone and cannot be paused: it goes on"]


def test_a_command_learns_a_calm_voice_and_another_forgets_it(start, broker, start_subscriber, tmp_path, speech):
    subscriber = start_subscriber(broker.port, "edge-sser/#")
    config = tmp_path / "config.toml"
    config.write_text(
        f'[[source]]\ndevice = "-"\nname = "desk"\n[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
        "[gate]\nmin_speech_ratio = 0.1\n"
    )
    daemon = start("--config", config, "--log-level", "info", fed=True)
    samples, _ = soundfile.read(speech, dtype="int16")
    quarter = samples[: 16 * RATE_HZ].tobytes()
    daemon.feed(quarter)
    eventually(lambda: len(daemon.events("reading")) > 20, "readings")
    saved = tmp_path / "state" / "baselines" / "desk.json"
    subscriber.publish("edge-sser/cab12/baseline/set", "learn door")
    eventually(lambda: any("ignored b'learn door'" in line for line in daemon.log), "a source that is not there")
    subscriber.publish("edge-sser/cab12/baseline/set", "learn desk")
    eventually(lambda: any("the next 60 s of speech are taken for calm" in line for line in daemon.log), "the command")
    for _ in range(4):
        daemon.feed(samples.tobytes())
    eventually(lambda: any("desk: a baseline is learned" in line for line in daemon.log), f"learned {daemon.log}")
    eventually(lambda: saved.exists() and json.loads(saved.read_text())["declared"], "it is kept")
    shift = json.loads(saved.read_text())["value"] - POPULATION
    daemon.feed(quarter)
    eventually(lambda: daemon.events("reading")[-1]["baseline_shift"] == pytest.approx(shift, abs=0.3), "it is used")
    subscriber.publish("edge-sser/cab12/baseline/set", "reset desk")
    eventually(lambda: not saved.exists(), "it is forgotten")
    assert daemon.stop() == 0
    assert not saved.exists() or not json.loads(saved.read_text())["declared"]
    assert subscriber.on("edge-sser/cab12/desk/reading")
