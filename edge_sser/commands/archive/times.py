"""Times of recordings: when one began, by its name, its metadata, or the time of its last change."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

from edge_sser.errors import UsageError

MODIFIED: Final = "modified"
METADATA: Final = "metadata"
_DIGITS: Final = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "y": 2, "j": 3, "f": 6}
_MAX_CHUNKS: Final = 64
_BEXT_DATE: Final = 320  # of the date in a bext chunk, EBU Tech 3285: yyyy-mm-dd, then hh-mm-ss, 18 bytes


@dataclass(frozen=True, slots=True)
class TimeRule:
    """Rule for the times of recordings.

    Args:
        text: `modified` (the time of the last change is that of the end), `metadata` (a broadcast WAV's or a date tag),
            or a pattern of strftime that occurs in the file's name, as %Y%m%d_%H%M%S. Without %z it is local time.

    Raises:
        UsageError: the text is none of these.
    """

    text: str = MODIFIED

    def __post_init__(self) -> None:
        """Checks the text."""
        if self.text not in (MODIFIED, METADATA):
            _expression(self.text)

    def started(self, path: Path, *, modified: float, seconds: float) -> float | None:
        """Returns the time of a recording's first sample, unix seconds; None when it is not known.

        Args:
            path: of the recording.
            modified: time of the last change, unix seconds.
            seconds: length; 0 when unknown.
        """
        if self.text == MODIFIED:
            return modified - seconds
        moment = _metadata_time(path) if self.text == METADATA else _name_time(path, self.text)
        return None if moment is None else moment.astimezone().timestamp()  # a naive time is local


def _name_time(path: Path, pattern: str) -> datetime | None:
    found = _expression(pattern).search(path.name)
    with suppress(ValueError):
        return None if found is None else datetime.strptime(found[0], pattern)
    return None


@lru_cache(maxsize=4)
def _expression(pattern: str) -> re.Pattern[str]:
    """Returns the regular expression of a pattern of strftime.

    Raises:
        UsageError: it has no date, or a directive without a fixed number of digits.
    """
    out, rest = "", pattern
    while rest:
        directive = rest[1:2] if rest[0] == "%" else ""
        if directive and directive not in (*_DIGITS, "z", "%"):
            raise UsageError(
                f"--times {pattern}: %{directive} is not known here: use {' '.join('%' + d for d in _DIGITS)} %z"
            )
        if rest[0] == "%" and directive in _DIGITS:
            out += rf"\d{{{_DIGITS[directive]}}}"
        elif directive == "z":
            out += r"(?:Z|[+-]\d\d:?\d\d)"
        else:
            out += re.escape(directive or rest[0])
        rest = rest[2 if directive else 1 :]
    if "%Y" not in pattern and "%y" not in pattern:
        raise UsageError(f"--times {pattern}: expected modified, metadata, or a pattern with a year, as %Y%m%d_%H%M%S")
    return re.compile(out)


def _metadata_time(path: Path) -> datetime | None:
    import soundfile

    with suppress(OSError, ValueError, struct.error):
        text = _bext_date(path)
        if text is not None:
            return datetime.strptime(re.sub(r"\D", "-", text), "%Y-%m-%d-%H-%M-%S")
    with suppress(OSError, ValueError, RuntimeError), soundfile.SoundFile(path) as file:
        return datetime.fromisoformat(file.copy_metadata().get("date", "").replace("Z", "+00:00"))
    return None


def _bext_date(path: Path) -> str | None:
    """Returns date and time of a broadcast WAV, `yyyy-mm-dd-hh-mm-ss`; None without."""
    with path.open("rb") as file:
        if file.read(4) not in (b"RIFF", b"RF64", b"BW64"):
            return None
        file.seek(12)
        for _ in range(_MAX_CHUNKS):
            header = file.read(8)
            if len(header) < 8:
                return None
            name, size = struct.unpack("<4sI", header)
            if name == b"bext":
                file.seek(_BEXT_DATE, 1)
                text = file.read(18).decode("ascii", "replace")
                return f"{text[:10]}-{text[10:]}"
            file.seek(size + size % 2, 1)
    return None
