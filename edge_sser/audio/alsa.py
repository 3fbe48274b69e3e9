"""Who records from a sound card.

ALSA gives a card's microphone to one program at a time, and while another has it PortAudio does not even list it. The
kernel says who that is, to everybody.
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
        microphone_id: of what it holds, as `list_microphones` names it while it is free.
        pid: of the process; 0 when it is in another container.
        program: its name, `?` when it cannot be told.
    """

    microphone_id: str
    pid: int
    program: str

    @property
    def is_edge_sser(self) -> bool:
        """Whether it is an edge-sser, the running service for example."""
        return self.program == PROGRAM

    def __str__(self) -> str:
        return f"{self.program} (pid {self.pid})"


def hardware_id(card_id: str, device: int) -> str:
    """A hardware microphone's id: its card's, and the number of the device unless that is 0.

    Examples:
        >>> hardware_id("PCH", 2)
        'pch-2'
    """
    return slug(card_id, "card") + (f"-{device}" if device else "")


def holders() -> list[Holder]:
    """Every program that holds all there is of a card's microphone. One that merely shares it is not among them."""
    return [holder for path in sorted(ALSA.glob("card*/pcm*c")) for holder in _holder(path)]


def _holder(pcm: Path) -> Iterator[Holder]:
    place = _CAPTURE.search(str(pcm))
    statuses = [_text(path) for path in sorted(pcm.glob("sub*/status"))]
    if place is None or not statuses or any("owner_pid" not in status for status in statuses):
        return  # `closed`: there is one to be had
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
    except OSError:  # gone since, or another user's and hidden
        return ""


def silence_c_output() -> None:
    """Points the C library's `stdout` and `stderr` at /dev/null for the rest of the process; again changes nothing.

    Those variables and nothing else: file descriptors 1 and 2, Python's `sys.stdout` and `sys.stderr`, C++ streams and
    the C runtime's abort messages stay as they are. (Redirecting descriptor 2 instead would swallow the log lines of
    other threads.) Where they are no variables (musl), the libraries go on printing.
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
        if libc.fileno(stream) != descriptor:  # silenced before, or the program arranged its own
            continue
        null = libc.fopen(b"/dev/null", b"w")  # never closed: a library may hold on to it
        if null is not None:
            stream.value = null
