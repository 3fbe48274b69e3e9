"""Notifications to systemd: ready, a status line, reloads, and watchdog pings.

The protocol of sd_notify(3): one datagram of `NAME=value` lines to the socket that $NOTIFY_SOCKET names. Without that
variable nothing is sent, so the program need not know whether systemd started it.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from edge_sser.daemon.session import SourceSession
from edge_sser.daemon.session_state import SessionState

SEND_SECONDS: Final = 0.5  # for a service manager that does not read; a status line is not worth more
PINGS_PER_TIMEOUT: Final = 2  # of the watchdog, as sd_watchdog_enabled(3) advises

log = logging.getLogger("edge_sser.service")


class Notifier:
    """Sends notifications to the service manager. Never raises: the program goes on without a service manager.

    Args:
        address: path of a socket, or a name after `@` in the abstract namespace; None sends nothing.

    Attributes:
        enabled: True when there is a service manager to notify.
    """

    def __init__(self, address: str | None) -> None:
        self.enabled = address is not None
        self._address = address
        self._failing = False
        self._status = ""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """Returns the notifier for the service manager that started this process, if one did."""
        address = environ.get("NOTIFY_SOCKET", "")
        return cls(address if address[:1] in ("/", "@") and len(address) > 1 else None)

    def ready(self, status: str = "") -> None:
        """Reports that start-up, or a reload, has finished."""
        self._status = " ".join(status.split()) or self._status
        self._send("READY=1", *([f"STATUS={self._status}"] if self._status else []))

    def status(self, text: str) -> None:
        """Sets the line that `systemctl status` shows. The same line again is not sent again."""
        line = " ".join(text.split())
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def reloading(self) -> None:
        """Reports that settings are being read again. `ready` must follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Reports that the program has begun to end."""
        self._send("STOPPING=1")

    def ping(self) -> None:
        """Keeps the watchdog from ending the program. Called by `Watchdog`, which checks for progress."""
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
                log.warning("the service manager cannot be notified through %s: %s", self._address, error)
            self._failing = True
        else:
            self._failing = False


class Watchdog:
    """Sends watchdog pings on progress, so that systemd ends and restarts a pipeline that is stuck.

    A ping follows only progress since the last call, or the fact that none is due: no source gives audio, or listening
    is paused. So neither a loop that hangs nor one that turns without doing its work stays alive. Progress is not saved
    up for later: systemd's timeout runs from the last sign of life, give or take the interval between two calls.

    Args:
        notifier: sends the pings.
        timeout_seconds: after which systemd ends the program; None when systemd does not watch.
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

    def update(self, progress: int, *, due: bool = True) -> None:
        """Sends a ping when one is due and earned. To be called several times within the timeout.

        Args:
            progress: samples or windows processed so far, over all sources. A count that falls, because a source was
                opened again, is no progress.
            due: True when there should be progress: some source gives audio, and listening is not paused.
        """
        advanced = progress > self._progress
        self._progress = progress
        if self._interval is None or (due and not advanced):
            return
        now = self._clock()
        if self._pinged_at is None or now - self._pinged_at >= self._interval:
            self._pinged_at = now
            self._notifier.ping()


class ServiceReporter:
    """Reports the progress of listening to the service manager; does nothing without one.

    Args:
        notifier: sends the notifications.
        watchdog_seconds: after which systemd ends a program that is stuck; None when systemd does not watch.
    """

    def __init__(self, notifier: Notifier, watchdog_seconds: float | None) -> None:
        self._notifier = notifier
        self._watchdog = Watchdog(notifier, watchdog_seconds)
        self._ready = False

    @classmethod
    def from_environment(cls) -> ServiceReporter:
        """Returns the reporter for the service manager that started this process, if one did."""
        return cls(Notifier.from_environment(), watchdog_timeout_seconds())

    def report(self, sessions: Sequence[SourceSession]) -> None:
        """Sends the status line and a watchdog ping. To be called every round.

        The program is ready once a source gave audio or is paused; the model is warm by then.
        """
        if not self._notifier.enabled:
            return
        status = "; ".join(each.status_line for each in sessions)
        if self._ready:
            self._notifier.status(status)
        elif any(each.processed or each.state is SessionState.PAUSED for each in sessions):
            self._ready = True
            self._notifier.ready(status)
        self._watchdog.update(sum(each.processed for each in sessions), due=any(each.receiving for each in sessions))

    def reloading(self) -> None:
        """Reports that settings are being read again."""
        if self._ready:
            self._notifier.reloading()

    def reloaded(self) -> None:
        """Reports that settings have been read again."""
        if self._ready:
            self._notifier.ready()

    def stopping(self) -> None:
        """Reports that listening ends."""
        self._notifier.stopping()


def watchdog_timeout_seconds(environ: Mapping[str, str] = os.environ, *, pid: int | None = None) -> float | None:
    """Returns the time within which systemd expects a ping; None when it does not watch this process.

    Args:
        environ: with WATCHDOG_USEC, microseconds, and perhaps WATCHDOG_PID, the process that is watched.
        pid: of this process; the current one when None.

    Examples:
        >>> watchdog_timeout_seconds({"WATCHDOG_USEC": "30000000"})
        30.0
    """
    try:
        microseconds = int(environ.get("WATCHDOG_USEC", "0"))
        watched = int(environ.get("WATCHDOG_PID") or 0)
    except ValueError:
        log.warning("WATCHDOG_USEC and WATCHDOG_PID must be numbers: no watchdog pings are sent")
        return None
    mine = os.getpid() if pid is None else pid
    return microseconds / 1e6 if microseconds > 0 and watched in (0, mine) else None
