"""Waits between attempts to connect."""

from __future__ import annotations

import random

STABLE_SECONDS = 10.0  # a connection that lasted this long resets the backoff


class Backoff:
    """Exponential backoff with jitter: waits double with every failed attempt, half of each is random.

    The jitter keeps a thousand devices from reconnecting in the same second.

    Args:
        min_seconds: the longest first wait.
        max_seconds: the longest wait of all.
    """

    def __init__(self, min_seconds: float, max_seconds: float, rng: random.Random | None = None) -> None:
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._rng = rng or random.Random()  # noqa: S311 - no secret
        self._attempt = 0

    def wait_seconds(self, connected_seconds: float) -> float:
        """Returns the wait after a failed attempt, or after a connection that lasted `connected_seconds`."""
        if connected_seconds >= STABLE_SECONDS:
            self._attempt = 0
        longest = min(self._max_seconds, self._min_seconds * 2.0 ** min(self._attempt, 32))
        self._attempt += 1
        return longest * self._rng.uniform(0.5, 1.0)
