"""A board as tests of engines see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STAND_INS = Path(__file__).parent / "stand_ins"
VERSIONS = ("10.3.0", "11.4.0.106")


@dataclass(frozen=True)
class Board:
    """A machine that can build and run engines.

    Attributes:
        version: of TensorRT.
        engines: folder of engines.
        environment: for processes that run on it.
        log: what memory its GPU gave and took back.
    """

    version: str
    engines: Path
    environment: dict[str, str]
    log: Path

    def memory(self) -> list[str]:
        """A line for each time that memory of the GPU was taken or given back."""
        return self.log.read_text().splitlines() if self.log.exists() else []
