"""TESS, the Toronto emotional speech set (Pichora-Fuller and Dupuis, 2010): two women, 200 words, seven emotions.

OAF_back_angry: the older or the younger woman, the word, the emotion; `ps` is pleasant surprise. Folders differ from
copy to copy and add nothing to the names. One file of the release is called OA_bite_neutral.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from edge_sser.train.corpora.corpus import Corpus
from edge_sser.train.corpora.table import Entry
from edge_sser.train.data.labels import emotion_name

_NAME = re.compile(
    r"(?P<speaker>OAF?|YAF)_(?P<word>[^_]+)_(?P<emotion>angry|disgust|fear|happy|neutral|ps|sad)", re.IGNORECASE
)
_CODES = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")
_SPEAKERS = ("OAF", "YAF")


def _entry(path: Path) -> Entry | None:
    match = _NAME.fullmatch(path.stem)
    if match is None:
        return None
    speaker = "YAF" if match["speaker"].upper() == "YAF" else "OAF"
    code = match["emotion"].lower()
    return Entry(
        path=path,
        clip=f"{speaker}_{match['word'].lower()}_{code}",
        speaker=speaker,
        emotion=emotion_name(code),
        sex="F",
        fold=_SPEAKERS.index(speaker) + 1,
        statement=match["word"].lower(),
    )


def _clip_names(found: Sequence[str]) -> Sequence[str]:
    words = {name.split("_")[1] for name in found}  # both women speak each of the 200 words in all emotions
    return ["_".join(parts) for parts in product(_SPEAKERS, sorted(words), _CODES)]


TESS = Corpus(
    name="tess",
    title="TESS",
    example="OAF_back_angry.wav",
    obtain="unpack the archive of doi:10.5683/SP2/E8H2MF",
    entry=_entry,
    emotions={emotion_name(code): 400 for code in _CODES},
    speakers=_SPEAKERS,
    clip_names=_clip_names,
)
