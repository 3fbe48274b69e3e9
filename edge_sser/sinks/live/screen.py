"""The terminal of the live view: alternate screen, keys, and frames of which only changed rows are sent."""

from __future__ import annotations

import os
import select
import termios
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from rich.color import ColorSystem
from rich.style import Style

from edge_sser.sinks.live.row import Row
from edge_sser.sinks.stdout import NonBlockingWriter

LEAVE_SECONDS: Final = 0.5  # for a slow terminal to take the sequence that restores it
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"  # alternate screen, no cursor, clear
_LEAVE: Final = "\x1b[0m\x1b[?25h\x1b[?1049l"
_ROW: Final = "\x1b[{};1H{}\x1b[K"
_KEYS: Final = {"\x1b[A": "k", "\x1b[B": "j", "\x1bOA": "k", "\x1bOB": "j", "\x1b[5~": "b", "\x1b[6~": " "}
_KEYS_BYTES: Final = 64  # read at once


def is_capable(environ: dict[str, str] | os._Environ[str] = os.environ) -> bool:
    """Returns True when the terminal can move its cursor, by TERM."""
    return environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


class Screen:
    """A terminal, and its state before the view. Belongs to one thread, but for `restore_keys`.

    Keys come from the controlling terminal, as those of `less` do, since standard input may carry audio.

    Attributes:
        active: True between `enter` and `leave`.
        keys: True when keys can be read.
    """

    def __init__(self, writer: NonBlockingWriter, output_fd: int) -> None:
        self._writer = writer
        self._output_fd = output_fd
        self._keys_fd: int | None = None
        with suppress(OSError):
            self._keys_fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        self._modes_before: list[Any] | None = None
        self._shown: list[str] = []
        self._encoded: dict[tuple[tuple[str, str], ...], str] = {}  # rows of the last frame
        self._size = (0, 0)
        self._no_color = bool(os.environ.get("NO_COLOR"))
        self.active = False

    @property
    def keys(self) -> bool:
        """True when keys can be read."""
        return self._keys_fd is not None

    @property
    def in_foreground(self) -> bool:
        """True unless the shell has put this program into the background, where a terminal is not ours."""
        if self._keys_fd is None:
            return True
        try:
            return os.tcgetpgrp(self._keys_fd) == os.getpgrp()
        except OSError:  # the terminal has gone
            return True

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            columns, rows = os.get_terminal_size(self._output_fd)
        except OSError:
            columns, rows = 0, 0
        return columns or 80, rows or 24

    def enter(self) -> None:
        """Switches to the alternate screen, and to keys without echo."""
        if self._keys_fd is not None:
            with suppress(termios.error):
                self._modes_before = termios.tcgetattr(self._keys_fd)
                modes = termios.tcgetattr(self._keys_fd)
                modes[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl-C and Ctrl-Z still send signals
                termios.tcsetattr(self._keys_fd, termios.TCSANOW, modes)
        self.active, self._shown = True, []
        self._writer.write_text(_ENTER)

    def leave(self) -> None:
        """Restores the terminal."""
        self.restore_keys()
        if self.active:
            self.active = False
            self._writer.write_text(_LEAVE)
            self._writer.flush(LEAVE_SECONDS)

    def restore_keys(self) -> None:
        """Restores the modes of the keyboard. Never waits."""
        modes, self._modes_before = self._modes_before, None
        if modes is not None and self._keys_fd is not None and self.in_foreground:
            with suppress(termios.error):
                termios.tcsetattr(self._keys_fd, termios.TCSANOW, modes)

    def close(self) -> None:
        """Closes what was opened for keys."""
        if self._keys_fd is not None:
            os.close(self._keys_fd)
            self._keys_fd = None

    def wait(self, wake_fd: int, seconds: float) -> str:
        """Waits for keys, or a byte in `wake_fd`. Returns the keys, arrows as j and k."""
        # A program in the background that read the terminal would be stopped.
        readable = self._keys_fd if self.active and self.in_foreground else None
        ready, _, _ = select.select([wake_fd] if readable is None else [wake_fd, readable], [], [], seconds)
        if wake_fd in ready:
            os.read(wake_fd, _KEYS_BYTES)
        if readable is None or readable not in ready:
            return ""
        try:
            text = os.read(readable, _KEYS_BYTES).decode("ascii", "ignore")
        except OSError:
            text = ""
        if not text:  # the terminal has hung up
            self.close()
        for sequence, key in _KEYS.items():
            text = text.replace(sequence, key)
        return text.partition("\x1b")[0]

    def draw(self, rows: Sequence[Row]) -> None:
        """Sends the rows that differ from those shown; none while the terminal has not taken the last ones."""
        if not self._writer.flush():
            return
        lines = self._encode(rows)
        size = self.size
        if size != self._size:
            self._size, self._shown = size, []
            self._writer.write_text("\x1b[2J")
        before = [*self._shown, *[""] * (len(lines) - len(self._shown))]
        changed = [_ROW.format(row + 1, line) for row, line in enumerate(lines) if line != before[row]]
        self._shown = lines
        if changed:
            self._writer.write_text("".join(changed))

    def _encode(self, rows: Sequence[Row]) -> list[str]:
        known, keys = self._encoded, [tuple(row.pieces) for row in rows]
        self._encoded = {key: known.get(key) or "".join(self._styled(*piece) for piece in key) for key in keys}
        return [self._encoded[key] for key in keys]

    def _styled(self, text: str, words: str) -> str:
        style = Style.parse(words)  # a cache of rich's
        return (style.without_color if self._no_color else style).render(text, color_system=ColorSystem.STANDARD)
