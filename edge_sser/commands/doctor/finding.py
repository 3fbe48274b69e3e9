"""Input and result of a check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from edge_sser.settings.schema import Settings


class State(str, Enum):
    """Severity of a finding."""

    FINE = "fine"
    SKIPPED = "skipped"  # something else must be mended first
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of a check.

    Attributes:
        state: severity.
        detail: description for a person.
        remedy: advice; empty when nothing is wrong, or when the detail has the advice.
    """

    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class CheckContext:
    """Input of the checks.

    Attributes:
        settings: settings in effect; the defaults when they cannot be read.
        microphones: devices of the sources that are microphones, as in the settings.
        microphone_configured: True when the settings name a microphone, False when it is the default source.
        settings_file: file of the settings; None when there is none, or it is wrong.
    """

    settings: Settings
    microphones: tuple[str, ...]
    microphone_configured: bool
    settings_file: Path | None = None

    @property
    def microphone_severity(self) -> State:
        """Severity of a missing microphone: only a warning for users who analyse recordings."""
        return State.PROBLEM if self.microphone_configured else State.WARNING
