"""What a teacher is to those who ask it."""

from __future__ import annotations

from typing import Any, Protocol

from edge_sser.train.corpora.table import Utterance
from edge_sser.train.teachers.outputs import Outputs


class Teacher(Protocol):
    """Trained without the test speakers of a fold, and asked about the others."""

    def __call__(self, clip: Utterance) -> Outputs:
        """What it says of the windows of a clip, one every half second; a shorter clip is repeated to fill one.

        Raises:
            SourceError: the recording cannot be read.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Plain values that name its weights and settings: equal ones mean equal outputs."""
        ...
