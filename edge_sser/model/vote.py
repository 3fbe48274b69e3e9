"""Vote of the emotion logits in the stress logit of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmotionVote:
    """Share of the emotion logits in the stress logit of a model.

    Attributes:
        share: of the emotions' log-odds of stress in the mean with the stress logit, 0..1.
        stressed: labels of the emotions that are stress.
        unstressed: labels of those that are not. The others are left out.
    """

    share: float
    stressed: tuple[str, ...]
    unstressed: tuple[str, ...]

    def log_odds(self, emotions: Logits, labels: Sequence[str]) -> Logits:
        """Returns the log-odds of stress by the emotions alone: the difference of two sums of their probabilities.

        Args:
            emotions: logits, [..., classes].
            labels: of the classes.
        """
        return group_log_odds(emotions, labels, self.stressed, self.unstressed)

    def blend(self, stress: Logits, emotions: Logits, labels: Sequence[str]) -> Logits:
        """Returns the mean of stress logits, [...], and the emotions' log-odds; see `log_odds`."""
        return np.asarray((1.0 - self.share) * stress + self.share * self.log_odds(emotions, labels), stress.dtype)


def group_log_odds(emotions: Logits, labels: Sequence[str], first: Sequence[str], second: Sequence[str]) -> Logits:
    """Returns the log-odds of one group of emotions against another: float [...].

    Args:
        emotions: logits, [..., classes].
        labels: of the classes.
        first: labels of the one group.
        second: labels of the other.
    """
    yes, no = (emotions[..., [labels.index(name) for name in names]] for names in (first, second))
    return np.asarray(np.logaddexp.reduce(yes, axis=-1) - np.logaddexp.reduce(no, axis=-1))


def check_groups(first: Sequence[str], second: Sequence[str], labels: Sequence[str], name: str) -> None:
    """Checks two groups of emotions.

    Args:
        first: labels of the one group.
        second: labels of the other.
        labels: of the model.
        name: of the field, for the message.

    Raises:
        ValueError: they are not some of the model's labels, once each, on both sides.
    """
    named = [*first, *second]
    if not first or not second or len({*named}) < len(named) or not {*named} <= {*labels}:
        raise ValueError(f"{name}: its labels are not emotions of the model, each once, on both sides")


def check_vote(vote: EmotionVote, labels: Sequence[str]) -> None:
    """Checks a vote of the emotions.

    Raises:
        ValueError: the share is not within 0..1, or as for `check_groups`.
    """
    if not 0.0 <= vote.share <= 1.0:
        raise ValueError("emotion_vote: its share is not within 0..1")
    check_groups(vote.stressed, vote.unstressed, labels, "emotion_vote")
