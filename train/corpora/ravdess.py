"""RAVDESS speech (Livingstone and Russo, 2018): labels are in the file names.

03-01-EE-II-SS-RR-AA: audio only, speech, emotion, intensity, statement, repetition, actor; odd actors are men.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from edge_sser.train.corpora.corpus import Corpus
from edge_sser.train.corpora.table import Entry
from edge_sser.train.data.labels import Emotion

_NAME = re.compile(
    r"03-01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-(?P<statement>0[12])-0[12]-(?P<actor>[01]\d|2[0-4])"
)
_EMOTIONS = (
    Emotion.NEUTRAL,
    Emotion.CALM,
    Emotion.HAPPY,
    Emotion.SAD,
    Emotion.ANGRY,
    Emotion.FEARFUL,
    Emotion.DISGUST,
    Emotion.SURPRISED,
)
_ACTORS = tuple(f"{actor:02d}" for actor in range(1, 25))

# Six folds of four actors, those of EmoBox (Ma et al., INTERSPEECH 2024), so that scores can be compared with theirs.
_FOLDS = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))
_FOLD_OF_ACTOR = {actor: fold for fold, actors in enumerate(_FOLDS, start=1) for actor in actors}


def _entry(path: Path) -> Entry | None:
    match = _NAME.fullmatch(path.stem)
    if match is None or match["actor"] == "00":
        return None
    actor = int(match["actor"])
    return Entry(
        path=path,
        clip=path.stem,
        speaker=match["actor"],
        emotion=_EMOTIONS[int(match["emotion"]) - 1].value,
        sex="M" if actor % 2 else "F",
        intensity="normal" if match["intensity"] == "01" else "strong",
        fold=_FOLD_OF_ACTOR[actor],
        statement=match["statement"],
    )


def _clip_names(found: Sequence[str]) -> Sequence[str]:
    codes = [(emotion, "01") for emotion in range(1, 9)] + [(emotion, "02") for emotion in range(2, 9)]
    return [
        f"03-01-{emotion:02d}-{intensity}-{statement}-{repetition}-{actor}"
        for (emotion, intensity), statement, repetition, actor in product(codes, ("01", "02"), ("01", "02"), _ACTORS)
    ]


RAVDESS = Corpus(
    name="ravdess",
    title="RAVDESS speech",
    example="03-01-05-02-01-01-12.wav",
    obtain="unpack Audio_Speech_Actors_01-24.zip",
    entry=_entry,
    emotions={emotion.value: 96 if emotion is Emotion.NEUTRAL else 192 for emotion in _EMOTIONS},
    speakers=_ACTORS,
    clip_names=_clip_names,
)
