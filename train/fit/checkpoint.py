"""Checkpoints: tensors and a JSON header in one safetensors file, written aside and renamed. Nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge_sser.errors import TrainingError
from edge_sser.files import atomic_replace
from edge_sser.train.fit.runs import MODEL_FILE
from edge_sser.train.recipe import Recipe, StudentKind
from edge_sser.train.students.cnn import CompactCnn
from edge_sser.train.students.net import Student
from edge_sser.train.students.vit import ColumnVit

_HEADER = "edge_sser.checkpoint"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        tensors: by name.
        header: plain values: the recipe, and what the run wrote beside it.
    """

    tensors: Mapping[str, Tensor]
    header: Mapping[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; the file under the name is always whole.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; the file that stood there before remains.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    with atomic_replace(path, TrainingError) as aside:
        try:
            save_file(tensors, aside, {_HEADER: json.dumps(checkpoint.header)})
        except SafetensorError as error:  # of a full disk, too
            raise OSError(error) from None


def load_checkpoint(path: Path, remedy: str = "train again, or copy it again") -> Checkpoint:
    """Reads a checkpoint.

    Args:
        path: of the file.
        remedy: what to do where it cannot be used.

    Raises:
        TrainingError: the file is missing, cut short, or no checkpoint of edge-sser.
    """
    if not path.is_file():
        raise TrainingError(f"checkpoint {path}: no such file: {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_HEADER])
            return Checkpoint({name: file.get_tensor(name) for name in file.keys()}, header)  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = "no header of edge-sser" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise TrainingError(
            f"checkpoint {path}: damaged or not a checkpoint of edge-sser ({reason}): {remedy}"
        ) from None


def make_student(recipe: Recipe, emotions: int) -> Student:
    """The recipe's network with fresh weights."""
    settings = recipe.student
    if settings.kind is StudentKind.COLUMN_VIT:
        return ColumnVit(
            width=settings.width, token_frames=settings.token_frames, emotions=emotions, dropout=settings.dropout
        )
    return CompactCnn(width=settings.width, emotions=emotions, dropout=settings.dropout)


def load_student(path: Path) -> tuple[Student, Recipe, Mapping[str, Any]]:
    """The trained network of a finished run, in evaluation mode, with its recipe and header.

    Raises:
        TrainingError: the file cannot be used.
    """
    checkpoint = load_checkpoint(path, f"give the {MODEL_FILE} that train fit wrote")
    try:
        recipe = Recipe.model_validate(checkpoint.header["recipe"])
        student = make_student(recipe, len(checkpoint.header["emotions"]))
        student.load_state_dict(dict(checkpoint.tensors))
        for name in ("emotions", "corpora"):
            if not isinstance(checkpoint.header[name], list):
                raise ValueError(f"its {name} are no list")
        if not all(isinstance(corpus, dict) and "name" in corpus for corpus in checkpoint.header["corpora"]):
            raise ValueError("its corpora have no names")
        if not isinstance(checkpoint.header["data"], str):
            raise ValueError("it does not say what it was trained on")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TrainingError(
            f"checkpoint {path}: not a trained student of this version ({str(error).splitlines()[0]}): "
            f"give the {MODEL_FILE} of a finished run"
        ) from None
    return student.eval(), recipe, checkpoint.header
