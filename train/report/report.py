"""Evaluation report: everything that was measured, as one object and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from edge_sser import __version__
from edge_sser.errors import SinkError, TrainingError
from edge_sser.files import write_file
from edge_sser.train.evaluate.by_speech import SpeechBin
from edge_sser.train.evaluate.metrics import Check
from edge_sser.train.evaluate.models import History
from edge_sser.train.evaluate.robustness import Robustness
from edge_sser.train.evaluate.scores import PROTOCOL
from edge_sser.train.evaluate.streaming import Streaming
from edge_sser.train.evaluate.systems import Cell, System

SCHEMA = 1
DIGITS = 4
LINED = 5  # levels of the JSON that are set on lines


@dataclass(frozen=True, slots=True)
class Report:
    """An evaluation.

    Attributes:
        preset: how emotions became stress.
        systems: what predictions tell; baselines last.
        matrix: trained on, tested on.
        robustness: under distortions; None when it was not tried.
        streaming: as an alarm; None when it was not tried.
        seconds: by seconds of speech in a window; empty when it was not tried.
        histories: of the run's training; empty when there are none.
        notes: what a reader must know before any figure.
    """

    preset: str
    systems: Sequence[System]
    matrix: Sequence[Cell]
    robustness: Robustness | None = None
    streaming: Streaming | None = None
    seconds: Sequence[SpeechBin] = ()
    histories: Sequence[History] = ()
    notes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values: figures rounded to four digits, null for what could not be measured.

        Curves over thresholds and training are left to the page: they can be drawn again from the predictions.
        """
        return {
            "schema": SCHEMA,
            "edge_sser": __version__,
            "protocol": PROTOCOL,
            "preset": self.preset,
            "notes": list(self.notes),
            "systems": {system.name: _system(system) for system in self.systems},
            "matrix": _plain(self.matrix),
            "robustness": _plain(self.robustness),
            "streaming": _plain(self.streaming),
            "seconds_of_speech": _plain(self.seconds),
        }


def write_json(path: Path, report: Report) -> None:
    """Writes the figures.

    Raises:
        TrainingError: the file cannot be written.
    """
    write_file(path, _lines(report.as_dict()) + "\n", TrainingError)


def check_place(path: Path) -> None:
    """Refuses a place that nothing can be written to, before the work is done.

    Raises:
        SinkError: the folder cannot be made or written to.
    """
    trial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror}): choose another place") from None


def _lines(value: Any, depth: int = 0) -> str:
    """Formats JSON with its outer levels on lines of their own, so that two reports can be compared by eye."""
    if depth < LINED and isinstance(value, dict) and value:
        inside = (f"{' ' * (depth + 1)}{json.dumps(key)}: {_lines(each, depth + 1)}" for key, each in value.items())
        return "{\n" + ",\n".join(inside) + "\n" + " " * depth + "}"
    if depth < LINED and isinstance(value, list) and value and isinstance(value[0], dict):
        inside = (f"{' ' * (depth + 1)}{_lines(each, LINED)}" for each in value)
        return "[\n" + ",\n".join(inside) + "\n" + " " * depth + "]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)


def _system(system: System) -> dict[str, Any]:
    left_out = {"scores", "folds", "curves"}  # the first two are told with seeds and folds
    if system.origin.baseline:
        left_out |= {"speakers", "sexes", "ordinal"}
    return {
        "origin": _plain(system.origin),
        "seeds": [evaluation.as_dict() for evaluation in system.evaluations],
        "folds": {corpus: _plain(repeats) for corpus, repeats in system.repeats.items()},
        "measures": {
            corpus: {
                field.name: _plain(getattr(measures, field.name))
                for field in fields(measures)
                if field.name not in left_out
            }
            for corpus, measures in system.measures.items()
        },
    }


def _plain(value: Any) -> Any:
    """Converts dataclasses, arrays and enumerations to what JSON knows."""
    if isinstance(value, Check):
        return {**_fields(value), "passed": value.passed}
    if is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return None if math.isnan(value) or math.isinf(value) else round(value, DIGITS)
    return value


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
