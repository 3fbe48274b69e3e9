"""What the service manager hears of listening: that it has begun, how it goes, that it moves, that it ends."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sser.daemon.notify import Notifier, Watchdog, watchdog_timeout_seconds
from edge_sser.daemon.session import SourceSession


class Supervisor:
    """Tells the service manager; nothing without one.

    Args:
        notifier: whom to tell.
        watchdog_seconds: after which it ends a program that is stuck; None when it does not watch.
    """

    def __init__(self, notifier: Notifier, watchdog_seconds: float | None) -> None:
        self._notifier = notifier
        self._watchdog = Watchdog(notifier, watchdog_seconds)
        self._ready = False

    @classmethod
    def from_environment(cls) -> Supervisor:
        """For the service manager that started this process, if one did."""
        return cls(Notifier.from_environment(), watchdog_timeout_seconds())

    def look(self, captures: Sequence[SourceSession]) -> None:
        """To be called every round. Ready is who heard something or is not to listen; the model is warm by then."""
        if not self._notifier.wanted:
            return
        words = "; ".join(each.words for each in captures)
        if self._ready:
            self._notifier.status(words)
        elif any(each.heard or each.paused for each in captures):
            self._ready = True
            self._notifier.ready(words)
        self._watchdog.look(sum(each.processed for each in captures), due=any(each.flowing for each in captures))

    def reloading(self) -> None:
        """Settings are being read again."""
        if self._ready:
            self._notifier.reloading()

    def reloaded(self) -> None:
        """They have been."""
        if self._ready:
            self._notifier.ready()

    def stopping(self) -> None:
        """Listening ends."""
        self._notifier.stopping()
