"""What a reader says of one recording, before the audio itself is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".opus", ".ogg", ".mp3"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One recording as its corpus describes it; see table.Utterance for the fields. fold 0: not assigned."""

    path: Path
    speaker: str
    emotion: str
    sex: str = ""
    intensity: str = ""
    fold: int = 0
