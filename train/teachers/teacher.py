"""Interface of a teacher."""

from __future__ import annotations

from typing import Any, Protocol

from edge_sser.train.corpora.table import Utterance
from edge_sser.train.teachers.outputs import Outputs


class Teacher(Protocol):
    """Model trained without the test speakers of a fold; its outputs are targets of students."""

    def __call__(self, clip: Utterance) -> Outputs:
        """Returns outputs for the windows of a clip, one every half second; a shorter clip is repeated to fill one.

        Raises:
            SourceError: the recording cannot be read.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Returns plain values that identify weights and settings: equal values mean equal outputs."""
        ...
