"""Emotion labels of corpora and of the model, and presets that map them to stress."""

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
    """Emotions that a table may name; all but the last are classes of the model, in the order of its output."""

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
EMOTIONS = tuple(label for label in LABELS if label != Emotion.BORED.value)  # only one German corpus has boredom

# Names of the same emotions in other corpora.
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

# Every negative emotion against the rest, the mapping of the speech-stress-from-emotion studies; it mixes high and low
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
    """Returns the emotion of a corpus's label in any case or known synonym.

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
LEAST_SHARE = 0.5  # of a soft label's votes that the preset must map


@dataclass(frozen=True, slots=True)
class Preset:
    """Mapping of labels to stress.

    Attributes:
        name: of the preset.
        emotions: 0, 1, or None for an emotion that is left out; empty for `arousal_valence`.
    """

    name: str
    emotions: Mapping[str, int | None]

    def stress(self, utterance: Utterance) -> float | None:
        """Returns the stress of an utterance, 0..1, or None when its labels give none.

        Stress that the corpus gives takes precedence under any preset. Otherwise `arousal_valence` multiplies arousal
        by negative valence, a (1 - v), so that both are needed as in the quadrant; the other presets map emotions. The
        stress of a soft label is the share of its mapped votes that mean stress, or None when more than half of the
        votes are for emotions that are left out.
        """
        given, arousal, valence = utterance.stress, utterance.arousal, utterance.valence
        return self.stress_from(utterance.emotion, utterance.soft, given, arousal, valence)

    def decision(self, utterance: Utterance) -> int | None:
        """Returns 1 for stress of 0.5 or more, 0 for less, None when the labels give none."""
        return binary_label(self.stress(utterance))

    def emotions_with(self, value: int) -> tuple[str, ...]:
        """Returns the model's emotions that the preset calls stress, for 1, or no stress, for 0; in their order."""
        return tuple(name for name in EMOTIONS if self.emotions.get(name) == value)

    def stress_from(
        self,
        emotion: str,
        soft: Mapping[str, float],
        given: float | None,
        arousal: float | None = None,
        valence: float | None = None,
    ) -> float | None:
        """Returns the stress of labels, 0..1; see `stress`.

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


def binary_label(stress: float | None) -> int | None:
    """Converts continuous stress to the class that scores use: 1 from 0.5 on, else 0; None stays None."""
    return None if stress is None else int(stress >= 0.5)


def read_preset(name: str) -> Preset:
    """Reads a preset: a shipped one by name, or a user's TOML file.

    The file maps emotions to 0, 1 or "leave out"; emotions without an entry are left out:

        [emotions]
        angry = 1
        fearful = 1
        neutral = 0
        surprised = "leave out"

    Raises:
        SettingsError: there is no such preset or file, or its content is not such a table; the message names the fault.
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
