"""Log lines as the journal wants them: with their priority, without the time that it notes itself, and not too many."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Final, TextIO

# Levels of logging -> priorities of syslog(3), which systemd reads as <N> at the start of a line.
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY: Final = 7
ERROR_PREFIX: Final = "<3>"  # of a line that does not come through logging
LINES_A_MINUTE: Final = 10  # of one kind
_MINUTE_SECONDS: Final = 60.0


class JournalFormatter(logging.Formatter):
    """`<4>text`: the priority on every line of a record, for the journal takes each line as an entry of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with its priority."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG_PRIORITY)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines() or [""])


class RateLimitFilter(logging.Filter):
    """Leaves lines out when many of a kind come: what others send must not fill a disk.

    A kind is a record's text before values are put into it.

    Args:
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[str, tuple[float, int]] = {}  # kind -> when its minute began, lines since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be shown. The last one before others are left out says so."""
        now = self._clock()
        begun, lines = self._said.get(str(record.msg), (now, 0))
        if now - begun >= _MINUTE_SECONDS:
            begun, lines = now, 0
        self._said[str(record.msg)] = begun, lines + 1
        if lines + 1 == LINES_A_MINUTE:
            record.msg, record.args = "%s (more such lines are left out for a minute)", (record.getMessage(),)
        return lines < LINES_A_MINUTE


def goes_to_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream is the one that systemd connected to the journal, and not a terminal or a file since.

    Args:
        stream: standard error, usually.
        environ: with JOURNAL_STREAM, the device and inode of that stream.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
