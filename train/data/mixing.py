"""What a recipe mixes into training beside the clips: their augmented twins, and recorded noise."""

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
from edge_sser.train.data.waveform import Folders, WaveformAugmenter, noise_bank, twin_stores
from edge_sser.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Mixed:
    """What a student hears beside the clips as they are.

    Attributes:
        twins: features of each set of their augmented twins.
        fresh: makes new twins as they are drawn; None where none are asked for.
        noise: of `recordings.noise_bank`.
    """

    twins: Sequence[FeatureStore] = ()
    fresh: WaveformAugmenter | None = None
    noise: Tensor | None = None

    def describe(self, recipe: Recipe) -> dict[str, Any]:
        """Plain values that name what the recipe mixes in, for a checkpoint's header; none where that is nothing."""
        values: dict[str, Any] = {}
        if recipe.twins:
            values["twins"] = [twin.key for twin in self.twins]
        if recipe.twins and self.fresh is not None:
            values["fresh"] = hashlib.sha256(self.fresh.key.encode()).hexdigest()
        if recipe.augmentation.recorded_noise and self.noise is not None:
            values["noise"] = hashlib.sha256(self.noise.numpy().tobytes()).hexdigest()
        return values


NOTHING_MIXED = Mixed()


def open_heard(
    recipe: Recipe,
    utterances: Sequence[Utterance],
    cache: Path,
    *,
    noise: Path | None = None,
    rooms: Path | None = None,
    silent: bool = False,
) -> tuple[FeatureStore, Mixed]:
    """The features of a table and what a recipe mixes in, with a progress bar.

    Args:
        recipe: says what.
        utterances: all of a table.
        cache: where features are kept.
        noise: folder of recorded noise.
        rooms: folder of impulse responses.
        silent: shows no bar.

    Raises:
        As `open_mixed` and FeatureStore.
    """
    total = len(utterances) * (1 + (recipe.twins.count if recipe.twins else 0))
    with tqdm(total=total, unit=" recordings", desc="features", disable=silent) as bar:

        def step(utterance: Utterance) -> None:
            bar.update()

        store = FeatureStore(utterances, cache, step)
        mixed = open_mixed(recipe, utterances, cache, noise=noise, rooms=rooms, progress=step)
        bar.update(total - bar.n)
    return store, mixed


def open_mixed(
    recipe: Recipe,
    utterances: Sequence[Utterance],
    cache: Path,
    *,
    noise: Path | None = None,
    rooms: Path | None = None,
    progress: Callable[[Utterance], None] = lambda utterance: None,
) -> Mixed:
    """What a recipe mixes in; computes what is not in the cache yet.

    Args:
        recipe: says what.
        utterances: all of a table.
        cache: where features are kept.
        noise: folder of recorded noise.
        rooms: folder of impulse responses.
        progress: called after each twin that is computed.

    Raises:
        MissingComponentError: the recipe has twins, and audiomentations is not installed.
        UsageError: a folder that the recipe needs is not given.
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
        return Mixed(noise=bank)
    augmenter = WaveformAugmenter(recipe.twins, Folders(noise, rooms))
    kept = twin_stores(utterances, augmenter, recipe.twins.count, cache, progress)
    return Mixed(kept, augmenter if recipe.twins.fresh else None, bank)
