"""Recipe of a reference system: what it is, where it was published, and every setting except the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Literal

from pydantic import Field, model_validator

from edge_sser.settings.section import Ratio, Section
from edge_sser.train.recipe import read_toml


class Twins(Section):
    """Altered copies of clips, made once before training; see front_ends.make_twin."""

    count: int = Field(ge=1, le=20)
    """Copies of a clip."""
    kinds: list[Literal["noise", "shift", "pitch", "stretch", "volume"]]
    """Changes to draw one from for a copy, at the strength of the study."""


class Original(Section):
    """Protocol of the study, for `--original-protocol`."""

    split: Literal["random", "folds"]
    """random: clips drawn for the test, whoever speaks; folds: each clip is tested once, in random folds."""
    test_share: Ratio = 0.2
    """random alone: share of the clips that are tested."""
    folds: int = Field(default=5, ge=2)
    """folds alone: their number."""
    validation_share: Ratio = 0.0
    """Share of the remaining clips to choose an epoch on; 0: the last epoch is taken."""
    twins: bool = False
    """Altered copies are made before the split, so that copies of a clip stand on both sides."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the study that the recipe mends, to put back."""


class ReferenceRecipe(Section):
    """Complete recipe of a reference system."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")
    title: str
    """The system in a line."""
    system: str
    """Key of registry.SYSTEMS."""
    corpora: str
    """Data of the study."""
    published: str
    """Published figure and its protocol, in a line; empty without one."""
    source: str = ""
    """DOI or address of the study; empty when unknown."""
    mended: str = ""
    """Fault of the study that this recipe mends, in a line; empty without one."""
    remark: str = ""
    """Fact that belongs beside every score of this recipe, as a training cut short; for NAME.facts.json."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the system, which it validates itself."""
    validation: Ratio = 0.15
    """Share of each corpus's training speakers to choose an epoch on, in speaker-disjoint folds."""
    twins: Twins | None = None
    original: Original

    @model_validator(mode="after")
    def _check_twins(self) -> ReferenceRecipe:
        if self.original.twins and self.twins is None:
            raise ValueError("original.twins: there are none without [twins]: add it, or set this to false")
        return self

    def system_settings(self, original: bool) -> Mapping[str, Any]:
        """Returns the settings of the system, with those of the study where `original`."""
        return _merge(self.settings, self.original.settings) if original else self.settings


def reference_names() -> list[str]:
    """Returns the names of the recipes that ship."""
    return sorted(entry.name[:-5] for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))


def read_reference_recipe(name: str, changes: Sequence[str] = ()) -> ReferenceRecipe:
    """Reads a reference system's recipe; arguments and errors as for `recipe.read_recipe`."""
    return read_toml(ReferenceRecipe, name, _FOLDER, changes)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


_FOLDER = resources.files("edge_sser.train") / "recipes" / "references"
