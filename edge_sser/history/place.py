"""Place of the history file that the settings name, or that the system service writes, and why there is none."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Final

from edge_sser.errors import HistoryError
from edge_sser.files import resolve_path
from edge_sser.settings.file import SYSTEM_FILE, USER_FILE
from edge_sser.settings.load import Loaded
from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import HistorySettings

SERVICE_STATE: Final = Path("/var/lib/edge-sser")  # StateDirectory of the unit


def history_file(settings: Settings) -> Path:
    """Returns the history file of the settings; the service's when there is none below the user's state directory.

    Raises:
        SettingsError: the path is relative, and there is no state directory.
    """
    section = settings.history or HistorySettings()
    own = resolve_path(section.path)
    service = SERVICE_STATE / section.path
    # A user may see that there is a service, but not its files: the message then speaks of the service's.
    return service if not os.path.exists(own) and os.path.lexists(SERVICE_STATE) else own


def existing_history(loaded: Loaded) -> Path:
    """Returns the history file of the settings.

    Raises:
        HistoryError: there is none; the message says if the settings ask for one, and who would write it.
        SettingsError: the path is relative, and there is no state directory.
    """
    path = history_file(loaded.settings)
    if not _is_missing(path):
        return path
    section = loaded.settings.history
    if section is None and loaded.path is None:
        raise HistoryError(
            f"there is no history, since no settings file was found ({USER_FILE} or {SYSTEM_FILE}): write [history] "
            "into one, and run edge-sser listen"
        )
    if section is None or not section.enabled:
        lack = "has no [history]: write it there" if section is None else "turns it off: set history.enabled = true"
        raise HistoryError(f"there is no history: {loaded.path or 'the environment'} {lack}, and run edge-sser listen")
    raise HistoryError(
        f"{path}: there is no history yet: {loaded.path or 'the environment'} asks for one, but nothing has been "
        f"written here: {_writer(path)}"
    )


def _writer(path: Path) -> str:
    """Returns who would write a file, as a question."""
    if path.is_relative_to(SERVICE_STATE):
        return f"does the service run, with [history] in {SYSTEM_FILE}? edge-sser service status tells"
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = f"user {os.geteuid()}"
    return (
        f"does edge-sser listen, or a service --user, run as {user}? sudo edge-sser history asks the system service's"
    )


def _is_missing(path: Path) -> bool:
    """Returns True when there is no such file; False also for one that this user may not see."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
