"""Log lines as the journal wants them: with their priority, and without the time that it notes itself."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final, TextIO

# Levels of logging -> priorities of syslog(3), which systemd reads as <N> at the start of a line.
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY: Final = 7
ERROR_PREFIX: Final = "<3>"  # of a line that does not come through logging


class JournalFormatter(logging.Formatter):
    """`<4>text`: the priority on every line of a record, for the journal takes each line as an entry of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with its priority."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG_PRIORITY)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines() or [""])


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
