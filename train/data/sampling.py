"""Which clips an epoch is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.table import Utterance


class Sampler:
    """Draws epochs in which each corpus has its share, whatever its size.

    Within a corpus every clip is drawn once before any is drawn again.
    """

    def __init__(self, utterances: Sequence[Utterance], shares: Mapping[str, float], clips_per_epoch: int) -> None:
        """Plans the shares.

        Args:
            utterances: the training side.
            shares: by corpus, 0..1; those not named share the rest by size. Names that have no clip are ignored
                when others remain.
            clips_per_epoch: drawn in an epoch.

        Raises:
            TrainingError: the shares sum to more than 1, or leave nothing to draw.
        """
        by_corpus: dict[str, list[int]] = {}
        for place, utterance in enumerate(utterances):
            by_corpus.setdefault(utterance.corpus, []).append(place)
        named = {name: share for name, share in shares.items() if name in by_corpus}
        if sum(named.values()) > 1.0:
            raise TrainingError("recipe: sampling.shares sum to more than 1: lower them")
        others = {name: len(places) for name, places in by_corpus.items() if name not in named}
        rest = 1.0 - sum(named.values()) if others else 0.0
        weights = {**named, **{name: rest * size / sum(others.values()) for name, size in others.items()}}
        total = sum(weights.values())
        if total <= 0.0:
            raise TrainingError("recipe: sampling.shares leave no corpus to draw from")
        self._places = {name: np.array(places) for name, places in by_corpus.items()}
        self._counts = {name: round(clips_per_epoch * weight / total) for name, weight in weights.items()}

    def epoch(self, random: np.random.Generator) -> NDArray[np.int64]:
        """Places in the utterances, in the order to be trained on."""
        drawn = []
        for name, count in self._counts.items():
            places = self._places[name]
            rounds = -(-count // places.size)
            drawn.append(np.concatenate([random.permutation(places) for _ in range(rounds)])[:count])
        return random.permutation(np.concatenate(drawn))
