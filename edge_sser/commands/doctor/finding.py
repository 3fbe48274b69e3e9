"""What a check looks at, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edge_sser.settings.schema import Settings


class State(str, Enum):
    """How a check went."""

    FINE = "fine"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        detail: what was found.
        remedy: what to do; empty when all is well, or when the detail says it.
    """

    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What the checks look at.

    Attributes:
        settings: in effect; the defaults when they cannot be read.
        microphones: devices of the sources that are microphones, as settings name them.
        microphone_wanted: the settings name a microphone. Without a source in them it is only the default.
        settings_file: that the settings were read from; None when there is none, or it is wrong.
    """

    settings: Settings
    microphones: tuple[str, ...]
    microphone_wanted: bool
    settings_file: Path | None = None

    @property
    def microphone_trouble(self) -> State:
        """What a missing microphone is: no problem for somebody who analyses recordings."""
        return State.PROBLEM if self.microphone_wanted else State.WARNING


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong. `look` may raise an EdgeSserError: its message is the finding."""

    name: str
    look: Callable[[CheckContext], Finding]
