"""How long to wait before the broker is tried again."""

from __future__ import annotations

import random

STABLE_SECONDS = 10.0  # a connection that held for this long starts the backoff over


class Backoff:
    """Waits that double with every attempt in vain, half of each chance.

    The chance keeps a thousand devices from coming back in the same second when their broker does.

    Args:
        min_seconds: the longest first wait.
        max_seconds: the longest wait of all.
        chance: where the chance comes from.
    """

    def __init__(self, min_seconds: float, max_seconds: float, chance: random.Random | None = None) -> None:
        self._min_seconds = min_seconds
        self._max_seconds = max_seconds
        self._chance = chance or random.Random()  # noqa: S311 - no secret
        self._attempt = 0

    def wait_seconds(self, held_seconds: float) -> float:
        """How long to wait after an attempt that failed, or a connection that was lost.

        Args:
            held_seconds: how long the connection stood; 0 when none came about.
        """
        if held_seconds >= STABLE_SECONDS:
            self._attempt = 0
        longest = min(self._max_seconds, self._min_seconds * 2.0 ** min(self._attempt, 32))
        self._attempt += 1
        return longest * self._chance.uniform(0.5, 1.0)
