"""Input and result of a check, and the secrets that checks look for."""

from __future__ import annotations

import os
from collections.abc import Mapping
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


def credential(context: CheckContext, name: str) -> Path | None:
    """Returns the file of the systemd credential: of this process, else the one beside the settings for a service."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    folder = Path(directory) if directory else context.settings_file and context.settings_file.parent
    return folder / name if folder and (folder / name).exists() else None


def credential_environ(file: Path | None) -> Mapping[str, str]:
    """Returns the environment in which the credential of a file is found; without one, none is."""
    return {} if file is None else {"CREDENTIALS_DIRECTORY": str(file.parent)}


def secret_file(context: CheckContext, path: Path) -> Path | None:
    """Returns the file of a secret of the settings: a relative path is the name of a credential, None if not found."""
    path = Path(os.path.expanduser(path))
    return path if path.is_absolute() else credential(context, str(path))


def not_tried(context: CheckContext, noun: str, file: Path, given: Path | None = None) -> Finding | None:
    """Returns a finding when this user may not read a credential of the service; None when it can.

    Args:
        context: of the check.
        noun: for the message.
        file: of the credential.
        given: the setting that names it: a whole path there is no credential, and its reader says what is wrong.
    """
    whole = given is not None and Path(os.path.expanduser(given)).is_absolute()
    if whole or os.access(file, os.R_OK) or not file.exists():  # a missing one is named by its reader
        return None
    return Finding(
        State.WARNING,
        f"not tried: this user may not read the service's {noun}, {file}",
        f"sudo edge-sser doctor --config {context.settings_file}",
    )
