"""A recipe: everything that a training run needs but the data."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from edge_sser.errors import SettingsError
from edge_sser.settings import Section

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Student(Section):
    """The network."""

    kind: Literal["compact-cnn"]
    width: int = Field(ge=2, le=64)
    """Channels of the stem."""
    dropout: Share


class Optimisation(Section):
    """The training loop."""

    seed: int
    epochs: int = Field(ge=1)
    clips_per_epoch: int = Field(ge=1)
    """Drawn with `Sampling`; an epoch is this many, not the corpus once."""
    batch: int = Field(ge=2)
    learning_rate: Positive
    """Peak of a cosine that rises over the first `warmup` of the run."""
    warmup: Share
    weight_decay: float = Field(ge=0.0)
    label_smoothing: Share
    average: Share
    """Decay of the running average of the weights, a step; the average is what is kept."""
    clip_gradient: Positive
    """Largest norm of a step's gradient."""
    precision: Literal["auto", "float32", "bfloat16"]
    """auto: bfloat16 where the processor multiplies it in hardware (AMX, CUDA), else float32."""


class Sampling(Section):
    """Which clips a batch is made of."""

    shares: dict[str, Share]
    """Share of a batch by corpus; the corpora not named share the rest by size."""


class Losses(Section):
    """Weights of the parts of the loss."""

    emotion: float = Field(ge=0.0)
    stress: float = Field(ge=0.0)
    intensity: float = Field(ge=0.0)


class Augmentation(Section):
    """What is done to a window of power spectra on its way to the student; see augment.py."""

    overhang_frames: int = Field(ge=0)
    """A crop may reach this far beyond its clip's ends."""
    loop: Share
    """How often a clip shorter than a window is repeated; otherwise it is placed in noise."""
    warp: Share
    """How often speed and time are changed; the other windows keep their frames as they were."""
    speed: Share
    """Frequency and time scaled together by up to this, either way."""
    stretch: Share
    """Time alone scaled by up to this, either way."""
    room: Share
    """How often a window is reverberated."""
    room_rt60_s: tuple[Positive, Positive]
    room_direct_db: tuple[float, float]
    """Energy of the direct sound over the reverberation."""
    tilt_db: float = Field(ge=0.0)
    """Equaliser: largest gain at either end of a line over the mel axis."""
    ripple_db: float = Field(ge=0.0)
    """Equaliser: largest gain of slow waves over the mel axis."""
    band_limit: Share
    """How often the band is cut as a telephone or a cheap microphone does."""
    noise: Share
    """How often noise is added."""
    noise_snr_db: tuple[float, float]
    noise_tilt_db: tuple[float, float]
    """Colour: dB an octave, 0 is white, -3 pink, -6 brown."""
    gain_db: float = Field(ge=0.0)
    mask_bands: int = Field(ge=0)
    """SpecAugment: two masks of up to this many bands."""
    mask_frames: int = Field(ge=0)
    """SpecAugment: two masks of up to this many frames."""


class Recipe(Section):
    """A trained system."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    version: str
    preset: Literal["quadrant"]
    """How emotions become stress: labels.PRESETS."""
    student: Student
    optimisation: Optimisation
    sampling: Sampling
    losses: Losses
    augmentation: Augmentation


def read_recipe(name: str) -> Recipe:
    """Reads a recipe file, or one that ships, by name.

    Raises:
        SettingsError: no such recipe, broken TOML, or a wrong key or value; the message names it.
    """
    shipped = {
        Path(entry.name).stem: entry
        for entry in (resources.files(__package__) / "recipes").iterdir()
        if entry.name.endswith(".toml")
    }
    try:
        text = shipped[name].read_text("utf-8") if name in shipped else Path(name).read_text("utf-8")
    except OSError as error:
        raise SettingsError(
            f"recipe {name}: {error.strerror or error}: give a .toml file or one of {', '.join(sorted(shipped))}"
        ) from None
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"recipe {name}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"recipe {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
