"""`edge-sser doctor`: what is wrong with microphones is found, with its remedy."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios

import numpy as np
import pytest
from components import require_pyaudio
from unprivileged import as_ordinary_user, folder_for_all

from edge_sser.audio.alsa import SHARING
from edge_sser.audio.microphone import list_microphones
from edge_sser.audio.portaudio import PortAudio
from edge_sser.commands.doctor.finding import CheckContext, State
from edge_sser.commands.doctor.sound import check_capture, check_microphones, check_permission
from edge_sser.errors import SourceError
from edge_sser.settings.schema import Settings

RECORDING = '[[source]]\ndevice = "talk.flac"'
MICROPHONE = '[[source]]\ndevice = "mic"'


def context(*devices):
    return CheckContext(Settings(), devices, microphone_configured=True)


def test_no_pyaudio_is_a_problem_only_for_who_wants_a_microphone(examine, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyaudio", None)
    status, found = examine(MICROPHONE)
    assert status == 1
    assert found["pyaudio"].startswith("problem")
    assert sum('pip install "edge-sser[mic]"' in line for line in found.values()) == 1  # said once
    assert found["microphones"].startswith("skipped")
    assert found["capture"].startswith("skipped")
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
    virtual_microphone.play(np.zeros(160_000, dtype=np.int16))
    status, found = examine(MICROPHONE)
    assert status == 0
    assert found["capture"].startswith("warning")
    assert "unmute" in found["capture"]


@pytest.mark.mic
def test_a_microphone_that_hears_something_is_fine(examine, virtual_microphone):
    virtual_microphone.play(np.random.default_rng(0).integers(-3_000, 3_000, 160_000).astype(np.int16))
    status, found = examine(MICROPHONE)
    assert status == 0
    assert found["capture"].startswith("fine")
    assert "mic:" in found["microphones"]


@pytest.mark.mic
def test_a_microphone_that_the_settings_name_and_that_is_not_there(examine, virtual_microphone):
    status, found = examine('[[source]]\ndevice = "mic:usb-pnp"')
    assert status == 1
    assert found["microphones"].startswith("fine")
    assert found["capture"].startswith("problem")
    assert "there is no microphone usb-pnp: name one of pulse" in found["capture"]


def test_a_device_that_this_user_may_not_open(monkeypatch):
    with folder_for_all() as devices:
        monkeypatch.setattr("edge_sser.commands.doctor.sound.SOUND_DEVICES", devices)
        node = devices / "pcmC0D0c"
        node.touch()
        node.chmod(0o000)
        with as_ordinary_user():
            denied = check_permission(context("mic"))
        node.chmod(0o666)
        with as_ordinary_user():
            allowed = check_permission(context("mic"))
    assert denied.state is State.PROBLEM
    assert denied.detail == f"this user may not open {node}"
    assert denied.remedy.startswith('sudo usermod -aG audio "$USER", then log in again')
    assert allowed.state is State.FINE


class BusyMicrophone:
    """An ALSA device, `held`, and what the kernel says of the card behind it.

    There is no card. But the device opens a terminal, which one program can have to itself, and opening it then fails
    as for a card: EBUSY. So ALSA and PortAudio are the real ones. The kernel's words are in files of ours.
    """

    def __init__(self, alsa):
        self._status = alsa / "card0" / "pcm0c" / "sub0" / "status"
        self._status.parent.mkdir(parents=True)
        (alsa / "card0" / "id").write_text("Held\n")
        self._holder, self._terminal = pty.openpty()
        name = os.ttyname(self._terminal)
        os.chmod(name, 0o666)
        device = f'type file slave.pcm {{ type pulse }} file "/dev/null" infile "{name}" format "raw"'
        # Where every device works and none is the default, PortAudio 19.6 ends in an assertion of its own.
        self.definition = f"pcm.held {{ {device} }}\npcm.default {{ type hw card 99 }}\n"
        self.release()

    def hold(self, pid):
        fcntl.ioctl(self._terminal, termios.TIOCEXCL)
        self._status.write_text(f"state: RUNNING\nowner_pid   : {pid}\ntrigger_time: 812.000000001\navail       : 0\n")

    def release(self):
        fcntl.ioctl(self._terminal, termios.TIOCNXCL)
        self._status.write_text("closed\n")

    def close(self):
        os.close(self._holder)
        os.close(self._terminal)


@pytest.fixture
def busy_microphone(monkeypatch, virtual_microphone):
    virtual_microphone.home.chmod(0o755)
    with folder_for_all() as folder:
        microphone = BusyMicrophone(folder / "asound")
        (folder / "alsa.conf").write_text(microphone.definition)
        monkeypatch.setenv("ALSA_CONFIG_PATH", str(folder / "alsa.conf"))
        monkeypatch.setattr("edge_sser.audio.alsa.ALSA", folder / "asound")
        yield microphone
        microphone.close()


@pytest.fixture
def start_program():
    """Starts a program that waits; its process id."""
    started = []

    def start(*command):
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        return started[-1].pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


def look(*devices):
    with as_ordinary_user():  # root gets a terminal that another has to itself
        return check_microphones(context(*devices)), check_capture(context(*devices))


@pytest.mark.mic
@pytest.mark.parametrize("device", ["mic", "mic:held"])
def test_a_microphone_that_another_program_holds_is_named_with_that_program(busy_microphone, start_program, device):
    assert [microphone.id for microphone in list_microphones()] == ["held"]
    pid = start_program("cat")
    busy_microphone.hold(pid)
    microphones, capture = look(device)
    assert (microphones.state, capture.state) == (State.PROBLEM, State.PROBLEM)
    assert microphones.detail == f"none is free: mic:held held by cat (pid {pid})"
    assert microphones.remedy == SHARING
    assert capture.detail == f"microphone held is held by cat (pid {pid}): {SHARING}"
    busy_microphone.release()
    assert check_microphones(context(device)).detail == "mic:held"


@pytest.mark.mic
@pytest.mark.parametrize("device", ["mic", "mic:held"])
def test_a_microphone_that_the_running_edge_sser_holds_is_fine(busy_microphone, start_program, device):
    pid = start_program(sys.executable, "-m", "edge_sser.cli", "listen", "--source", "-")
    busy_microphone.hold(pid)
    microphones, capture = look(device)
    assert (microphones.state, capture.state) == (State.FINE, State.FINE)
    assert microphones.detail == f"mic:held held by edge-sser (pid {pid})"
    assert capture.detail == f"{device} is recorded by edge-sser (pid {pid}), which runs"


@pytest.mark.mic
def test_a_microphone_that_is_taken_after_it_was_listed(busy_microphone, start_program):
    audio = PortAudio()
    try:
        microphone = audio.find("held")
        busy_microphone.hold(start_program("cat"))
        with as_ordinary_user(), pytest.raises(SourceError, match="another program holds it: stop that one"):
            audio.open(microphone, rate_hz=16_000, channels=1, block_seconds=0.2, callback=lambda *_: (None, 0))
    finally:
        audio.close()
