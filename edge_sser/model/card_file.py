"""Card of a model file, read without the library that computes the model, which would cost a process 60 MB."""

from __future__ import annotations

from pathlib import Path

from edge_sser.errors import ModelError, short
from edge_sser.model.card import CARD_KEY, Card, read_card
from edge_sser.model.graph_check import read_metadata
from edge_sser.model.shipped import model_file
from edge_sser.pipeline.features import FEATURES


def card_of(model: Path | None) -> Card:
    """Returns the card of a model.

    Args:
        model: an .onnx file, or the name of a model that ships; None for the default.

    Raises:
        ModelError: the file cannot be read, or has no card that can be used.
    """
    path = model_file(model)
    try:
        return read_card(read_metadata(path.read_bytes()).get(CARD_KEY), path, FEATURES)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {path}: {short(error)}") from None
