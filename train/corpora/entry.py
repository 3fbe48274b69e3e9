"""What a reader says of one recording, before the audio itself is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# In the order of preference, where a corpus ships the same clip in several.
AUDIO_SUFFIXES = (".wav", ".flac", ".opus", ".ogg", ".mp3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recording as its corpus describes it; see table.Utterance for the fields. fold 0: not assigned.

    Attributes:
        corpus: where a manifest names it.
        clip: what its corpus calls it; two files of one name are one clip. Empty: the path is its name.
        start_s: where in the file it begins, seconds; None: the file is the clip.
        end_s: where it ends.
    """

    path: Path
    speaker: str
    corpus: str = ""
    clip: str = ""
    start_s: float | None = None
    end_s: float | None = None
    emotion: str = ""
    soft: Mapping[str, float] = field(default_factory=dict)
    sex: str = ""
    intensity: str = ""
    stress: float | None = None
    arousal: float | None = None
    valence: float | None = None
    fold: int = 0
    statement: str = ""

    @property
    def place(self) -> str:
        """The file, and the part of it: what `audio.read_audio` reads."""
        return str(self.path) if self.start_s is None else f"{self.path}#t={self.start_s:.3f},{self.end_s:.3f}"
