"""Place of the history file that the settings name, or that the system service writes, and why there is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from edge_sser.errors import HistoryError
from edge_sser.files import resolve_path
from edge_sser.settings.file import SYSTEM_FILE, places
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
            f"there is no history, since no settings file was found ({' or '.join(map(str, places(os.environ)))}): "
            "write [history] into one, and run edge-sser listen"
        )
    if section is None or not section.enabled:
        lack = "has no [history]: write it there" if section is None else "turns it off: set history.enabled = true"
        raise HistoryError(f"there is no history: {loaded.path or 'the environment'} {lack}, and run edge-sser listen")
    asks = f"{loaded.path} asks" if loaded.path else "the environment asks"
    raise HistoryError(f"{path}: no history has been written here yet, though {asks} for one: {_first_step(path)}")


def _first_step(path: Path) -> str:
    """Returns what makes a history begin at a path."""
    if path.is_relative_to(SERVICE_STATE):
        return f"start the service with [history] in {SYSTEM_FILE}; edge-sser service status tells if it runs"
    listen = "run edge-sser listen with these settings, and ask again"
    return listen if os.geteuid() == 0 else f"{listen}; sudo edge-sser history asks the system service's"


def _is_missing(path: Path) -> bool:
    """Returns True when there is no such file; False also for one that this user may not see."""
    try:
        path.stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
