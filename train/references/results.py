"""Result files of a reference system, which grow by fold and let an interrupted run go on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edge_sser.errors import TrainingError
from edge_sser.files import write_file
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.evaluate.predictions import (
    Origin,
    Prediction,
    read_predictions,
    write_origin,
    write_predictions,
)

NO_FOLD = 0
"""Fold of predictions that are of no speaker-disjoint fold: strangers, and the protocol of a study."""


@dataclass(slots=True)
class Progress:
    """Progress of a run, in STEM.run.json.

    Attributes:
        key: hash of the recipe, the seed and the clips.
        seconds: CPU time of each finished fold's training.
    """

    key: str
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Results:
    """Result files of a run, which grow by fold.

    Attributes:
        path: of the predictions; the other files lie beside it.
        origin: of the predictions.
        progress: finished folds.
        predictions: of the finished folds.
        history: figures of each epoch by fold.
    """

    path: Path
    origin: Origin
    progress: Progress
    predictions: list[Prediction] = field(default_factory=list)
    history: dict[str, list[Mapping[str, float]]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, origin: Origin, key: str) -> Results:
        """Opens the results of an interrupted run, or empty ones.

        Raises:
            TrainingError: the files are of another run, or damaged.
        """
        results = cls(path, origin, Progress(key))
        try:
            progress = TypeAdapter(Progress).validate_json(results.beside("run").read_bytes())
            if progress.key != key:
                raise TrainingError(
                    f"{path}: made with another recipe, seed or table: choose another --out, or remove {path.stem}.*"
                )
            results.progress = progress
            results.history = json.loads(results.beside("history").read_text("utf-8"))
        except FileNotFoundError:
            return results
        except (OSError, ValueError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise TrainingError(f"{path}: its results are damaged ({reason}): remove {path.stem}.*") from None
        results.predictions = read_predictions(path)
        return results

    def check_strangers(self, strangers: Sequence[Utterance]) -> None:
        """Checks that predictions of strangers that are kept are of these clips.

        Raises:
            TrainingError: they are of others.
        """
        kept = {item.path for item in self.predictions if item.fold == NO_FOLD}
        if strangers and kept and kept != {"/".join(Path(clip.path).parts[-2:]) for clip in strangers}:
            raise TrainingError(
                f"{self.path}: it has predictions of another --test: choose another --out, or remove {self.path.stem}.*"
            )

    def beside(self, part: str) -> Path:
        """Returns the path of another file of the run."""
        return self.path.with_name(f"{self.path.name.removesuffix('.csv')}.{part}.json")

    def add(self, fold: int, seconds: float, history: Sequence[Mapping[str, float]], found: list[Prediction]) -> None:
        """Adds a finished fold and writes all files, the progress last.

        Raises:
            TrainingError: a file cannot be written.
        """
        self.predictions = sorted([*self.predictions, *found], key=lambda each: (each.corpus, each.path))
        self.history[str(fold)] = list(history)
        self.progress.seconds[str(fold)] = round(seconds, 1)
        self.history = dict(sorted(self.history.items(), key=lambda each: int(each[0])))
        write_predictions(self.path, self.predictions)
        write_origin(self.path, self.origin)
        write_json(self.beside("history"), self.history)
        write_json(self.beside("run"), TypeAdapter(Progress).dump_python(self.progress))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a table as JSON, one key a line; errors as for `files.write_file`."""
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
    write_file(path, f"{{\n{lines}\n}}\n", TrainingError)
