"""The live view in a real terminal: keys, and a terminal that is always given back."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyte
import pytest
from mqtt_rig import eventually

from edge_sser.sinks.pause import PAUSE_FILE, PauseSwitch

ENTER, LEAVE, SHOW_CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


def set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Session:
    """A command on a terminal of its own, as a shell would start it."""

    def __init__(self, *arguments: object, term: str = "xterm-256color", **environment: str) -> None:
        self.mine, its = pty.openpty()
        set_size(its, 80, 24)
        self._its = its  # held open, so that its modes can be read at the end
        self.modes_before = termios.tcgetattr(its)
        self.screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.screen)
        self.output = bytearray()
        # The shell is the session's leader, so that the command can be stopped and continued as a job.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "edge_sser", *map(str, arguments)],
            stdin=its,
            stdout=its,
            stderr=its,
            env=os.environ | {"TERM": term} | environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def press(self, keys: str) -> None:
        os.write(self.mine, keys.encode())

    def shows(self, text: str) -> bool:
        return any(text in row for row in list(self.screen.display))

    def ended(self) -> int:
        status = self.process.wait(timeout=60)
        time.sleep(0.2)
        return status

    @property
    def modes(self) -> list[object]:
        return termios.tcgetattr(self._its)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._its)
        self._reader.join(timeout=10)
        os.close(self.mine)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.mine, 65_536)
            except OSError:
                return
            if not data:
                return
            self.output += data
            self._stream.feed(data)


@pytest.fixture
def listening(speech: Path, model: str) -> Iterator[Session]:
    session = Session("listen", "--source", speech, "--model", model)
    eventually(lambda: session.shows("q quit"), "the view")
    yield session
    session.close()


def test_q_ends_listening_and_gives_the_terminal_back(listening):
    assert listening.modes[3] != listening.modes_before[3]
    listening.press("s")
    eventually(lambda: listening.shows("sort: stress"), "another order")
    listening.press("q")
    assert listening.ended() == 0
    assert listening.modes == listening.modes_before
    assert listening.output.rindex(LEAVE) > listening.output.rindex(ENTER)
    assert SHOW_CURSOR in listening.output[listening.output.rindex(ENTER) :]


def test_p_says_so_where_listening_cannot_be_paused(listening):
    listening.press("p")
    eventually(lambda: listening.shows("p resume") and listening.shows("cannot be paused"), "the message")


def test_a_resized_terminal_is_drawn_anew(listening):
    listening.screen.resize(12, 50)
    set_size(listening.mine, 50, 12)
    eventually(lambda: "q quit" in listening.screen.display[11], "the footer in its place")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_leaves_the_terminal_as_it_was(listening, number):
    listening.process.send_signal(number)
    listening.ended()
    assert listening.modes == listening.modes_before
    assert listening.output.rindex(LEAVE) > listening.output.rindex(ENTER)


def test_stopped_by_ctrl_z_the_terminal_is_the_shells_and_the_view_comes_back(listening):
    listening.process.send_signal(signal.SIGTSTP)  # of a session without a shell; the key would stop nobody
    eventually(lambda: LEAVE in listening.output, "the terminal is given back")
    assert listening.modes == listening.modes_before
    listening.process.send_signal(signal.SIGCONT)
    eventually(lambda: listening.output.count(ENTER) == 2, "the view is back")
    listening.press("q")
    assert listening.ended() == 0
    assert listening.modes == listening.modes_before


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(speech, model):
    session = Session("listen", "--no-pace", "--source", speech, "--model", model, term="dumb")
    assert session.ended() == 0
    assert b"\x1b" not in session.output
    assert b"dBFS" in session.output
    session.close()


def test_a_terminal_without_unicode_gets_ascii(speech, model):
    session = Session(
        "listen", "--source", speech, "--model", model, LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii"
    )
    eventually(lambda: session.shows("q quit"), "the view")
    session.press("q")
    assert session.ended() == 0
    assert bytes(session.output).isascii()
    session.close()


@pytest.mark.mic
def test_p_lets_go_of_the_microphone_and_takes_it_again(virtual_microphone, model, tmp_path):
    session = Session("listen", "--model", model, STATE_DIRECTORY=str(tmp_path))
    other = PauseSwitch(tmp_path / PAUSE_FILE)
    virtual_microphone.wait_until_recorded()
    eventually(lambda: session.shows("q quit"), "the view")
    session.press("p")
    eventually(lambda: session.shows("paused") and not virtual_microphone.is_recorded(), "the microphone is free")
    assert not session.shows(" dB ")
    assert session.shows("the key p has turned listening off")
    session.press("p")
    eventually(virtual_microphone.is_recorded, "the microphone is held again")
    session.press("p")
    eventually(lambda: session.shows("p resume "), "paused by the key")
    other.turn(False)  # as MQTT or the web page does
    eventually(lambda: session.shows("p resume here") and session.shows("a command and the key p"), "both are named")
    session.press("p")
    eventually(lambda: session.shows("p pause here") and session.shows("a command has turned"), "the command is left")
    assert not virtual_microphone.is_recorded()
    other.turn(True)
    eventually(virtual_microphone.is_recorded, "the microphone is held again")
    eventually(lambda: session.shows("p pause ") and not session.shows("p pause here"), "the footer")
    session.press("q")
    assert session.ended() == 0
    session.close()
