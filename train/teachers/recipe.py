"""A teacher's recipe: everything that making it needs but the data."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from importlib import resources

from pydantic import Field

from edge_sser.settings.schema import Section
from edge_sser.train.recipe import Losses, Optimisation, Positive, Sampling, Share, read_toml


class Trained(str, Enum):
    """What of an encoder is trained beside its head."""

    HEAD = "head"
    """Nothing: its hidden states are computed once and kept."""
    TOP = "top"
    """Its last layers."""
    WHOLE = "whole"


class EncoderSettings(Section):
    """The speech encoder."""

    weights: str
    """Its name on huggingface.co, or a folder with config.json and model.safetensors or pytorch_model.bin."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Of the file of weights; empty: not checked. Outputs say which it was."""
    trained: Trained = Trained.HEAD
    top_layers: int = Field(default=4, ge=1)
    """How many are the top."""
    rate_share: Positive = 0.01
    """Share of the learning rate that the encoder's own weights get."""


class Head(Section):
    """What is put on the encoder: layers weighted, projected, pooled over time by attention."""

    width: int = Field(ge=2)
    """Values in the embedding, which students are taught."""
    dropout: Share


class TeacherRecipe(Section):
    """A speech encoder with a head."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    version: str
    preset: str
    """How labels become stress, as in a student's recipe."""
    encoder: EncoderSettings
    head: Head
    optimisation: Optimisation
    sampling: Sampling
    losses: Losses


def shipped() -> list[str]:
    """Names of the recipes that ship."""
    folder = resources.files(__package__) / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_teacher_recipe(name: str, changes: Sequence[str] = ()) -> TeacherRecipe:
    """Reads a teacher's recipe; arguments and errors as for `recipe.read_recipe`."""
    return read_toml(TeacherRecipe, name, resources.files(__package__) / "recipes", changes)
