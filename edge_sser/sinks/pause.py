"""The switch that pauses listening: by command, remembered over a restart, and by the key p of the live view."""

from __future__ import annotations

import logging
from enum import Enum
from pathlib import Path
from typing import Final

from edge_sser.files import make_folder, sync

PAUSE_FILE: Final = "paused"  # in the state directory

log = logging.getLogger("edge_sser.output")


class PauseReason(Enum):
    """Cause of a pause. Several may hold at a time; listening goes on when none does."""

    COMMAND = "command"  # of MQTT, the web page or another program; until one of them ends it, also after a restart
    KEY = "key"  # p in the live view; until p is pressed again, in this run


class PauseSwitch:
    """Turns listening on and off. Paused is an empty file, never half written, which other programs may make or remove.

    Args:
        path: of the file; None where there is no place for it, so that a command holds until the program ends.

    Attributes:
        key: True while the key p pauses this run, beside what commands do.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._unstored: bool | None = None  # a state that is not stored, or not yet
        self.key = False

    @property
    def on(self) -> bool:
        """True unless a command has turned listening off."""
        if self._unstored is not None:
            return self._unstored
        try:
            return self._path is None or not self._path.exists()
        except OSError:  # a directory that may not be read
            return True

    @property
    def reasons(self) -> frozenset[PauseReason]:
        """All that pauses listening now; empty while it goes on."""
        held = {PauseReason.COMMAND: not self.on, PauseReason.KEY: self.key}
        return frozenset(reason for reason, holds in held.items() if holds)

    def press_key(self) -> None:
        """Pauses this run, or ends the pause by the key. A pause by command stays as it is."""
        self.key = not self.key

    def turn(self, on: bool) -> None:
        """Sets and stores the state by command. A state that cannot be stored holds until the program ends."""
        self._unstored = on  # in effect at once, also while a slow medium stores it
        if self._path is None:
            return
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
