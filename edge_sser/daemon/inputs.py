"""Inputs of the loop: sources that can be opened, the time, and the sound cards of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_sser.audio.source import Source


@dataclass(frozen=True, slots=True)
class Clocks:
    """The time, injected so that tests own it.

    Attributes:
        monotonic: seconds on a clock that never goes back.
        wall: seconds since the epoch.
        sleep: waits for seconds.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Input:
    """A source that can be opened.

    Attributes:
        name: the source's, in events.
        open: opens the source; raises SourceError when it is not there.
        reopens: True for a microphone, which can be opened again; False for a recording or pipe.
        keeps_baseline: True when its baseline is kept across restarts; False for a recording, whose events depend on
            nothing but itself, and for a pipe without a name of its own, which may bring another room each time.
    """

    name: str
    open: Callable[[], Source]
    reopens: bool
    keeps_baseline: bool = False


class CardWatch:
    """Notices a sound card that is plugged in.

    Args:
        cards: lists the sound cards of this moment, number -> id.
    """

    def __init__(self, cards: Callable[[], Mapping[int, str]]) -> None:
        self._cards = cards
        self._known = set(cards().items())

    def new_card(self) -> bool:
        """Returns True when there is a card that was not there at the last call."""
        known, self._known = self._known, set(self._cards().items())
        return not self._known <= known
