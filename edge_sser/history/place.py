"""Place of the history file that the settings name, or that the system service writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from edge_sser.files import resolve_path
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
