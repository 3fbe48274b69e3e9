"""A witness beside the outbox of how far it had come, to notice that a power cut has taken back its newest changes.

The file holds the number of events ever put into the outbox, the boot of the machine and the stream in use. It is
written when the outbox is opened, before anything is sent, and after each commit of events. It is not flushed: the
system keeps it when the program is killed. After another boot nothing is certain, because a medium may lose what it had
called flushed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class OutboxMark:
    """The witness.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._boot = ""
        with suppress(OSError):
            self._boot = BOOT_ID.read_text("ascii").strip()

    def missing(self, puts: int, stream: str) -> int | None:
        """Returns how many events are missing from an outbox; None when that is unknown.

        Args:
            puts: events ever put into the outbox.
            stream: of the outbox; empty when it has none yet. The mark of another stream says nothing.
        """
        try:
            number, boot, marked = self._path.read_text("ascii").split()
            return max(0, int(number) - puts) if boot == self._boot and stream in ("", marked) else None
        except (OSError, ValueError):
            return None

    def write(self, puts: int, stream: str) -> None:
        """Writes the number of events put so far, and their stream. A file that cannot be written costs a stream."""
        line = f"{puts:>20} {self._boot} {stream}\n".encode()
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, line, 0)
            finally:
                os.close(descriptor)
