"""Model files, and their cards without the library that computes the model, which would cost a process 60 MB."""

from __future__ import annotations

import stat
from pathlib import Path

from edge_sser.errors import ModelError, short, unreadable
from edge_sser.model.card import CARD_KEY, Card, read_card
from edge_sser.model.graph_check import MAX_FILE_BYTES, read_metadata
from edge_sser.model.shipped import MODELS, model_file
from edge_sser.pipeline.features import FEATURES


def card_of(model: Path | None) -> Card:
    """Returns the card of a model.

    Args:
        model: an .onnx file, or the name of a model that ships; None for the default.

    Raises:
        ModelError: the file cannot be read, or has no card that can be used.
    """
    path = model_file(model)
    data = read_model_file(path)
    try:
        return read_card(read_metadata(data).get(CARD_KEY), path, FEATURES)
    except ValueError as error:
        raise ModelError(f"model {path}: {short(error)}") from None


def read_model_file(path: Path) -> bytes:
    """Reads a model file.

    Raises:
        ModelError: there is none, it cannot be read, or it is a device, a pipe, or larger than any model.
    """
    try:
        status = path.stat()
        kind = status.st_mode
        if stat.S_ISREG(kind) and status.st_size > MAX_FILE_BYTES:
            raise OSError(None, f"Larger than a model, {MAX_FILE_BYTES} bytes")
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise OSError(None, "Not a regular file")  # a device or a pipe may be endless
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        text = unreadable("model", str(path), error, list(MODELS), "an .onnx file made by edge-sser export")
        raise ModelError(text) from None
