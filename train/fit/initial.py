"""Initial weights of a student: a file of arrays that were learned elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edge_sser.errors import TrainingError
from edge_sser.train.recipe import Initial
from edge_sser.train.students.yamnet import Yamnet

REMEDY = "give YAMNet's with --set initial.weights=FILE.safetensors, or train from random weights with recipe sser-cnn"


def read_initial(initial: Initial) -> Mapping[str, Tensor]:
    """Reads the file of initial weights.

    Raises:
        TrainingError: it is missing or damaged, or another than the recipe's.
    """
    path = Path(initial.weights)
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if initial.sha256 not in ("", found):
            raise TrainingError(
                f"initial weights {path}: the sha256 is {found}, the recipe's initial.sha256 is {initial.sha256}: "
                "fetch the file again, or set initial.sha256 to nothing"
            )
        return load_file(path)
    except FileNotFoundError:
        raise TrainingError(f"initial weights {path}: no such file: {REMEDY}") from None
    except (OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise TrainingError(f"initial weights {path}: cannot be read ({reason}): {REMEDY}") from None


def load_initial(net: Yamnet, initial: Initial, windows: Tensor) -> None:
    """Fills a student with initial weights.

    Args:
        net: to be filled.
        initial: of the recipe.
        windows: log-mel, float32 [n, frames, bands] in dB, of the training side.

    Raises:
        TrainingError: the file cannot be used.
    """
    weights = read_initial(initial)
    try:
        net.load_initial(weights, windows)
    except (KeyError, RuntimeError) as error:
        missing = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise TrainingError(f"initial weights {initial.weights}: not YAMNet's ({missing}): {REMEDY}") from None
