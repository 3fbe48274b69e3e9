"""Windows of streams with their scores, in a file: streams are heard once, and decisions compared on the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from edge_sser.errors import TrainingError
from edge_sser.files import write_file
from edge_sser.model.model import Model
from edge_sser.pipeline.features import FEATURES
from edge_sser.train.evaluate.replay import HeardStream


@dataclass(frozen=True, slots=True)
class KeptWindows:
    """Streams as two gates hear them.

    Attributes:
        made_of: models, recordings and settings that they come from, as plain values.
        heard: streams as the device hears them.
        heard_before: the same streams with the gate of before.
    """

    made_of: dict[str, Any]
    heard: list[HeardStream]
    heard_before: list[HeardStream]


_FILE = TypeAdapter(KeptWindows)


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
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no windows of `train operating`"
        raise TrainingError(f"{path}: {why}; remove it, or name another file") from None
    for stream in kept.heard + kept.heard_before:
        columns = (stream.ends, stream.scored, stream.log_odds, stream.speech_seconds)
        if len({len(column) for column in columns}) != 1:
            raise TrainingError(f"{path}: a stream has columns of different lengths; remove it, or name another file")
    return kept


def check_made_of(path: Path, kept: KeptWindows, made_of: dict[str, Any]) -> None:
    """Refuses windows that were made of something else.

    Raises:
        TrainingError: which of models, recordings and settings differ.
    """
    names = sorted(name for name in {**made_of, **kept.made_of} if made_of.get(name) != kept.made_of.get(name))
    if names:
        raise TrainingError(
            f"{path}: its windows were made with other {', '.join(names)}; remove it to hear the streams anew, or name "
            "another file"
        )


def ear(model: Model) -> float:
    """Returns the log-odds of a fixed window: another number for other weights or another calibration."""
    rising = np.linspace(FEATURES.floor_db, 0.0, FEATURES.frames * FEATURES.bands, dtype=np.float32)
    logits, _ = model.logits(rising.reshape(1, FEATURES.frames, FEATURES.bands))
    return round(model.card.calibration.log_odds(float(logits[0])), 3)
