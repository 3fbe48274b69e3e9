"""Windows of streams with their scores, in a file: streams are heard once, and decisions compared on the file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from edge_sser.errors import TrainingError
from edge_sser.files import write_file
from edge_sser.model.model import Model
from edge_sser.pipeline.features import FEATURES
from edge_sser.pipeline.gate import NETWORK_LEAST_RATIO
from edge_sser.settings.schema import Settings
from edge_sser.train.corpora.corpus import audio_files
from edge_sser.train.corpora.table import COLUMNS, Utterance
from edge_sser.train.evaluate.replay import HeardStream
from edge_sser.train.evaluate.strangers import SETTINGS as STREAMS


@dataclass(frozen=True, slots=True)
class KeptWindows:
    """Streams as two gates hear them.

    Attributes:
        made_of: models, speech and settings that they come from, as `made_of` returns them.
        heard: streams as the device hears them.
        heard_before: the same streams with the gate of before.
    """

    made_of: dict[str, Any]
    heard: list[HeardStream]
    heard_before: list[HeardStream]


_FILE = TypeAdapter(KeptWindows)
_UNHEARD = ("path", "fingerprint", "statement")  # of an utterance: they change no window


def write_windows(path: Path, kept: KeptWindows) -> None:
    """Writes a file of windows (JSON).

    Raises:
        TrainingError: the file cannot be written.
    """
    write_file(path, _FILE.dump_json(kept).decode(), TrainingError)


def read_windows(path: Path) -> KeptWindows:
    """Reads a file of windows.

    Raises:
        TrainingError: the file cannot be read, or holds something else.
    """
    try:
        kept = _FILE.validate_json(path.read_bytes())
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}") from None
    except ValidationError:
        raise TrainingError(
            f"{path}: it holds no windows of `train operating`; remove it, or name another file"
        ) from None
    for stream in kept.heard + kept.heard_before:
        columns = (stream.ends, stream.scored, stream.log_odds, stream.speech_seconds)
        if len({len(column) for column in columns}) != 1:
            raise TrainingError(f"{path}: a stream has columns of different lengths; remove it, or name another file")
    return kept


def check_made_of(path: Path, kept: KeptWindows, wanted: dict[str, Any]) -> None:
    """Refuses windows that were made of something else.

    Raises:
        TrainingError: which of models, speech and settings differ.
    """
    names = sorted(name for name in {**wanted, **kept.made_of} if wanted.get(name) != kept.made_of.get(name))
    if names:
        raise TrainingError(
            f"{path}: its windows were made with other {', '.join(names)}; remove it to hear the streams anew, or name "
            "another file"
        )


def made_of(
    models: Mapping[str, Model],
    clips: Sequence[Utterance],
    calm: Sequence[Path],
    settings: Sequence[Settings],
    **more: Any,
) -> dict[str, Any]:
    """Returns what decides the windows, as plain values.

    Args:
        models: each with a name.
        clips: of the tables.
        calm: files and folders of calm speech.
        settings: of gate and window.
        more: anything else that decides who is heard by which model.
    """
    speech = hashlib.sha256()
    for clip in clips:
        speech.update(repr([getattr(clip, name) for name in COLUMNS if name not in _UNHEARD]).encode())
    files = [file for path in calm for file in ([path] if path.is_file() else sorted(audio_files(path)))]
    return {
        "models": {name: probe(model) for name, model in models.items()},
        "speech": [speech.hexdigest(), *(f"{file.parent.name}/{file.name} {file.stat().st_size}" for file in files)],
        "settings": [
            *(each.model_dump(mode="json", include={"gate", "window"}) for each in settings),
            {**STREAMS, "least_ratio": NETWORK_LEAST_RATIO, **more},
        ],
    }


def probe(model: Model) -> float:
    """Returns the log-odds of a fixed window: another number for other weights or another calibration."""
    rising = np.linspace(FEATURES.floor_db, 0.0, FEATURES.frames * FEATURES.bands, dtype=np.float32)
    logits, _ = model.logits(rising.reshape(1, FEATURES.frames, FEATURES.bands))
    return round(model.card.calibration.log_odds(float(logits[0])), 3)
