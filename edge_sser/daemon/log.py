"""The program's log: on standard error, with priorities for systemd's journal, and rate-limited."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from edge_sser.errors import SinkError, goes_to_journal
from edge_sser.events import Health, HealthState
from edge_sser.sinks.stdout import NonBlockingWriter
from edge_sser.sinks.terminal import detail_text

# Levels of logging -> priorities of syslog(3), which systemd reads as <N> at the start of a line.
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY: Final = 7
LINES_A_MINUTE: Final = 10  # of one kind
_MINUTE_SECONDS: Final = 60.0


class JournalFormatter(logging.Formatter):
    """Formatter of `<4>text`: the priority on every line of a record, because the journal stores each line alone."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record with its priority."""
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG_PRIORITY)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines() or [""])


class RateLimitFilter(logging.Filter):
    """Limits the lines of each kind a minute: messages that others cause must not fill a disk.

    A kind is a record's text before values are put into it.

    Args:
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._counts: dict[str, tuple[float, int]] = {}  # kind -> start of its minute, lines since

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns True when the record is within the limit. The last one before the limit says so."""
        now = self._clock()
        begun, lines = self._counts.get(str(record.msg), (now, 0))
        if now - begun >= _MINUTE_SECONDS:
            begun, lines = now, 0
        self._counts[str(record.msg)] = begun, lines + 1
        if lines + 1 == LINES_A_MINUTE:
            record.msg, record.args = "%s (more such lines are left out for a minute)", (record.getMessage(),)
        return lines < LINES_A_MINUTE


class StandardErrorHandler(logging.Handler):
    """Log handler for standard error that never waits for its reader."""

    def __init__(self) -> None:
        super().__init__()
        self._writer = NonBlockingWriter(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record."""
        with suppress(SinkError):  # the reader has gone: no place is left for the message
            self._writer.write_text(self.format(record) + "\n")

    def close(self) -> None:
        """Waits a little for the reader to take the rest."""
        with suppress(SinkError):
            self._writer.close()
        super().close()


class LineHandler(logging.Handler):
    """Log handler that hands each record to a function as text.

    Args:
        show: takes the text; called in the thread that logs.
    """

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Hands over the record."""
        self._show(self.format(record))


@contextmanager
def log_to_stderr(level: str, view: Callable[[str], None] | None = None) -> Iterator[logging.Logger]:
    """Sends the program's log to standard error, or to the live view where both share a terminal.

    Args:
        level: lowest level to be logged, in lower case.
        view: shows a line in the live view; None without one.
    """
    # Standard error may have been closed by whoever started this.
    handler: logging.Handler = logging.NullHandler() if sys.stderr is None else StandardErrorHandler()
    if view is not None and sys.stderr is not None and sys.stderr.isatty():
        handler = LineHandler(view)
    formatter = JournalFormatter if goes_to_journal(sys.stderr) else logging.Formatter
    handler.setFormatter(formatter("edge-sser: %(message)s"))
    handler.addFilter(RateLimitFilter())
    log = logging.getLogger("edge_sser")
    level_before = log.level
    log.setLevel(level.upper())
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        handler.close()
        log.setLevel(level_before)


def log_health(health: Health) -> None:
    """Logs a change of health. A missing source is logged by its session, with the retries."""
    if health.state is HealthState.MISSING:
        return
    level = logging.WARNING if health.detail else logging.INFO
    logging.getLogger("edge_sser.daemon").log(
        level, "%s is %s%s", health.source, health.state.value, detail_text(health)
    )
