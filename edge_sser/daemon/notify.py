"""What systemd is told: ready, a status line, and that work goes on.

The protocol of sd_notify(3): one datagram of `NAME=value` lines to the socket that $NOTIFY_SOCKET names. Without that
variable nothing is sent, so the program need not know whether systemd started it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

SEND_SECONDS: Final = 0.5  # for a service manager that does not read; a status line is not worth more
PINGS_PER_TIMEOUT: Final = 2  # of the watchdog, as sd_watchdog_enabled(3) advises

log = logging.getLogger("edge_sser.service")


class Notifier:
    """Sends to the service manager. Never raises: a program goes on whether or not somebody hears about it.

    Args:
        address: a socket's path, or a name after `@` in the abstract namespace; None sends nothing.

    Attributes:
        wanted: whether somebody asked to be told.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._failing = False
        self._status = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """The notifier for the service manager that started this process, if one did."""
        address = environ.get("NOTIFY_SOCKET", "")
        return cls(address if address[:1] in ("/", "@") and len(address) > 1 else None)

    @property
    def wanted(self) -> bool:
        """See the class."""
        return self._address is not None

    def ready(self, status: str = "") -> None:
        """Start-up, or a reload, has finished."""
        self._status = _one_line(status) or self._status
        self._send("READY=1", *([f"STATUS={self._status}"] if self._status else []))

    def status(self, text: str) -> None:
        """What `systemctl status` shows: one line for a person. The same line again is not sent again."""
        line = _one_line(text)
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def reloading(self) -> None:
        """Settings are being read again. `ready` must follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The program has begun to end."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Keeps the watchdog from ending the program. Use a `Watchdog`, which knows when that is true."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(SEND_SECONDS)
                channel.sendto("\n".join(lines).encode(), address)
        except (OSError, ValueError) as error:  # ValueError: an address that no socket can have
            if not self._failing:
                log.warning("the service manager cannot be told anything through %s: %s", self._address, error)
            self._failing = True
        else:
            self._failing = False


class Watchdog:
    """Feeds systemd's watchdog from progress, so that a pipeline that is stuck is ended and started again.

    A ping follows only progress that was made since the last look, or the fact that none is due: no source gives audio,
    or listening is paused. So neither a loop that hangs nor one that turns without doing its work stays alive. Progress
    of the past is not saved up: systemd's timeout runs from the last sign of life, give or take a look.

    Args:
        notifier: whom to tell.
        timeout_seconds: after which systemd ends the program; None when it does not watch.
        clock: seconds on a clock that never goes back.
    """

    def __init__(
        self, notifier: Notifier, timeout_seconds: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._notifier = notifier
        self._interval = None if timeout_seconds is None else timeout_seconds / PINGS_PER_TIMEOUT
        self._clock = clock
        self._progress = 0
        self._pinged_at: float | None = None

    def look(self, progress: int, *, due: bool = True) -> None:
        """To be called often: several times within the timeout.

        Args:
            progress: samples or windows processed so far, over all sources. It only grows; when it does not, because a
                source was opened anew, that counts as none.
            due: whether there should be progress: audio arrives from some source, and listening is not paused.
        """
        advanced = progress > self._progress
        self._progress = progress
        if self._interval is None or (due and not advanced):
            return
        now = self._clock()
        if self._pinged_at is None or now - self._pinged_at >= self._interval:
            self._pinged_at = now
            self._notifier.alive()


def watchdog_timeout_seconds(environ: Mapping[str, str] = os.environ, *, pid: int | None = None) -> float | None:
    """How long systemd waits for a sign of life; None when it does not watch this process.

    Args:
        environ: with WATCHDOG_USEC, microseconds, and perhaps WATCHDOG_PID, the process that is watched.
        pid: of this process; asked for when None.

    Examples:
        >>> watchdog_timeout_seconds({"WATCHDOG_USEC": "30000000"})
        30.0
    """
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
        watched = int(environ.get("WATCHDOG_PID") or 0)
    except ValueError:
        log.warning("WATCHDOG_USEC and WATCHDOG_PID must be numbers: the watchdog is not fed")
        return None
    mine = os.getpid() if pid is None else pid
    return microseconds / 1e6 if microseconds > 0 and watched in (0, mine) else None


def _one_line(text: str) -> str:
    return " ".join(text.split())
