"""What made a file of predictions: a small JSON file beside it, so that scores can be told apart later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edge_sser.errors import TrainingError
from edge_sser.files import write_file


class Baseline(str, Enum):
    """Trivial systems, by what they know of a clip."""

    MAJORITY = "majority"
    LEVEL = "level-only"
    LEVEL_PITCH = "level-pitch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where predictions come from.

    Attributes:
        system: its name; the predictions of one system's seeds share it.
        seed: of the training; None when chance played no part.
        trained_on: the corpora, in alphabetical order; None when that is not known. A corpus in it that is also
            predicted was heard from other speakers only.
        preset: how emotions became stress.
        baseline: whether it is a trivial one, to be set beside others.
        heard: corpora predicted by a model that had heard these very speakers. Their scores say nothing of strangers.
    """

    system: str
    seed: int | None = None
    trained_on: tuple[str, ...] | None = None
    preset: str = "quadrant"
    baseline: bool = False
    heard: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The system and its seed in words."""
        return self.system if self.seed is None else f"{self.system} (seed {self.seed})"


def origin_path(predictions: Path) -> Path:
    """Where the origin of a file of predictions stands: NAME.json beside NAME.csv."""
    return predictions.with_suffix(".json")


def write_origin(predictions: Path, origin: Origin) -> None:
    """Writes the origin beside predictions; errors as for `files.write_file`."""
    values = TypeAdapter(Origin).dump_python(origin, mode="json")
    write_file(origin_path(predictions), json.dumps(values, indent=2) + "\n", TrainingError)


def read_origin(predictions: Path) -> Origin:
    """Reads the origin of predictions; without one, the file's name is all that is known.

    Raises:
        TrainingError: there is one, and it cannot be used.
    """
    path = origin_path(predictions)
    try:
        return TypeAdapter(Origin).validate_json(path.read_bytes())
    except FileNotFoundError:
        return Origin(system=predictions.stem, baseline=predictions.stem in list(Baseline))
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise TrainingError(
            f"{path}: {reason}: it should say what made {predictions.name}; remove it, or make both again with "
            "edge-sser train evaluate --out"
        ) from None
