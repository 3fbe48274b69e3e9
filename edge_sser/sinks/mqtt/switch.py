"""The pause switch: whether to listen, remembered over a restart."""

from __future__ import annotations

import logging
from pathlib import Path

from edge_sser.files import make_folder, sync

log = logging.getLogger("edge_sser.mqtt")


class Switch:
    """Whether to listen. Paused is a file that exists, which cannot be half written.

    Args:
        path: the file.

    Attributes:
        on: whether to listen.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.on = not path.exists()
        except OSError:  # a directory that may not even be looked into
            self.on = True

    def turn(self, on: bool) -> None:
        """Remembers a decision. One that cannot be written down holds until the program ends."""
        self.on = on
        try:
            if self._path.exists() is not on:  # it stands there already: spare the medium
                return
            make_folder(self._path.parent, 0o700)
            if on:
                self._path.unlink(missing_ok=True)
            else:
                self._path.touch()
            sync(self._path.parent)
        except OSError as error:
            log.warning("%s: %s; whether to listen will not survive a restart", self._path, error.strerror)
