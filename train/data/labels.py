"""Emotion labels: what corpora say, and what the model answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from edge_sser.errors import SettingsError
from edge_sser.settings.file import tomllib
from edge_sser.train.corpora.table import Utterance


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


AROUSAL_VALENCE = "arousal_valence"
LEAVE_OUT = "leave out"
LEAST_SHARE = 0.5  # of a soft label that the preset must have a meaning for


@dataclass(frozen=True, slots=True)
class Preset:
    """A mapping to stress.

    Attributes:
        name: of the preset.
        emotions: 0, 1, or None for an emotion that is left out; empty for `arousal_valence`.
    """

    name: str
    emotions: Mapping[str, int | None]

    def stress(self, utterance: Utterance) -> float | None:
        """The stress of an utterance, 0..1, or None when its labels do not say.

        A corpus that gives stress itself is believed, under any preset. Otherwise `arousal_valence` multiplies arousal
        by negative valence, a (1 - v), so that both are needed as in the quadrant; the others map emotions. A soft
        label is the share of its mapped votes that mean stress; when more than half of the votes are for
        emotions that are left out, it says nothing.
        """
        given, arousal, valence = utterance.stress, utterance.arousal, utterance.valence
        return self.meaning(utterance.emotion, utterance.soft, given, arousal, valence)

    def decision(self, utterance: Utterance) -> int | None:
        """1 for an utterance that is stressed by half or more, 0 for another, None when its labels do not say."""
        return decided(self.stress(utterance))

    def meaning(
        self,
        emotion: str,
        soft: Mapping[str, float],
        given: float | None,
        arousal: float | None = None,
        valence: float | None = None,
    ) -> float | None:
        """The stress of labels, 0..1; see `stress`.

        Args:
            emotion: its name, or empty.
            soft: share of raters by emotion; may be empty.
            given: stress as the corpus gives it.
            arousal: 0..1.
            valence: 0 (negative) to 1 (positive).
        """
        if given is not None:
            return given
        if self.name == AROUSAL_VALENCE:
            return None if arousal is None or valence is None else arousal * (1.0 - valence)
        if soft:
            mapped = [(share, self.emotions.get(name)) for name, share in soft.items()]
            known = sum(share for share, value in mapped if value is not None)
            if known < LEAST_SHARE:
                return None
            return sum(share for share, value in mapped if value) / known
        value = self.emotions.get(emotion)
        return None if value is None else float(value)


def decided(stress: float | None) -> int | None:
    """A continuous label as what scores are computed from: 1 from a half on, else 0; None when it is not known."""
    return None if stress is None else int(stress >= 0.5)


def read_preset(name: str) -> Preset:
    """A preset that ships, by name, or a user's table: a TOML file.

    The file names each emotion that counts, with 0, 1 or "leave out"; emotions that it does not name are left out:

        [emotions]
        angry = 1
        fearful = 1
        neutral = 0
        surprised = "leave out"

    Raises:
        SettingsError: there is no such preset or file, or it is not such a table; the message names what is wrong.
    """
    if name in PRESETS:
        return Preset(name, PRESETS[name])
    if name == AROUSAL_VALENCE:
        return Preset(name, {})
    path = Path(name)
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        known = ", ".join((*PRESETS, AROUSAL_VALENCE))
        raise SettingsError(f"preset {name}: {error.strerror or error}: give a .toml file or one of {known}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"preset {name}: not TOML in UTF-8: {error}") from None
    return Preset(path.stem, _emotions(name, document))


def _emotions(name: str, document: Mapping[str, Any]) -> Mapping[str, int | None]:
    unknown = sorted(set(document) - {"emotions"})
    table = document.get("emotions")
    if unknown or not isinstance(table, dict):
        found = f"the unknown key {unknown[0]}" if unknown else "none"
        raise SettingsError(f"preset {name}: expected one table [emotions], found {found}")
    emotions: dict[str, int | None] = dict.fromkeys(LABELS)
    for label, value in table.items():
        try:
            emotion = emotion_name(label)
        except ValueError as error:
            raise SettingsError(f"preset {name}: {error}") from None
        if value == LEAVE_OUT:
            emotions[emotion] = None
        elif value in (0, 1) and not isinstance(value, (bool, float)):
            emotions[emotion] = value
        else:
            raise SettingsError(f'preset {name}: {label} = {value!r}, expected 0, 1 or "{LEAVE_OUT}"')
    if {0, 1} - set(emotions.values()):
        raise SettingsError(f"preset {name}: expected at least one emotion with 1 and one with 0")
    return emotions
