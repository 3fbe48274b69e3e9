"""Labelled clips of a site, as the stress head of a model sees them, dealt into folds by speaker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sser.commands.progress import progress
from edge_sser.errors import TrainingError
from edge_sser.pipeline.features import log_mel
from edge_sser.pipeline.gate import NETWORK_LEAST_RATIO, shipped_net
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.data.labels import Preset
from edge_sser.train.evaluate.metrics import Floats, Labels, has_both_classes
from edge_sser.train.fit.head import Embedder, Head, fit_head

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Clips:
    """Labelled clips of a site as the head sees them.

    Attributes:
        utterances: those that are used.
        embeddings: float64 [n, units], means over the windows.
        votes: log-odds of stress by the emotions, float64 [n], means over the windows.
        share: of the votes in the stress logit, 0..1.
        labels: int64 [n], 1 stressed.
        fold: int64 [n], from 0; a speaker stands in one.
        refused: number of clips in which the speech gate finds too little speech.
    """

    utterances: Sequence[Utterance]
    embeddings: Floats
    votes: Floats
    share: float
    labels: Labels
    fold: Labels
    refused: int

    @property
    def speakers(self) -> NDArray[np.str_]:
        """Speaker of each clip, str [n]."""
        return np.array([clip.voice for clip in self.utterances])

    def logits(self, head: Head, chosen: NDArray[np.bool_] | slice = slice(None)) -> Floats:
        """Returns the stress logits of some clips under a head, with the vote of the emotions: float64 [chosen]."""
        own = head.logits(self.embeddings[chosen])
        return (1.0 - self.share) * own + self.share * self.votes[chosen]

    def fit(self, old: Head, chosen: NDArray[np.bool_] | slice = slice(None)) -> Head:
        """Fits a head to some clips; see `fit_head`."""
        labels = self.labels[chosen].astype(float)
        return fit_head(old, self.embeddings[chosen], labels, votes=self.votes[chosen], share=self.share)


def usable(table: Sequence[Utterance], preset: Preset) -> tuple[list[Utterance], Labels]:
    """Returns the utterances that have a stress label, each recording once, and their labels, int64 [n].

    Raises:
        TrainingError: one recording has two labels.
    """
    chosen: dict[str, tuple[Utterance, int]] = {}
    for clip in table:
        label = preset.decision(clip)
        if label is None:
            continue
        first, known = chosen.setdefault(clip.sha256, (clip, label))
        if known != label or first.voice != clip.voice:
            raise TrainingError(
                f"{clip.path} is the same recording as {first.path}, with another "
                f"{'label' if known != label else 'speaker'}: correct one, or make the table with edge-sser train index"
            )
    return [clip for clip, _ in chosen.values()], np.array([label for _, label in chosen.values()], dtype=np.int64)


def deal_folds(utterances: Sequence[Utterance], labels: Labels) -> Labels:
    """Deals speakers into up to `FOLDS` folds, int64 [n] from 0; each has a speaker with both classes.

    Raises:
        TrainingError: there are fewer than two speakers with stressed and other clips.
    """
    voices = np.array([clip.voice for clip in utterances])
    if not has_both_classes(labels):
        kind = (
            "no clip with a stress label" if not labels.size else f"only {'stressed' if labels[0] else 'other'} clips"
        )
        raise TrainingError(f"the table has {kind}: adapt needs stressed and other clips of at least two speakers")
    order = sorted(set(voices), key=lambda voice: (not has_both_classes(labels[voices == voice]), voice))
    both = sum(has_both_classes(labels[voices == voice]) for voice in order)
    if both < 2:
        raise TrainingError(
            f"the number of speakers with stressed and other clips is {both}: adapt needs at least two, to score each "
            "by a head that never heard that speaker"
        )
    fold = {voice: place % min(FOLDS, both) for place, voice in enumerate(order)}
    return np.array([fold[voice] for voice in voices], dtype=np.int64)


def embed(embedder: Embedder, utterances: Sequence[Utterance], labels: Labels, share: float = 0.0) -> Clips:
    """Computes the embeddings of the clips that the speech gate accepts in one window or more.

    Args:
        embedder: of the model.
        utterances: of the site.
        labels: int64 [n], 1 stressed.
        share: of the emotions' vote in the stress logit.

    Raises:
        TrainingError: the gate refuses all clips, or too many.
        SourceError: a recording cannot be read.
    """
    net = shipped_net()
    rows, votes, kept = [], [], []
    with progress("adapt", len(utterances)) as work:
        for place, clip in enumerate(utterances):
            parts = windows(log_mel(read_audio(clip.path)))
            if any(np.mean(net.log_odds(part) > 0.0) >= NETWORK_LEAST_RATIO for part in parts):
                row, vote = embedder.embed(parts)
                rows.append(row)
                votes.append(vote)
                kept.append(place)
            work.advance()
    if not kept:
        raise TrainingError(
            f"the speech gate finds no speech in any of the {len(utterances)} clips: check the recordings"
        )
    chosen = [utterances[place] for place in kept]
    fold = deal_folds(chosen, labels[kept])
    refused = len(utterances) - len(kept)
    return Clips(chosen, np.array(rows), np.array(votes), share, labels[kept], fold, refused=refused)
