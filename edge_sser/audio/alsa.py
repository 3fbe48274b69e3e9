"""ALSA: finds the program that holds a sound card, and silences the sound libraries.

ALSA gives a card's microphone to one program at a time, and PortAudio does not list a microphone that another program
has. The kernel tells every user which program that is.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_sser.settings.names import slug

ALSA = Path("/proc/asound")
PROCESSES = Path("/proc")
PROGRAM = "edge-sser"
SHARING = "stop that program, or share the microphone by a sound server (PipeWire or PulseAudio)"
_CAPTURE = re.compile(r"card(\d+)/pcm(\d+)c$")


@dataclass(frozen=True, slots=True)
class Holder:
    """A program that records from a card.

    Attributes:
        microphone_id: of the microphone, as `list_microphones` names it while it is free.
        pid: of the process; 0 when it is in another container.
        program: name of the process, `?` when unknown.
    """

    microphone_id: str
    pid: int
    program: str

    @property
    def is_edge_sser(self) -> bool:
        """True for another edge-sser, the running service for example."""
        return self.program == PROGRAM

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid})"


def hardware_id(card_id: str, device: int) -> str:
    """Returns a hardware microphone's id: the card's, and the number of the device unless that is 0.

    Examples:
        >>> hardware_id("PCH", 2)
        'pch-2'
    """
    return slug(card_id, "card") + (f"-{device}" if device else "")


def holders() -> list[Holder]:
    """Returns every program that has a card's microphone to itself. Programs that share one are left out."""
    return [holder for path in sorted(ALSA.glob("card*/pcm*c")) for holder in _holder(path)]


def _holder(pcm: Path) -> Iterator[Holder]:
    place = _CAPTURE.search(str(pcm))
    statuses = [_text(path) for path in sorted(pcm.glob("sub*/status"))]
    if place is None or not statuses or any("owner_pid" not in status for status in statuses):
        return  # `closed`: a substream is free
    owner = re.search(r"^owner_pid\s*:\s*(\d+)", statuses[0], re.MULTILINE)
    thread = int(owner[1]) if owner else 0
    group = re.search(r"^Tgid:\s*(\d+)", _text(PROCESSES / str(thread) / "status"), re.MULTILINE)
    pid = int(group[1]) if group else thread
    arguments = _text(PROCESSES / str(pid) / "cmdline").split("\0")
    ours = any(argument in ("edge_sser", "edge_sser.cli") or Path(argument).name == PROGRAM for argument in arguments)
    yield Holder(
        microphone_id=hardware_id(_text(pcm.parent / "id").strip(), int(place[2])),
        pid=pid,
        program=PROGRAM if ours else _text(PROCESSES / str(pid) / "comm").strip() or "?",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # gone meanwhile, or hidden because it is another user's
        return ""


def silence_c_output() -> None:
    """Points the C library's `stdout` and `stderr` at /dev/null for the rest of the process. Safe to call twice.

    ALSA, JACK and PortAudio print dozens of lines whenever devices are listed, and more from a thread of their own when
    a device dies. The MP3 decoder prints about damaged files. All of them write to the C library's `stderr`. libsndfile
    prints about damaged MIDI sample dumps to `stdout`, among the events.

    Only these two variables change. File descriptors 1 and 2, Python's `sys.stdout` and `sys.stderr`, C++ streams and
    the C runtime's abort messages stay as they are. (Redirecting descriptor 2 instead would swallow the log lines of
    other threads.) With musl, where they are no variables, the libraries go on printing.
    """
    libc = ctypes.CDLL(None)
    libc.fileno.argtypes = [ctypes.c_void_p]
    libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    libc.fopen.restype = ctypes.c_void_p
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        try:
            stream = ctypes.c_void_p.in_dll(libc, name)
        except ValueError:
            return
        if libc.fileno(stream) != descriptor:  # silenced before, or redirected by the program
            continue
        null = libc.fopen(b"/dev/null", b"w")  # never closed: a library may keep it
        if null is not None:
            stream.value = null
