"""Keeps what C libraries print about sound out of standard error, so that a failure stays one clear line.

ALSA, JACK and PortAudio print dozens of lines whenever devices are listed, and more from a thread of their own when a
device dies; the MP3 decoder prints about damaged files. All of them write to the C library's `stderr` stream.
"""

from __future__ import annotations

import ctypes


def silence_c_stderr() -> None:
    """Points the C library's `stderr` at /dev/null for the rest of the process; a second call changes nothing.

    That variable and nothing else: file descriptor 2, Python's `sys.stderr`, C++ streams and the C runtime's abort
    messages stay as they are. (Redirecting descriptor 2 instead would swallow the log lines of other threads.) Where
    `stderr` is not a variable (musl), the libraries go on printing.
    """
    libc = ctypes.CDLL(None)
    try:
        stderr = ctypes.c_void_p.in_dll(libc, "stderr")
    except ValueError:
        return
    libc.fileno.argtypes = [ctypes.c_void_p]
    libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    libc.fopen.restype = ctypes.c_void_p
    if libc.fileno(stderr) != 2:  # silenced before, or the program arranged its own
        return
    null = libc.fopen(b"/dev/null", b"w")  # never closed: a library may hold on to it
    if null is not None:
        stderr.value = null
