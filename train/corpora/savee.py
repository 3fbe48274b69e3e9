"""SAVEE (Haq and Jackson, 2009): four men, 120 sentences each.

DC_a01, or a01 in the folder DC: speaker, emotion (a d f h n sa su), sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edge_sser.train.corpora.corpus import Corpus
from edge_sser.train.corpora.table import Entry
from edge_sser.train.data.labels import Emotion

_NAME = re.compile(r"(?:(?P<speaker>DC|JE|JK|KL)_?)?(?P<emotion>sa|su|a|d|f|h|n)(?P<sentence>[0-3]\d)")
_EMOTIONS = {
    "a": Emotion.ANGRY,
    "d": Emotion.DISGUST,
    "f": Emotion.FEARFUL,
    "h": Emotion.HAPPY,
    "n": Emotion.NEUTRAL,
    "sa": Emotion.SAD,
    "su": Emotion.SURPRISED,
}
_SPEAKERS = ("DC", "JE", "JK", "KL")


def _sentences(code: str) -> int:
    return 30 if code == "n" else 15


def _entry(path: Path) -> Entry | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker = match["speaker"] or path.parent.name.upper()
    if speaker not in _SPEAKERS:
        return None
    return Entry(
        path=path,
        clip=f"{speaker}_{match['emotion']}{match['sentence']}",
        speaker=speaker,
        emotion=_EMOTIONS[match["emotion"]].value,
        sex="M",
        fold=_SPEAKERS.index(speaker) + 1,
    )


def _clip_names(found: Sequence[str]) -> Sequence[str]:
    return [
        f"{speaker}_{code}{number:02d}"
        for speaker in _SPEAKERS
        for code in _EMOTIONS
        for number in range(1, _sentences(code) + 1)
    ]


SAVEE = Corpus(
    name="savee",
    title="SAVEE",
    example="DC_a01.wav, or DC/a01.wav",
    obtain="unpack AudioData.zip",
    entry=_entry,
    emotions={emotion.value: 4 * _sentences(code) for code, emotion in _EMOTIONS.items()},
    speakers=_SPEAKERS,
    clip_names=_clip_names,
)
