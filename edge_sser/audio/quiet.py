"""Keeps what C libraries print about sound out of the program's output, so that a failure stays one clear line.

ALSA, JACK and PortAudio print dozens of lines whenever devices are listed, and more from a thread of their own when a
device dies; the MP3 decoder prints about damaged files. All of them write to the C library's `stderr` stream. And
libsndfile prints about damaged MIDI sample dumps, to `stdout`, among the events.
"""

from __future__ import annotations

import ctypes


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
