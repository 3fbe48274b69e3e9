"""`ListenLoop` as a function call, for tests in which the sources are open already or the end is an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from edge_sser.audio.source import Source
from edge_sser.daemon.inputs import Clocks, Input
from edge_sser.daemon.loop import ListenLoop
from edge_sser.model.model import Model
from edge_sser.settings.schema import Settings
from edge_sser.sinks.base import Sink


def listen(
    settings: Settings,
    sources: Sequence[Source | Input],
    sinks: Sequence[Sink],
    model: Model,
    stop: threading.Event,
    *,
    clock: Callable[[], float] = time.monotonic,
    wall_clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    **options: Any,
) -> None:
    """Runs a loop to its end; raises the error with which it ended."""
    inputs = [
        each if isinstance(each, Input) else Input(each.name, lambda source=each: source, reopens=False)
        for each in sources
    ]
    clocks = Clocks(monotonic=clock, wall=wall_clock, sleep=sleep)
    result = ListenLoop(settings, inputs, sinks, model, stop, clocks=clocks, **options).run()
    if result.error is not None:
        raise result.error
