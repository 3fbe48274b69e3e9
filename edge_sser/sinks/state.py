"""What outlives a restart besides the outbox: where it lives, and whether to listen."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from edge_sser.errors import SettingsError

log = logging.getLogger("edge_sser.mqtt")


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where state lives: what systemd gives, else the user's state directory (XDG base directories).

    Raises:
        SettingsError: there is neither.
    """
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given)
    base = environ.get("XDG_STATE_HOME", "")
    try:
        return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "edge-sser"
    except RuntimeError:
        raise SettingsError("no place for the outbox: set STATE_DIRECTORY or HOME") from None


def placed(path: Path) -> Path:
    """Where a path in the settings is: below the home folder with `~`, below the state directory when relative.

    Raises:
        SettingsError: it is relative, and there is no state directory.
    """
    path = Path(os.path.expanduser(path))  # Path.expanduser fails for an unknown ~user
    return path if path.is_absolute() else state_directory() / path


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
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if on:
                self._path.unlink(missing_ok=True)
            else:
                self._path.touch()
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            log.warning("%s: %s; whether to listen will not survive a restart", self._path, error.strerror)
