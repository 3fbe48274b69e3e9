"""What every source yields: a run of 16 kHz mono samples with its place in time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of everything behind a source


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """A run of samples as a source hands it on.

    Attributes:
        samples: float32 [n], mono, 16 kHz, nominally -1..1. Never NaN or infinite.
        dropped: samples (at 16 kHz) lost immediately before this block; 0 when it follows on.
    """

    samples: NDArray[np.float32]
    dropped: int = 0


class EndOfAudio(Exception):  # noqa: N818 - a signal between source and monitor, not a failure
    """Raised by `Source.read` once the last block has been handed out."""


class Source(ABC):
    """Where audio comes from. Opened by the constructor, released by `close`.

    Attributes:
        name: the source's name in events and topics: lower-case letters, digits, '-' and '_'.
        live: True when audio comes at its own pace (microphone, pipe), False for a recording.
        started_at: seconds since the epoch (UTC) of the first sample: the one place where
            wall-clock time enters. For a recording, its modification time less its duration; for a
            live source, the time of opening until the first block has come.
        overruns: how often the device itself reported that it lost audio. It does not say how much.
    """

    name: str
    live: bool
    started_at: float
    overruns: int = 0

    @abstractmethod
    def read(self, timeout_seconds: float) -> AudioBlock | None:
        """The next block, or None when no audio came within the timeout.

        Raises:
            EndOfAudio: after the last block of a recording or pipe.
            SourceError: the source broke; the message says what to do.
        """

    def close(self) -> None:  # noqa: B027 - not every source holds something
        """Releases the source. Safe to call twice."""

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
