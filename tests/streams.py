"""Ways to cut a stream, and a monitor with everything given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from edge_sser.audio.source import AudioBlock
from edge_sser.events import Event
from edge_sser.model.model import Model
from edge_sser.monitor.monitor import Monitor
from edge_sser.settings.schema import Settings

RATE = 16_000
STARTED_AT = 1_767_323_045.678  # 2026-01-02T03:04:05.678Z
LAW = settings(max_examples=25, deadline=None)  # no deadline: machines are shared


def cuts(length: int) -> st.SearchStrategy[list[int]]:
    """Places to cut a stream of that length; one may come twice, which makes an empty chunk."""
    return st.lists(st.integers(0, length), max_size=20).map(sorted)


def chunks(samples: np.ndarray, places: Sequence[int]) -> Iterator[np.ndarray]:
    """The stream, cut."""
    for begin, end in zip((0, *places), (*places, samples.size), strict=True):
        yield samples[begin:end]


def losses(length: int) -> st.SearchStrategy[dict[int, int]]:
    """Samples lost just before places in a stream of that length."""
    return st.dictionaries(st.integers(0, length), st.integers(1, 12 * RATE), max_size=6)


def blocks(samples: np.ndarray, places: Sequence[int], lost: dict[int, int]) -> list[AudioBlock]:
    """The stream, cut at the places and at the losses; a loss comes with the block behind it."""
    out = []
    begin = 0
    for end in sorted({*places, *lost, samples.size} - {0}):
        out.append(AudioBlock(samples[begin:end], lost.get(begin, 0)))
        begin = end
    if begin in lost:
        out.append(AudioBlock(samples[:0], lost[begin]))
    return out


def make_monitor(model: Model, options: dict[str, Any] | None = None, **changes: Any) -> Monitor:
    """A monitor of a recording.

    Args:
        model: to score with.
        options: settings other than the default ones.
        changes: other arguments of the monitor.
    """
    arguments: dict[str, Any] = {
        "node": "cab12",
        "source_name": "desk",
        "started_at": STARTED_AT,
        "live": False,
        "settings": Settings.model_validate(options or {}),
    }
    return Monitor(model=model, **{**arguments, **changes})


def play(monitor: Monitor, audio: Sequence[AudioBlock]) -> list[Event]:
    """All events of a stream, to its end."""
    return [event for block in audio for event in monitor.push(block)] + monitor.finish()


def silence(seconds: float) -> np.ndarray:
    """Digital silence."""
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def noise(seconds: float, *, dbfs: float, seed: int = 0) -> np.ndarray:
    """White noise of a level."""
    random = np.random.default_rng(seed)
    return (10.0 ** (dbfs / 20.0) * random.standard_normal(round(seconds * RATE))).astype(np.float32)
