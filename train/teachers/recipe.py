"""Recipe of a teacher: every setting except the data."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from importlib import resources
from pathlib import Path
from typing import Final

from pydantic import Field

from edge_sser.errors import UsageError, is_bare, unknown_name
from edge_sser.settings.section import Positive, Ratio, Section
from edge_sser.train.recipe import Losses, Optimisation, Sampling, TeacherInput, read_toml

TRUNK_TEACHER: Final = "whisper-trunk"


class TrainedPart(str, Enum):
    """Part of an encoder that is trained beside its head."""

    HEAD = "head"
    """The head alone: hidden states are computed once and kept."""
    TOP = "top"
    """The last layers."""
    WHOLE = "whole"


class EncoderSettings(Section):
    """Settings of the speech encoder."""

    weights: str
    """Name on huggingface.co, or a folder with config.json and model.safetensors or pytorch_model.bin."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """SHA-256 of the file of weights; empty: not checked. The outputs record the actual one."""
    trained: TrainedPart = TrainedPart.HEAD
    top_layers: int = Field(default=4, ge=1)
    """Number of layers that `top` trains."""
    rate_share: Positive = 0.01
    """Share of the learning rate for the encoder's own weights."""


class Head(Section):
    """Settings of the head: a weighted sum of layers, a projection, and attention pooling."""

    width: int = Field(ge=2)
    """Values in the embedding, a target of the students."""
    dropout: Ratio


class TeacherRecipe(Section):
    """Complete recipe of a speech encoder with a head."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    version: str
    preset: str
    """Mapping of labels to stress, as in a student's recipe."""
    encoder: EncoderSettings
    head: Head
    optimisation: Optimisation
    sampling: Sampling
    losses: Losses


def shipped_recipes() -> list[str]:
    """Returns the names of the recipes that ship."""
    folder = resources.files(__package__) / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def shipped_teachers() -> list[str]:
    """Returns the names of the teachers that `--teacher` makes: those of the recipes, and the trunk of sser-plus."""
    return [*shipped_recipes(), TRUNK_TEACHER]


def check_teacher_names(names: Sequence[str]) -> None:
    """Checks that each name is a recipe that ships, or may be a folder.

    Raises:
        UsageError: one is neither.
    """
    for name in names:
        if is_bare(name) and name not in shipped_teachers() and not Path(name).exists():
            raise UsageError(unknown_name("teacher", name, shipped_teachers(), "a folder from train teacher"))


def check_teacher_input(names: Sequence[str], teacher_input: TeacherInput) -> None:
    """Refuses encoders alone for a recipe in which the teacher hears the student's input.

    Raises:
        UsageError: the message says what to do.
    """
    if teacher_input is TeacherInput.STUDENT and all(name in shipped_recipes() for name in names):
        raise UsageError(
            'distillation.teacher_hears = "student" needs a teacher that takes log-mel windows: add --teacher '
            f"{TRUNK_TEACHER}, or a folder made with train teacher --ensemble"
        )


def read_teacher_recipe(name: str, changes: Sequence[str] = ()) -> TeacherRecipe:
    """Reads a teacher's recipe; arguments and errors as for `recipe.read_recipe`."""
    return read_toml(TeacherRecipe, name, resources.files(__package__) / "recipes", changes)
