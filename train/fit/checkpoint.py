"""Checkpoints: tensors and a JSON header in one safetensors file, replaced atomically. Nothing is pickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge_sser.errors import TrainingError
from edge_sser.files import atomic_replace
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.labels import AROUSAL_VALENCE, EMOTIONS, PRESETS, read_preset
from edge_sser.train.recipe import Recipe, StudentKind
from edge_sser.train.students.cnn import CompactCnn
from edge_sser.train.students.net import Student
from edge_sser.train.students.vit import ColumnVit
from edge_sser.train.students.whisper_trunk import WhisperTrunk
from edge_sser.train.students.yamnet import Yamnet

MODEL_FILE = "model.safetensors"  # of a finished student or teacher, in its folder
_HEADER = "edge_sser.checkpoint"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The content of a checkpoint file.

    Attributes:
        tensors: by name.
        header: plain values: the recipe, and the run's description of its data.
    """

    tensors: Mapping[str, Tensor]
    header: Mapping[str, Any]


def run_folder(out: Path, fold: int | None) -> Path:
    """Returns the folder of one fold's student or teacher below a run's folder; fold None means all speakers."""
    return out / ("final" if fold is None else f"fold-{fold}")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; the file under the name is always whole.

    Raises:
        TrainingError: the disk is full or the folder cannot be written; an earlier file remains.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    with atomic_replace(path, TrainingError) as temporary:
        try:
            save_file(tensors, temporary, {_HEADER: json.dumps(checkpoint.header)})
        except SafetensorError as error:  # of a full disk, too
            raise OSError(error) from None


def load_checkpoint(path: Path, remedy: str = "train again, or copy it again") -> Checkpoint:
    """Reads a checkpoint.

    Args:
        path: the file.
        remedy: advice at the end of an error message.

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


def check_header(path: Path, header: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuses a file of another run.

    Args:
        path: the file, for the message.
        header: of the file; may hold more than is expected.
        expected: values of this run.

    Raises:
        TrainingError: a value differs.
    """
    if any(header.get(name) != value for name, value in expected.items()):
        raise TrainingError(
            f"{path} comes from another recipe or other data: choose another --out, or remove the folder to start again"
        )


def upgrade_header(header: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a header with the recipe settings added since it was written, at their neutral defaults."""
    try:
        return {**header, "recipe": Recipe.model_validate(header["recipe"]).model_dump(mode="json")}
    except (KeyError, ValueError):
        return header


def describe_corpora(training: Sequence[Utterance]) -> list[dict[str, Any]]:
    """Returns name and size of each corpus of a training side, for a checkpoint's header."""
    names = sorted({utterance.corpus for utterance in training})
    return [
        {
            "name": name,
            "utterances": sum(utterance.corpus == name for utterance in training),
            "speakers": len({utterance.speaker for utterance in training if utterance.corpus == name}),
        }
        for name in names
    ]


def describe_run(training: Sequence[Utterance], recipe: Recipe) -> dict[str, Any]:
    """Returns the header of the checkpoint of a training side."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "emotions": list(EMOTIONS),
        "corpora": describe_corpora(training),
        "data": data_key(training),
        **custom_preset(recipe.preset),
    }


def data_key(training: Sequence[Utterance]) -> str:
    """Returns a hash of the recordings and labels of a training side, for a checkpoint's header."""
    key = hashlib.sha256()
    for utterance in training:
        given = (utterance.stress, utterance.arousal, utterance.valence, sorted(utterance.soft.items()))
        if given != (None, None, None, []):
            key.update(repr(given).encode())
        key.update(f"{utterance.sha256} {utterance.corpus} {utterance.emotion} {utterance.intensity}\n".encode())
    return key.hexdigest()


def custom_preset(name: str) -> dict[str, Any]:
    """Returns a user's emotion table, for a checkpoint's header: the file may change after the run. Empty for ours."""
    shipped = name in (*PRESETS, AROUSAL_VALENCE)
    return {} if shipped else {"preset": dict(read_preset(name).emotions)}


def make_student(recipe: Recipe, emotions: int, companions: Sequence[Student] = ()) -> Student:
    """Builds the recipe's network with fresh weights.

    Args:
        recipe: of the network.
        emotions: number of classes.
        companions: students beside a frozen trunk.
    """
    settings = recipe.student
    if settings.kind is StudentKind.WHISPER_TRUNK:
        return WhisperTrunk(
            width=settings.width,
            layers=settings.layers,
            loudness=recipe.trunk.loudness if recipe.trunk else 0.0,
            companions=companions,
            emotions=emotions,
            dropout=settings.dropout,
        )
    if settings.kind is StudentKind.COLUMN_VIT:
        return ColumnVit(
            width=settings.width, token_frames=settings.token_frames, emotions=emotions, dropout=settings.dropout
        )
    if settings.kind is StudentKind.YAMNET:
        frozen = recipe.initial.frozen if recipe.initial else 0
        return Yamnet(
            width=settings.width, layers=settings.layers, frozen=frozen, emotions=emotions, dropout=settings.dropout
        )
    return CompactCnn(width=settings.width, emotions=emotions, dropout=settings.dropout)


def load_student(path: Path) -> tuple[Student, Recipe, Mapping[str, Any]]:
    """Loads the student of a finished run: network in evaluation mode, recipe, header.

    Raises:
        TrainingError: the file cannot be used.
    """
    checkpoint = load_checkpoint(path, f"give the {MODEL_FILE} that train fit wrote")
    try:
        recipe = Recipe.model_validate(checkpoint.header["recipe"])
        emotions = len(checkpoint.header["emotions"])
        beside = checkpoint.header["companions"] if recipe.student.companion else ()
        companions = [make_student(Recipe.model_validate(each["recipe"]), emotions) for each in beside]
        student = make_student(recipe, emotions, companions)
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
