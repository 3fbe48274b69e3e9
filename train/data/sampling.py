"""Sampling of the clips of an epoch, with a share for each corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.table import Utterance

PASSES = 2  # of an epoch over the clips of a small corpus, at most
LEAST_CLIPS = 640  # in an epoch: ten steps of the recipe's batches


def epoch_size(clips_per_epoch: int, clips: int) -> int:
    """Returns the clips to draw for an epoch: as the recipe says, or fewer for a small corpus.

    Args:
        clips_per_epoch: of the recipe.
        clips: of the training side.
    """
    return min(clips_per_epoch, max(PASSES * clips, LEAST_CLIPS))


class Sampler:
    """Draws epochs in which each corpus has its share, independent of its size.

    Within a corpus every clip is drawn once before any is drawn again.
    """

    def __init__(self, utterances: Sequence[Utterance], shares: Mapping[str, float], clips_per_epoch: int) -> None:
        """Computes the number of clips of each corpus.

        Args:
            utterances: the training side.
            shares: by corpus, 0..1; corpora without an entry share the rest by size. Entries of corpora without a
                clip are ignored when others remain.
            clips_per_epoch: drawn in an epoch.

        Raises:
            TrainingError: the shares sum to more than 1, or leave nothing to draw.
        """
        by_corpus: dict[str, list[int]] = {}
        for index, utterance in enumerate(utterances):
            by_corpus.setdefault(utterance.corpus, []).append(index)
        named = {name: share for name, share in shares.items() if name in by_corpus}
        if sum(named.values()) > 1.0:
            raise TrainingError("recipe: sampling.shares sum to more than 1: lower them")
        others = {name: len(indices) for name, indices in by_corpus.items() if name not in named}
        rest = 1.0 - sum(named.values()) if others else 0.0
        weights = {**named, **{name: rest * size / sum(others.values()) for name, size in others.items()}}
        total = sum(weights.values())
        if total <= 0.0:
            raise TrainingError("recipe: sampling.shares leave no corpus to draw from")
        self._indices = {name: np.array(indices) for name, indices in by_corpus.items()}
        self._counts = {name: round(clips_per_epoch * weight / total) for name, weight in weights.items()}
        self._weights = {name: weight / total for name, weight in weights.items()}

    def epoch(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Returns indices of utterances in the order of training: int64 [about clips_per_epoch]."""
        drawn = []
        for name, count in self._counts.items():
            indices = self._indices[name]
            rounds = -(-count // indices.size)
            drawn.append(np.concatenate([random.permutation(indices) for _ in range(rounds)])[:count])
        return random.permutation(np.concatenate(drawn))

    def weights(self) -> NDArray[np.float64]:
        """Returns a weight for each utterance, 1 on average, so that each corpus has its share: float64 [n]."""
        total = sum(indices.size for indices in self._indices.values())
        found = np.zeros(total)
        for name, indices in self._indices.items():
            found[indices] = self._weights[name] * total / indices.size
        return found
