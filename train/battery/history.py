"""How a run learned: the lines that training wrote, one an epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sser.errors import TrainingError

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

    Raises:
        TrainingError: a file cannot be understood.
    """
    return [_read(path) for path in sorted(run.glob(f"*/{FILE}"))]


def _read(path: Path) -> History:
    lines = path.read_text("utf-8").splitlines()
    epochs: dict[int, dict[str, float]] = {}
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            epoch = int(values.pop("epoch"))
        except (ValueError, KeyError, AttributeError, TypeError):
            if number == len(lines):  # the run was killed as it wrote
                break
            raise TrainingError(f"{path}, line {number}: expected a JSON object with epoch: remove the file") from None
        epochs[epoch] = dict(_numbers(values))  # an epoch that was done again after an interruption counts once
    names = sorted({name for values in epochs.values() for name in values})
    ordered = sorted(epochs)
    return History(path.parent.name, ordered, {name: [epochs[epoch].get(name) for epoch in ordered] for name in names})


def _numbers(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers in a line, those of tables inside it with the table's name before theirs."""
    out: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            out += _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out.append((prefix + name, float(value)))
    return out
