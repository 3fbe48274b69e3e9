"""Emotion labels: what corpora say, and what the model answers with."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Emotion(str, Enum):
    """The emotions that a table may name; all but the last are the model's, in the order of its output."""

    NEUTRAL = "neutral"
    CALM = "calm"
    HAPPY = "happy"
    SAD = "sad"
    ANGRY = "angry"
    FEARFUL = "fearful"
    DISGUST = "disgust"
    SURPRISED = "surprised"
    BORED = "bored"


LABELS = tuple(emotion.value for emotion in Emotion)
EMOTIONS = tuple(label for label in LABELS if label != Emotion.BORED.value)  # one German corpus has boredom: no class

# What other corpora call the same.
SYNONYMS: Mapping[str, str] = {
    "anger": "angry",
    "ang": "angry",
    "fear": "fearful",
    "fea": "fearful",
    "anxiety": "fearful",
    "happiness": "happy",
    "hap": "happy",
    "joy": "happy",
    "sadness": "sad",
    "neu": "neutral",
    "dis": "disgust",
    "disgusted": "disgust",
    "surprise": "surprised",
    "pleasant surprise": "surprised",
    "ps": "surprised",
    "boredom": "bored",
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
    "bored": 0,
}

# Every negative emotion against the rest, as the speech-stress-from-emotion studies map them; it mixes high and low
# arousal.
SSSR: Mapping[str, int | None] = {
    "neutral": 0,
    "calm": 0,
    "happy": 0,
    "sad": 1,
    "angry": 1,
    "fearful": 1,
    "disgust": 1,
    "surprised": 0,
    "bored": 0,
}

PRESETS: Mapping[str, Mapping[str, int | None]] = {"quadrant": QUADRANT, "sssr": SSSR}


def emotion_name(label: str) -> str:
    """The emotion a corpus means by a label, whatever its case or form.

    Raises:
        ValueError: no emotion of that name is known.
    """
    word = label.strip().lower()
    word = SYNONYMS.get(word, word)
    if word not in LABELS:
        raise ValueError(f"unknown emotion {label!r}, expected one of {', '.join(LABELS)}")
    return word
