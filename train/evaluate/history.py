"""How a run learned, epoch by epoch, as training wrote it down."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sser.errors import TrainingError
from edge_sser.train.fit.runs import MODEL_FILE

FILE = "history.jsonl"


@dataclass(frozen=True, slots=True)
class History:
    """One fold's training.

    Attributes:
        part: `fold-1`, `final` and so on.
        epochs: their numbers, rising.
        values: by name, one an epoch; None where an epoch did not tell.
    """

    part: str
    epochs: Sequence[int]
    values: Mapping[str, Sequence[float | None]]


def read_histories(run: Path) -> list[History]:
    """What the parts of a run left behind, in alphabetical order; those that left nothing are not listed.

    A part tells it in `history.jsonl`, one JSON object an epoch, or in the header of its checkpoint.

    Raises:
        TrainingError: a file cannot be understood.
    """
    found = (_history(folder) for folder in sorted(run.iterdir()) if folder.is_dir())
    return [history for history in found if history is not None]


def _history(folder: Path) -> History | None:
    path, model = folder / FILE, folder / MODEL_FILE
    if path.is_file():
        lines = list(_lines(path))
    elif model.is_file():
        from edge_sser.train.fit.checkpoint import load_checkpoint

        lines = list(load_checkpoint(model).header.get("history", ()))
    else:
        return None
    epochs: dict[int, dict[str, float]] = {}
    for values in lines:
        number = values["epoch"] if "epoch" in values else values["number"]
        numbers = dict(_numbers({name: value for name, value in values.items() if name not in ("epoch", "number")}))
        epochs[int(number)] = numbers  # an epoch that was done again after an interruption counts once
    names = sorted({name for values in epochs.values() for name in values})
    ordered = sorted(epochs)
    if not ordered:
        return None
    return History(folder.name, ordered, {name: [epochs[epoch].get(name) for epoch in ordered] for name in names})


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            int(values["epoch"])
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # the run was killed as it wrote
                return
            raise TrainingError(f"{path}, line {number}: expected a JSON object with epoch: remove the file") from None
        yield values


def _numbers(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers in a line, those of tables inside it with the table's name before theirs."""
    out: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            out += _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out.append((prefix + name, float(value)))
    return out
