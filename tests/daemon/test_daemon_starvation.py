"""More audio than the machine can process: losses are counted and reported."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
from accounts import assert_accounted, newest_dbfs
from listening import listen
from mqtt_rig import eventually

from edge_sser.audio.microphone import MicrophoneSource
from edge_sser.daemon.inputs import Input
from edge_sser.events import Event, Health, to_json
from edge_sser.model.backend import Backend
from edge_sser.model.model import Model
from edge_sser.monitor.monitor import Monitor
from edge_sser.settings.schema import Settings
from edge_sser.sinks.base import Sink

RATE_HZ = 16_000


def noise(seconds: float, *, amplitude: int = 9_000) -> np.ndarray:
    return np.random.default_rng(0).integers(-amplitude, amplitude, int(seconds * RATE_HZ), dtype=np.int16)


@pytest.mark.mic
def test_a_program_that_was_frozen_counts_its_losses(start, virtual_microphone, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text("[[source]]\nbuffer_seconds = 1.0\n")
    virtual_microphone.play(noise(11))
    daemon = start("--config", config, constants={"edge_sser.pipeline.health.OVERRUN_SECONDS": 3.0})
    daemon.await_readings(1)
    daemon.send(signal.SIGSTOP)
    virtual_microphone.wait_until_played()  # for longer than a device may be silent
    virtual_microphone.play(noise(60))
    daemon.send(signal.SIGCONT)
    daemon.await_states("ok", "overrun", "ok")
    assert daemon.stop() == 0
    assert assert_accounted(daemon.all_events) == daemon.events("health")[-1]["dropped_s"] > 0
    assert "the machine falls behind" in daemon.events("health")[1]["detail"]


class Slow:
    """A backend that takes longer over its first windows than their audio lasts."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.provider, self.close = backend, backend.provider, backend.close
        self._slow_windows = 4

    def run(self, log_mel, *, limit_seconds=None):
        if self._slow_windows:
            self._slow_windows -= 1
            time.sleep(0.9)
        return self._backend.run(log_mel, limit_seconds=limit_seconds)


class Kept(Sink):
    """Keeps events, and stops the loop after a number of health events."""

    def __init__(self, stop: threading.Event, states: int) -> None:
        self.events: list[Event] = []
        self._stop, self._states = stop, states

    def emit(self, event: Event, line: bytes) -> None:
        self.events.append(event)
        if len(self.states()) == self._states:
            self._stop.set()

    def states(self) -> list[str]:
        return [event.state.value for event in self.events if isinstance(event, Health)]


@pytest.mark.mic
def test_a_model_that_is_slower_than_the_audio_counts_every_lost_sample(virtual_microphone, model, speech, monkeypatch):
    """Compares the received audio with the played audio, so that the places of the losses are known."""
    voice, _ = soundfile.read(speech, dtype="int16")
    spoken = voice[2 * RATE_HZ :] + np.random.default_rng(0).integers(-3, 4, voice.size - 2 * RATE_HZ, dtype=np.int16)
    heard = spoken.astype(np.float32) / np.float32(2**15)
    at, monitors = 0, []

    class Compared(Monitor):
        def push(self, block, overruns=0):
            nonlocal at
            monitors[:] = [self]
            at += block.dropped
            np.testing.assert_array_equal(block.samples, heard[at : at + block.samples.size])
            at += block.samples.size
            return super().push(block, overruns)

    def open_microphone():
        source = MicrophoneSource(name="desk", buffer_seconds=0.6)
        virtual_microphone.play(spoken)
        return source

    monkeypatch.setattr("edge_sser.daemon.session.Monitor", Compared)
    monkeypatch.setattr("edge_sser.pipeline.health.OVERRUN_SECONDS", 2.0)
    stop = threading.Event()
    sink = Kept(stop, states=3)
    loaded = Model.load(Path(model))
    slow = Model(Slow(loaded.backend), loaded.card, path=loaded.path, sha256=loaded.sha256)
    listen(Settings(), [Input("desk", open_microphone, reopens=True)], [sink], slow, stop)
    assert sink.states() == ["ok", "overrun", "ok"]
    ((read, processed, dropped, _),) = [astuple(monitor.counters) for monitor in monitors]
    assert read == processed + dropped == at
    assert dropped > 0
    events = [json.loads(to_json(event)) for event in sink.events]
    assert assert_accounted(events, "desk") * RATE_HZ == dropped


@pytest.mark.mic
def test_sixteen_microphones_give_readings_under_their_own_names(start, virtual_microphone, tmp_path):
    microphones = [f"mic{number:02d}" for number in range(16)]
    amplitudes = [round(16_000 * 10 ** (-2 * number / 20)) for number in range(16)]  # 2 dB apart
    virtual_microphone.kill()
    virtual_microphone.restart(names=microphones)
    config = tmp_path / "sixteen.toml"
    config.write_text("".join(f'[[source]]\ndevice = "mic:{name}"\nname = "seat-{name}"\n' for name in microphones))
    for name, amplitude in zip(microphones, amplitudes, strict=True):
        virtual_microphone.play(noise(60, amplitude=amplitude), into=name)
    daemon = start("--config", config)
    seats = [f"seat-{name}" for name in microphones]

    def everybody_heard():
        heard = Counter(event["source"] for event in daemon.events("reading"))
        return all(heard[seat] >= 3 for seat in seats) or daemon.ended

    eventually(everybody_heard, "three readings of each")
    assert daemon.stop() == 0, daemon.log
    for seat in seats:
        assert_accounted(daemon.all_events, seat, rounding_s=0.002)
    assert np.diff([newest_dbfs(daemon.all_events, seat) for seat in seats]) == pytest.approx(-2.0, abs=0.5)
    assert {event["source"] for event in daemon.events("reading")} == set(seats)
