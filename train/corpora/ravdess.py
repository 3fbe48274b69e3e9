"""RAVDESS speech (Livingstone and Russo, 2018): everything is in the file names.

03-01-EE-II-SS-RR-AA: audio only, speech, emotion, intensity, statement, repetition, actor; odd actors are men.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from edge_sser.errors import TrainingError

from ..labels import Emotion
from .entry import AUDIO_SUFFIXES, Entry

_NAME = re.compile(r"03-01-(?P<emotion>0[1-8])-(?P<intensity>0[12])-0[12]-0[12]-(?P<actor>\d\d)")
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

# Six folds of four actors, those of EmoBox (Ma et al., INTERSPEECH 2024), so that scores can be set beside theirs.
_FOLDS = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))
_FOLD_OF_ACTOR = {actor: fold for fold, actors in enumerate(_FOLDS, start=1) for actor in actors}


def read_ravdess(folder: Path) -> Iterator[Entry]:
    """Reads the speech clips below a folder, the official Actor_NN folders or one flat folder.

    Raises:
        TrainingError: no file below it is named as RAVDESS names its speech clips.
    """
    found = False
    for path in sorted(folder.rglob("03-01-*")):
        match = _NAME.fullmatch(path.stem)
        if match is None or path.suffix.lower() not in AUDIO_SUFFIXES:
            continue
        found = True
        actor = int(match["actor"])
        yield Entry(
            path=path,
            speaker=match["actor"],
            emotion=_EMOTIONS[int(match["emotion"]) - 1].value,
            sex="M" if actor % 2 else "F",
            intensity="normal" if match["intensity"] == "01" else "strong",
            fold=_FOLD_OF_ACTOR.get(actor, 0),
        )
    if not found:
        raise TrainingError(
            f"corpus {folder}: no file is named like RAVDESS speech (03-01-05-02-01-01-12.wav): "
            "unpack Audio_Speech_Actors_01-24.zip there, or hand in a manifest (.csv)"
        )
