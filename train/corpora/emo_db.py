"""EMO-DB, the Berlin database of emotional speech (Burkhardt et al., INTERSPEECH 2005): ten speakers, ten German texts.

03a01Fa: speaker, text, emotion by its German initial, version.
"""

from __future__ import annotations

import re
from pathlib import Path

from edge_sser.train.corpora.corpus import Corpus
from edge_sser.train.corpora.table import Entry
from edge_sser.train.data.labels import Emotion

_NAME = re.compile(r"(?P<speaker>03|08|09|1[0-6])(?P<text>[ab]\d\d)(?P<emotion>[WLEAFTN])(?P<version>[a-z]?)")
_EMOTIONS = {
    "W": Emotion.ANGRY,
    "L": Emotion.BORED,
    "E": Emotion.DISGUST,
    "A": Emotion.FEARFUL,
    "F": Emotion.HAPPY,
    "T": Emotion.SAD,
    "N": Emotion.NEUTRAL,
}
_COUNTS = {"W": 127, "L": 81, "E": 46, "A": 69, "F": 71, "T": 62, "N": 79}
_SEX = {"03": "M", "08": "F", "09": "F", "10": "M", "11": "M", "12": "M", "13": "F", "14": "F", "15": "M", "16": "F"}
_SPEAKERS = tuple(_SEX)


def _entry(path: Path) -> Entry | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    return Entry(
        path=path,
        clip=path.stem,
        speaker=match["speaker"],
        emotion=_EMOTIONS[match["emotion"]].value,
        sex=_SEX[match["speaker"]],
        statement=match["text"],
        fold=_SPEAKERS.index(match["speaker"]) + 1,  # leave one speaker out
    )


EMO_DB = Corpus(
    name="emo-db",
    title="EMO-DB",
    example="03a01Fa.wav",
    obtain="unpack download.zip (wav/)",
    entry=_entry,
    emotions={_EMOTIONS[code].value: count for code, count in _COUNTS.items()},
    speakers=_SPEAKERS,
)
