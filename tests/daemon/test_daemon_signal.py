"""Faults of a live signal, from a real microphone or pipe to health, `devices` and `doctor`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from daemon_process import eventually
from numpy.typing import NDArray
from virtual_microphone import VirtualMicrophone

from edge_sser.audio.microphone import MicrophoneSource
from edge_sser.commands.devices import print_devices
from edge_sser.commands.doctor.finding import CheckContext, State
from edge_sser.commands.doctor.sound import check_capture
from edge_sser.settings.schema import Settings

RATE_HZ = 16_000


def noise(seconds: float) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-3_000, 3_000, int(seconds * RATE_HZ)).astype(np.int16)


def stereo(left: NDArray[np.int16], right: NDArray[np.int16]) -> NDArray[np.int16]:
    return np.stack([left, right], axis=1)


OPPOSITE = "channel 1 is the opposite of another"


@pytest.mark.mic
def test_opposite_channels_of_a_microphone_are_heard_and_told(start, stereo_microphone: VirtualMicrophone) -> None:
    stereo_microphone.play(stereo(noise(60), -noise(60)))
    daemon = start("--source", "mic")
    eventually(
        lambda: any(event["detail"].startswith(OPPOSITE) for event in daemon.events("health")), "health tells it"
    )
    daemon.await_readings(8)
    assert daemon.events("reading")[-1]["dbfs"] > -30.0
    assert daemon.stop() == 0
    assert "channel 0 alone is used (--channel 0 for good)" in daemon.events("health")[-1]["detail"]


@pytest.mark.mic
@pytest.mark.parametrize(
    ("left", "right", "told", "remedy"),
    [
        (noise(8), -noise(8), OPPOSITE, "swap its two wires"),
        (noise(8), 0 * noise(8), "channel 1 carries nothing but silence", "check its cable"),
        (0 * noise(8) + 9_000, 0 * noise(8) + 9_000, "the sound is one value for ever", "the converter is stuck"),
        (12_000 + noise(8), 12_000 + noise(8), "the sound has a large constant offset", "check the device"),
        (np.repeat(np.int16(32_767) * np.sign(noise(8)), 2)[: 8 * RATE_HZ],) * 2
        + ("the sound is cut off at full scale", "lower the capture volume"),
    ],
    ids=["opposite", "dead", "stuck", "offset", "clipped"],
)
def test_devices_and_doctor_say_what_is_wrong(
    stereo_microphone: VirtualMicrophone,
    left: NDArray[np.int16],
    right: NDArray[np.int16],
    told: str,
    remedy: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stereo_microphone.play(np.tile(stereo(left, right), (3, 1)))
    found = check_capture(CheckContext(Settings(), ("mic",), microphone_configured=True))
    assert found.state is State.WARNING
    assert told in found.detail
    assert remedy in found.remedy
    assert print_devices(level=True, as_json=True) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert any(fault.startswith(told) and remedy in fault for fault in first["faults"])
    assert (first["dbfs"] > -30.0) == ("value for ever" not in told)  # of the channel that is used


@pytest.mark.mic
def test_devices_prints_a_fault_below_its_microphone(
    virtual_microphone: VirtualMicrophone, capsys: pytest.CaptureFixture[str]
) -> None:
    virtual_microphone.play(np.full(10 * RATE_HZ, 9_000, dtype=np.int16))
    print_devices(level=True, as_json=False)
    microphone, fault, *_ = capsys.readouterr().out.splitlines()
    assert microphone.startswith("mic:")
    assert fault.strip().startswith("the sound is one value for ever, not zero: the converter is stuck")


@pytest.mark.mic
def test_a_card_that_documents_its_channels_is_recorded_without_its_loudspeaker(
    stereo_microphone: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sser.audio.portaudio._ECHO_CARDS", (("default", 2, 1),))
    speech, music = noise(4), noise(8)[4 * RATE_HZ :]
    with MicrophoneSource(name="desk") as source:
        stereo_microphone.wait_until_recorded()
        stereo_microphone.play(stereo(music, speech))
        heard: list[NDArray[np.float32]] = []
        while sum(block.size for block in heard) < RATE_HZ:
            block = source.read(timeout_seconds=5.0)
            assert block is not None
            heard.append(block.samples)
    recorded = np.concatenate(heard)
    np.testing.assert_array_equal(recorded, speech[: recorded.size].astype(np.float32) / np.float32(2**15))


def test_faults_on_a_pipe_are_told_and_a_stuck_converter_is_silent(tmp_path: Path) -> None:
    """The pipe is read as fast as it is written."""
    sound = np.concatenate([stereo(noise(20), -noise(20)), np.full((20 * RATE_HZ, 2), 5_000, dtype=np.int16)])
    done = subprocess.run(
        [sys.executable, "-m", "edge_sser.cli", "listen", "--source", "-", "--raw-channels", "2", "--format", "jsonl"],
        input=sound.tobytes(),
        capture_output=True,
        check=True,
        cwd=tmp_path,
        timeout=120,
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    health = [event for event in events if event["type"] == "health"]
    assert health[0]["state"] == "ok"
    assert any(event["state"] == "ok" and event["detail"].startswith(OPPOSITE) for event in health)
    assert health[-1]["state"] == "silent"
    assert health[-1]["detail"].startswith("for 10 s the sound is one value for ever, not zero: the converter is stuck")
    early = [event for event in events if event["type"] == "reading" and 8.0 < event["end_s"] < 19.0]
    assert early
    assert all(reading["dbfs"] > -30.0 for reading in early)
    assert b"is the opposite of another" in done.stderr
