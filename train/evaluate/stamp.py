"""Writes operating points into the cards of model files. Graphs stay as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_sser.errors import ModelError, TrainingError
from edge_sser.files import write_file
from edge_sser.model.card import Card, OperatingPoint
from edge_sser.model.model import CARD_KEY, Model
from edge_sser.settings.schema import Runtime
from edge_sser.train.evaluate.operating_result import operating_points


def read_points(path: Path) -> tuple[OperatingPoint, ...]:
    """Reads the operating points of a result of `train operating`.

    Raises:
        TrainingError: the file cannot be read, is no such result, or has no stressed parts.
    """
    try:
        return operating_points(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = getattr(error, "strerror", None) or f"no result of train operating ({error})"
        raise TrainingError(f"{path}: {reason}: make it with edge-sser train operating") from None


def stamp(path: Path, points: Sequence[OperatingPoint]) -> list[Path]:
    """Writes operating points into the card of a model file, and of the INT8 files beside it that were made from it.

    The INT8 cards name the new sha256 of their parent.

    Args:
        path: FP32 model file.
        points: to write.

    Returns:
        The files that were written.

    Raises:
        ModelError: a file cannot be used or written.
    """
    model = Model.load(path, runtime=Runtime.CPU)
    points = tuple(points)
    # All files are made before the first is written, so that a fault leaves parent and children in step.
    written = {path: _with_card(path, replace(model.card, operating_points=points))}
    parent = hashlib.sha256(written[path]).hexdigest()
    for file in sorted(path.parent.glob("*.onnx")):
        if file == path:
            continue
        child = Model.load(file, runtime=Runtime.CPU).card
        if child.parent_sha256 == model.sha256:
            written[file] = _with_card(file, replace(child, operating_points=points, parent_sha256=parent))
    for file, content in written.items():
        write_file(file, content, ModelError)
    return list(written)


def _with_card(path: Path, card: Card) -> bytes:
    """Returns the content of a model file with another card."""
    import onnx

    text = card.to_json()
    Card.from_json(text)  # refuses what a device would refuse
    model = onnx.load(path)
    (entry,) = [each for each in model.metadata_props if each.key == CARD_KEY]
    entry.value = text
    content: bytes = model.SerializeToString()
    return content
