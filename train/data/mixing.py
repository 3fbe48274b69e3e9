"""Augmentation sources of a recipe: augmented twins of the clips, and recorded noise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from edge_sser.errors import UsageError
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.waveform import RecordingFolders, WaveformAugmenter, noise_bank, twin_stores
from edge_sser.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class AugmentationSources:
    """Training data beside the clips themselves.

    Attributes:
        twins: features of each set of augmented twins.
        fresh: makes new twins during training; None without them.
        noise: output of `waveform.noise_bank`; None without recorded noise.
    """

    twins: Sequence[FeatureStore] = ()
    fresh: WaveformAugmenter | None = None
    noise: Tensor | None = None

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """Returns hashes of the sources that the recipe uses, for a checkpoint's header; empty without any."""
        values: dict[str, Any] = {}
        if recipe.twins:
            values["twins"] = [twin.key for twin in self.twins]
        if recipe.twins and self.fresh is not None:
            values["fresh"] = hashlib.sha256(self.fresh.key.encode()).hexdigest()
        if recipe.augmentation.recorded_noise and self.noise is not None:
            values["noise"] = hashlib.sha256(self.noise.numpy().tobytes()).hexdigest()
        return values


NO_AUGMENTATION_SOURCES = AugmentationSources()


def open_training_data(
    recipe: Recipe,
    utterances: Sequence[Utterance],
    cache: Path,
    *,
    noise: Path | None = None,
    rooms: Path | None = None,
    silent: bool = False,
) -> tuple[FeatureStore, AugmentationSources]:
    """Opens the features of a table and the augmentation sources of a recipe, with a progress bar.

    Args:
        recipe: of the student.
        utterances: all of a table.
        cache: folder of the features.
        noise: folder of recorded noise.
        rooms: folder of impulse responses.
        silent: True to show no bar.

    Raises:
        As `open_augmentation_sources` and FeatureStore.
    """
    total = len(utterances) * (1 + (recipe.twins.count if recipe.twins else 0))
    with tqdm(total=total, unit=" recordings", desc="features", disable=silent) as bar:

        def step(utterance: Utterance) -> None:
            bar.update()

        store = FeatureStore(utterances, cache, step)
        sources = open_augmentation_sources(recipe, utterances, cache, noise=noise, rooms=rooms, progress=step)
        bar.update(total - bar.n)
    return store, sources


def open_augmentation_sources(
    recipe: Recipe,
    utterances: Sequence[Utterance],
    cache: Path,
    *,
    noise: Path | None = None,
    rooms: Path | None = None,
    progress: Callable[[Utterance], None] = lambda utterance: None,
) -> AugmentationSources:
    """Opens the augmentation sources of a recipe; computes twins that are not in the cache yet.

    Args:
        recipe: of the student.
        utterances: all of a table.
        cache: folder of the features.
        noise: folder of recorded noise.
        rooms: folder of impulse responses.
        progress: called after each twin that is computed.

    Raises:
        MissingComponentError: the recipe has twins, and audiomentations is not installed.
        UsageError: the recipe needs a folder that is not given.
        TrainingError: a folder holds no recording, or the features cannot be written.
        SourceError: a recording cannot be read.
    """
    bank = None
    if recipe.augmentation.recorded_noise:
        if noise is None:
            raise UsageError(
                f"recipe {recipe.name} has augmentation.recorded_noise: give --noise FOLDER, or set it to 0"
            )
        bank = noise_bank(noise)
    if recipe.twins is None:
        return AugmentationSources(noise=bank)
    augmenter = WaveformAugmenter(recipe.twins, RecordingFolders(noise, rooms))
    kept = twin_stores(utterances, augmenter, recipe.twins.count, cache, progress)
    return AugmentationSources(kept, augmenter if recipe.twins.fresh else None, bank)
