"""Reads the clips of a split for a reference system."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import TrainingError
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.references.front_ends import TwinMaker
from edge_sser.train.references.protocols import Item
from edge_sser.train.references.recipe import ReferenceRecipe
from edge_sser.train.references.system import Clip, Samples

FRAME_SAMPLES = 400  # 25 ms, a frame of speech


class ClipReader:
    """Reads clips and makes their twins; keeps both."""

    def __init__(self, utterances: Sequence[Utterance], recipe: ReferenceRecipe, seed: int) -> None:
        self._utterances = utterances
        self._twin = TwinMaker(recipe.twins.kinds, seed) if recipe.twins else None
        self._kept: dict[Item, Samples] = {}

    def samples(self, item: Item) -> Samples:
        """Returns the samples of an item, read or made once.

        Raises:
            SourceError: the recording cannot be read.
            TrainingError: it is shorter than a frame.
        """
        if item not in self._kept:
            self._kept[item] = self._make(item)
        return self._kept[item]

    def clip(self, item: Item) -> Clip:
        """Returns an item with its label; errors as for `samples`."""
        utterance = self._utterances[item.place]
        return Clip(self.samples(item), EMOTIONS.index(utterance.emotion), utterance.corpus)

    def _make(self, item: Item) -> Samples:
        path = self._utterances[item.place].path
        if item.twin and self._twin is not None:
            return self._twin(self.samples(Item(item.place)), item.twin)
        samples = read_audio(path)
        if samples.size < FRAME_SAMPLES:
            raise TrainingError(
                f"{path}: {1000 * samples.size / SAMPLE_RATE:.1f} ms, shorter than a frame of 25 ms: leave it out with "
                f"train select --drop 'path={path}'"
            )
        return samples
