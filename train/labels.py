"""Emotion labels, and how they are mapped to stress."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Emotion(str, Enum):
    """The emotions of the labelled corpora, in the order of the model's output."""

    NEUTRAL = "neutral"
    CALM = "calm"
    HAPPY = "happy"
    SAD = "sad"
    ANGRY = "angry"
    FEARFUL = "fearful"
    DISGUST = "disgust"
    SURPRISED = "surprised"


EMOTIONS = tuple(emotion.value for emotion in Emotion)

# What other corpora call the same.
SYNONYMS: Mapping[str, str] = {
    "anger": "angry",
    "ang": "angry",
    "fear": "fearful",
    "fea": "fearful",
    "happiness": "happy",
    "hap": "happy",
    "joy": "happy",
    "sadness": "sad",
    "neu": "neutral",
    "dis": "disgust",
    "disgusted": "disgust",
    "surprise": "surprised",
    "ps": "surprised",
}

# Stress is high arousal with negative valence (Russell's circumplex, 1980): anger and fear. Disgust is neither, so
# it is left out. None: not used for stress.
QUADRANT: Mapping[str, int | None] = {
    "neutral": 0,
    "calm": 0,
    "happy": 0,
    "sad": 0,
    "angry": 1,
    "fearful": 1,
    "disgust": None,
    "surprised": 0,
}

PRESETS: Mapping[str, Mapping[str, int | None]] = {"quadrant": QUADRANT}


def emotion_name(label: str) -> str:
    """The emotion a corpus means by a label, whatever its case or form.

    Raises:
        ValueError: no emotion of that name is known.
    """
    word = label.strip().lower()
    word = SYNONYMS.get(word, word)
    if word not in EMOTIONS:
        raise ValueError(f"unknown emotion {label!r}, expected one of {', '.join(EMOTIONS)}")
    return word
