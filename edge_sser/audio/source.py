"""The interface of sources: runs of 16 kHz mono samples, each with its place in time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from edge_sser.audio.signal import CLEAR, Signal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of all audio that leaves a source
READ_SECONDS = 60.0  # timeout of a reader who only waits for blocks


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """A run of samples from a source.

    Attributes:
        samples: float32 [n], mono, 16 kHz, nominally -1..1. Never NaN or infinite.
        dropped: samples (at 16 kHz) lost immediately before this block; 0 when none was.
    """

    samples: NDArray[np.float32]
    dropped: int = 0


class EndOfAudio(Exception):  # noqa: N818 - a signal between source and monitor, not a failure
    """Raised by `Source.read` after the last block."""


class Source(ABC):
    """A stream of audio. The constructor opens it, `close` releases it.

    Attributes:
        name: the source's name in events and topics: lower-case letters, digits, '-' and '_'.
        live: True when audio comes at its own pace (microphone, pipe), False for a recording.
        started_at: seconds since the epoch (UTC) of the first sample. For a recording, its modification time less its
            duration; for a live source, the time of opening until the first block has come.
        overruns: losses so far that the device reported, without their length.
        signal: faults of the signal of a live source, up to the last second.
    """

    name: str
    live: bool
    started_at: float
    overruns: int = 0
    signal: Signal = CLEAR

    @abstractmethod
    def read(self, timeout_seconds: float) -> AudioBlock | None:
        """Returns the next block, or None when no audio came within the timeout.

        Raises:
            EndOfAudio: after the last block of a recording or pipe.
            SourceError: the source broke; the message says what to do.
        """

    def blocks(self) -> Iterator[AudioBlock]:
        """Yields the blocks to the end.

        Raises:
            SourceError: the source broke; the message says what to do.
        """
        with suppress(EndOfAudio):
            while True:
                block = self.read(READ_SECONDS)
                if block is not None:
                    yield block

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
