"""Reference systems by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from edge_sser.errors import SettingsError
from edge_sser.train.references.system import System

_HERE = "edge_sser.train.references"
# MODULE:FUNCTION, which takes settings and a seed; the module is imported when its system is made.
SYSTEMS: Mapping[str, str] = {
    "column-vit": f"{_HERE}.columns:make",
    "crema-features": f"{_HERE}.crema_features:make",
    "egemaps": f"{_HERE}.egemaps:make",
    "encoder-finetune": f"{_HERE}.finetune:make",
    "encoder-svm": f"{_HERE}.frozen_encoder:make_statistics",
    "image": f"{_HERE}.images:make",
    "mfcc": f"{_HERE}.mfcc:make",
    "ssl-windows": f"{_HERE}.frozen_encoder:make_windows",
}


def make(system: str, settings: Mapping[str, Any], seed: int) -> System:
    """Makes a system.

    Args:
        system: key of SYSTEMS, from a recipe.
        settings: of the recipe.
        seed: of its weights and of the order of its batches.

    Raises:
        SettingsError: there is no such system, or a setting is wrong.
        MissingComponentError: a package that the system needs is not installed.
    """
    if system not in SYSTEMS:
        raise SettingsError(
            f"system {system}: there is none of that name: expected one of {', '.join(sorted(SYSTEMS))}"
        )
    module, _, function = SYSTEMS[system].partition(":")
    maker: Callable[[Mapping[str, Any], int], System] = getattr(import_module(module), function)
    return maker(settings, seed)
