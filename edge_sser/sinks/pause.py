"""The switch that pauses listening, remembered over a restart."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from edge_sser.files import make_folder, sync

PAUSE_FILE: Final = "paused"  # in the state directory

log = logging.getLogger("edge_sser.output")


class PauseSwitch:
    """Turns listening on and off. Paused is an empty file, never half written, which other programs may make or remove.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unstored: bool | None = None  # a state that is not stored, or not yet

    @property
    def on(self) -> bool:
        """True to listen."""
        if self._unstored is not None:
            return self._unstored
        try:
            return not self._path.exists()
        except OSError:  # a directory that may not be read
            return True

    def turn(self, on: bool) -> None:
        """Sets and stores the state. A state that cannot be stored holds until the program ends."""
        self._unstored = on  # in effect at once, also while a slow medium stores it
        try:
            if self._path.exists() is on:  # the file stands for a pause: without a change, spare the medium
                make_folder(self._path.parent, 0o700)
                if on:
                    self._path.unlink(missing_ok=True)
                else:
                    self._path.touch()
                sync(self._path.parent)
            self._unstored = None
        except OSError as error:
            log.warning("%s: %s; a pause or its end will not survive a restart", self._path, error.strerror)
