"""Faults of the machine for one process: its clock is set, its disk becomes read-only. See faults.c."""

from __future__ import annotations

import subprocess
from pathlib import Path

from components import require_programs

SOURCE = Path(__file__).with_name("faults.c")


class Faults:
    """Compiles the library; a process started with `environment` then has the faults that are in force here.

    Args:
        directory: for the library and what is in force; made when missing.
    """

    def __init__(self, directory: Path) -> None:
        require_programs("gcc", packages="gcc")
        library = directory / "faults.so"
        self._directory = directory / "in-force"
        self._directory.mkdir(parents=True)
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        self.environment = {"LD_PRELOAD": str(library), "FAULTS": str(self._directory)}

    def set_clock(self, off_by_seconds: int) -> None:
        """Sets the wall clock to a number of seconds after, or before, the right time."""
        self._put("clock", str(off_by_seconds))

    def make_read_only(self, directory: Path) -> None:
        """Makes everything below a directory read-only, open files included."""
        self._put("read-only", str(directory))

    def make_writable(self) -> None:
        """Ends the read-only fault."""
        (self._directory / "read-only").unlink()

    def _put(self, name: str, content: str) -> None:
        new = self._directory / "new"
        new.write_text(content)
        new.rename(self._directory / name)  # as a whole, since it is read at any moment
