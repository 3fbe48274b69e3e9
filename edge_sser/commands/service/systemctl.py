"""Runs systemctl, and reads the state of the service."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_sser.errors import EdgeSserError

UNIT: Final = "edge-sser.service"
WEB_UNIT: Final = "edge-sser-web.service"
BOOTED: Final = Path("/run/systemd/system")  # exists when systemd runs this machine: sd_booted(3)
_PROPERTIES: Final = ("LoadState", "ActiveState", "SubState", "StatusText", "Result", "ExecMainStatus", "NRestarts")

# Exit statuses of systemd (systemd.exec(5)) and of edge-sser, in words.
_STATUS_MEANINGS: Final = {
    1: "it could not go on, and its last line in the log says why",
    2: "a setting is wrong, and it is not started again before that is corrected",
    203: "its program is not where the unit says: install the service again",
    216: "there is no group audio: groupadd --system audio",
    226: "the unit's fences cannot be set up here, as in a container without namespaces",
    243: "the file with the broker's password cannot be read",
}
_RESULT_MEANINGS: Final = {
    "watchdog": "it was stuck, and the watchdog ended it",
    "timeout": "no audio came while it started, or it did not end in time: edge-sser devices shows the microphones",
    "oom-kill": "the machine ran out of memory",
    "signal": "it was killed, or crashed",
    "core-dump": "it crashed",
    "resources": "systemd could not prepare it; the log says why",
}


class ServiceError(EdgeSserError):
    """The service cannot be installed, controlled or removed."""


@dataclass(frozen=True, slots=True)
class UnitState:
    """State of a service in systemd.

    Attributes:
        active: active, activating, failed, inactive and so on.
        sub: the same in more detail: running, auto-restart, dead.
        status: last status text of the program; empty for none.
        result: result of its last run; `success` while nothing failed.
    """

    active: str
    sub: str
    status: str
    result: str
    exit_status: int
    restarts: int

    @property
    def trouble(self) -> str:
        """Reason why the service ended, in words; empty when nothing is wrong."""
        if self.result == "success":
            return ""
        if self.result == "exit-code":
            meaning = _STATUS_MEANINGS.get(self.exit_status, "its last lines in the log say why")
            return f"exit status {self.exit_status}: {meaning}"
        return _RESULT_MEANINGS.get(self.result, self.result)


class Systemctl:
    """Service manager of this machine, or of this user.

    Args:
        user: True for the user's manager.
        environ: environment of the commands.
        booted: directory that exists when systemd runs this machine.
    """

    def __init__(self, *, user: bool, environ: Mapping[str, str] = os.environ, booted: Path = BOOTED) -> None:
        self._user = user
        self._environ = environ
        self._booted = booted

    @property
    def running(self) -> bool:
        """True when the manager runs."""
        if not self._booted.is_dir():
            return False
        return not self._user or (Path(self._environ.get("XDG_RUNTIME_DIR") or "/nonexistent") / "systemd").is_dir()

    def line(self, *arguments: str) -> str:
        """Returns a command as text."""
        return " ".join(self._command(arguments))

    def run(self, *arguments: str) -> str:
        """Runs a command of systemctl and returns its output.

        Raises:
            ServiceError: the command failed; the message has its output.
        """
        command = self._command(arguments)
        try:
            done = subprocess.run(command, env=dict(self._environ), capture_output=True, text=True)
        except OSError as error:
            raise ServiceError(f"{command[0]} cannot be run: {error.strerror}: is systemd installed?") from None
        if done.returncode != 0:
            reason = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
            raise ServiceError(f"`{' '.join(command)}` failed: {reason}")
        return done.stdout

    def state(self, unit: str = UNIT) -> UnitState:
        """Returns the state of a unit.

        Raises:
            ServiceError: systemctl failed.
        """
        text = self.run("show", unit, *(f"--property={name}" for name in _PROPERTIES))
        values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return UnitState(
            active=values.get("ActiveState", "unknown"),
            sub=values.get("SubState", "unknown"),
            status=values.get("StatusText", ""),
            result=values.get("Result", "success"),
            exit_status=int(values.get("ExecMainStatus") or 0),
            restarts=int(values.get("NRestarts") or 0),
        )

    def _command(self, arguments: Sequence[str]) -> list[str]:
        return ["systemctl", *(["--user"] if self._user else []), *arguments]
