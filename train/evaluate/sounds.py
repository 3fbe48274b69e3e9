"""Recordings that a battery is given beside the speech: noise, music, coughs, rooms, and speech known to be calm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import SourceError, TrainingError, UsageError
from edge_sser.train.corpora.entry import AUDIO_SUFFIXES
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import content_hash, read_audio

Samples = NDArray[np.float32]


class Sound(str, Enum):
    """What recordings are for."""

    NOISE = "noise"
    MUSIC = "music"
    COUGH = "cough"
    ROOM = "room"
    CALM = "calm"


SoundFiles = Mapping[Sound, Mapping[str, Sequence[Path]]]
"""By what they are for, then by the name of the file or folder that was given."""


def parse_sounds(given: Sequence[str]) -> SoundFiles:
    """Reads KIND=PATH, where PATH is a recording or a folder of them.

    Raises:
        UsageError: the kind is not known.
        SourceError: there is no such file or folder, or the folder holds no recording.
    """
    out: dict[Sound, dict[str, list[Path]]] = {}
    for text in given:
        kind, equals, place = text.partition("=")
        if not equals or kind not in list(Sound):
            raise UsageError(f"--sound {text}: expected KIND=PATH with KIND {', '.join(Sound)}")
        path = Path(place)
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
            if not files:
                raise SourceError(
                    f"--sound {text}: the folder holds no recording ({', '.join(sorted(AUDIO_SUFFIXES))})"
                )
        elif path.is_file():
            files = [path]
        else:
            raise SourceError(f"--sound {text}: no such file or folder")
        out.setdefault(Sound(kind), {}).setdefault(path.stem, []).extend(files)
    return out


def check_unheard(sounds: SoundFiles, fitted: Sequence[Utterance]) -> None:
    """Refuses calm speech that a run's table holds: it would be judged by a model that heard it in training.

    Args:
        sounds: those given.
        fitted: the table that the run was trained on.

    Raises:
        TrainingError: a recording stands in the table; the message names it.
        SourceError: one cannot be read.
    """
    known = {utterance.sha256: utterance for utterance in fitted}
    for paths in sounds.get(Sound.CALM, {}).values():
        for path in paths:
            twin = known.get(content_hash(read_audio(path)))
            if twin is not None:
                raise TrainingError(
                    f"--sound calm: {path} is a recording of {twin.corpus} in the run's table, so the model has heard "
                    "it: leave the option out; calm speakers of the table are played to the model of their fold"
                )


def read_all(groups: Mapping[str, Sequence[Path]]) -> list[Samples]:
    """All recordings of a kind, float32 [n] each, mono, 16 kHz.

    Raises:
        SourceError: one cannot be read.
    """
    return [read_audio(path) for paths in groups.values() for path in paths]
