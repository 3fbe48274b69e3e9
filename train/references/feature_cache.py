"""Features of clips on disk, so that folds, protocols and systems share them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from edge_sser.files import cache_directory
from edge_sser.train.data.features import load_array, save_array
from edge_sser.train.references.system import Samples


class FeatureCache:
    """Arrays of one front end, a file for each clip, in edge-sser's cache directory; safe to delete."""

    def __init__(self, kind: str, compute: Callable[[Samples], NDArray[Any]]) -> None:
        """Opens the cache.

        Args:
            kind: every setting and weight that the features depend on, in any text.
            compute: computes the features of a clip.
        """
        self._folder = cache_directory() / "references" / hashlib.sha256(kind.encode()).hexdigest()[:16]
        self._compute = compute

    def __call__(self, samples: Samples) -> NDArray[Any]:
        """Returns the features of a clip; computes them where there are none yet.

        Raises:
            TrainingError: the file is damaged or cannot be written.
        """
        path = self._folder / f"{hashlib.sha256(samples.tobytes()).hexdigest()[:32]}.npy"
        if path.exists():
            return load_array(path)
        features = self._compute(samples)
        save_array(path, features)
        return features
