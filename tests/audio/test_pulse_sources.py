"""Sources of a sound server, one by one: a real PulseAudio with microphones that ALSA's settings do not name."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from virtual_microphone import VirtualMicrophone

from edge_sser.audio import portaudio, pulse
from edge_sser.audio.microphone import MicrophoneSource, list_microphones
from edge_sser.audio.pulse import ServerSource, server_sources
from edge_sser.commands.devices import measure
from edge_sser.commands.doctor.finding import CheckContext, State
from edge_sser.commands.doctor.sound import check_capture, check_microphones
from edge_sser.errors import SourceError
from edge_sser.settings.schema import Settings

RATE_HZ = 16_000
LIMIT_SECONDS = 20.0
LEFT, RIGHT = "alsa_input.usb-Left-00.mono", "alsa_input.usb-Right-00.mono"


def pactl(*arguments: str) -> str:
    return subprocess.run(["pactl", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def noise(seed: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-9_000, 9_000, 2 * RATE_HZ, dtype=np.int16)


def record(source: MicrophoneSource, samples: int) -> NDArray[np.float32]:
    blocks: list[NDArray[np.float32]] = []
    while sum(block.size for block in blocks) < samples:
        block = source.read(timeout_seconds=5.0)
        assert block is not None
        blocks.append(block.samples)
    return np.concatenate(blocks)


@pytest.fixture
def two_microphones(virtual_microphone: VirtualMicrophone) -> VirtualMicrophone:
    """Two more microphones, which only the server knows."""
    virtual_microphone.plug_in(LEFT)
    virtual_microphone.plug_in(RIGHT)
    return virtual_microphone


@pytest.mark.mic
def test_each_source_of_the_server_has_an_id_of_its_own(two_microphones: VirtualMicrophone) -> None:
    pactl("load-module", "module-null-sink", "sink_name=speakers")
    microphones = {microphone.id: microphone for microphone in list_microphones()}
    assert list(microphones)[-3:] == ["usb-left-00-mono", "usb-right-00-mono", "speakers-monitor"]  # monitors are last
    assert len(microphones) == len(list_microphones())
    left = microphones["usb-left-00-mono"]
    assert (left.channels, left.default_rate_hz, left.server_source) == (1, RATE_HZ, LEFT)
    assert not left.is_default
    assert microphones["vmic"].server_source is None  # ALSA's settings name it
    said = check_microphones(CheckContext(Settings(), ("mic",), microphone_configured=True)).detail
    assert "mic:usb-left-00-mono, mic:usb-right-00-mono" in said


@pytest.mark.mic
def test_two_microphones_behind_one_server_are_two_sources(two_microphones: VirtualMicrophone) -> None:
    with (
        MicrophoneSource("usb-left-00-mono", name="left") as left,
        MicrophoneSource("usb-right-00-mono", name="right") as right,
    ):
        deadline = time.monotonic() + LIMIT_SECONDS
        while pactl("list", "short", "sources").count("RUNNING") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        two_microphones.play(noise(1), into=LEFT)
        two_microphones.play(noise(2), into=RIGHT)
        for source, seed in ((left, 1), (right, 2)):
            recorded = record(source, RATE_HZ)
            np.testing.assert_array_equal(recorded, noise(seed)[: recorded.size] / np.float32(2**15))
    assert "PULSE_SOURCE" not in os.environ


@pytest.mark.mic
def test_what_one_loudspeaker_plays_is_heard_by_its_monitor_alone(
    virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    """Such a source gives its first block after 1.8 s, which is no fault of it."""
    for sink in ("speakers", "headphones"):
        pactl("load-module", "module-null-sink", f"sink_name={sink}", "rate=16000", "channels=1")
    played = tmp_path / "noise.s16"
    played.write_bytes(np.tile(noise(0), 30).tobytes())
    player = subprocess.Popen(
        ["pacat", "--raw", "--rate=16000", "--channels=1", "--format=s16le", "--device=headphones", played]
    )
    try:
        for _ in range(3):
            found = check_capture(CheckContext(Settings(), ("mic:headphones-monitor",), microphone_configured=True))
            assert found.state is State.FINE, found
        assert measure("headphones-monitor").dbfs > -30.0
        assert measure("speakers-monitor").dbfs < -100.0
    finally:
        player.kill()
        player.wait()


@pytest.mark.mic
def test_a_stream_that_the_server_moves_to_another_source_is_over(
    two_microphones: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "_CHECK_SECONDS", 0.1)
    pactl("load-module", "module-rescue-streams")
    with MicrophoneSource("usb-left-00-mono", name="left") as left:
        two_microphones.play(np.tile(noise(1), 10), into=LEFT)
        record(left, RATE_HZ)
        two_microphones.play(np.tile(noise(0), 30))
        two_microphones.unplug(LEFT)
        with pytest.raises(SourceError, match=r"usb-left-00-mono .* is gone: plug it in again"):
            record(left, 20 * RATE_HZ)
    with pytest.raises(SourceError, match=r"there is no microphone usb-left-00-mono: name one of .*usb-right-00-mono"):
        MicrophoneSource("usb-left-00-mono", name="left")
    two_microphones.plug_in(LEFT)
    MicrophoneSource("usb-left-00-mono", name="left").close()


@pytest.mark.mic
@pytest.mark.parametrize("answer", [None, "exit 1", "echo '[{]'", "echo '{}'", """echo '[1, {"name": 5}]'"""])
def test_without_an_answer_of_pactl_there_is_what_alsa_lists(
    two_microphones: VirtualMicrophone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str | None
) -> None:
    if answer is not None:
        (tmp_path / "pactl").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "pactl").chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", str(tmp_path))
        assert server_sources() == []
        assert {microphone.id for microphone in list_microphones()} == {"pulse", "default", "vmic"}


def test_ids_are_stable_and_differ_for_long_names() -> None:
    long = "alsa_input.usb-Generic_Blue_Microphones_Yeti_Nano_REV8_2013_LT_191128065321-00.{}-stereo"
    ids = [ServerSource(long.format(kind), "", 44_100, 2).id for kind in ("analog", "iec958")]
    assert ids == [
        "usb-generic_blue_microphones_yeti_nano_rev8_2013_lt_191-5ad2b6ed",
        "usb-generic_blue_microphones_yeti_nano_rev8_2013_lt_191-7e1b6b66",
    ]
    assert all(len(each) <= 64 for each in ids)


def test_pactl_is_read_as_pipewire_writes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed = [
        {"name": "alsa_output.pci.monitor", "description": "Monitor", "monitor_source": "alsa_output.pci"},
        {"name": "alsa_input.pci", "description": "", "sample_specification": "float32le 6ch 48000Hz"},
    ]
    (tmp_path / "pactl").write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(listed)}\nEND\n")
    (tmp_path / "pactl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert server_sources() == [
        ServerSource("alsa_input.pci", "alsa_input.pci", 48_000, 6),
        ServerSource("alsa_output.pci.monitor", "Monitor", 44_100, 1),
    ]


def test_a_sound_server_is_not_asked_for_a_microphone_that_portaudio_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[None] = []
    monkeypatch.setattr(portaudio, "server_sources", lambda: asked.append(None) or [])
    audio = portaudio.PortAudio.__new__(portaudio.PortAudio)  # without a sound card
    own = portaudio.Microphone("usb", "USB", "ALSA", 1, 48_000, True)
    audio._indices, audio._server_listed = {own: 0}, False
    assert audio.find("usb") is own
    assert asked == []
