"""How long files take for a batch, with one thread and with two, timed in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sser.model.model import Model
from edge_sser.pipeline.features import FEATURES
from edge_sser.settings.schema import Runtime

THREADS = (1, 2)
INFERENCES = {1: 200, 8: 60, 32: 30}  # timed of each batch size, in turn with the other files
_WARM_UP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Wall time of one inference.

    Attributes:
        threads: of ONNX Runtime.
        batch: windows at once.
        median_ms: milliseconds a batch.
        p95_ms: 95th percentile, milliseconds a batch.
    """

    threads: int
    batch: int
    median_ms: float
    p95_ms: float


def measure_latencies(
    paths: Sequence[Path],
    *,
    runtime: Runtime = Runtime.CPU,
    threads: Sequence[int] = THREADS,
    inferences: Mapping[int, int] | None = None,
) -> dict[Path, list[Latency]]:
    """Times files in turn, so that what else the machine does falls on all of them alike.

    Args:
        paths: of model files.
        runtime: what computes them.
        threads: numbers of them to time with.
        inferences: how many of each batch size; INFERENCES.
    """
    wanted = INFERENCES if inferences is None else inferences
    out: dict[Path, list[Latency]] = {path: [] for path in paths}
    random = np.random.default_rng(0)
    for count in threads:
        models = {path: Model.load(path, runtime=runtime, threads=count) for path in paths}
        for batch, repetitions in wanted.items():
            windows = random.normal(-60.0, 20.0, (batch, FEATURES.frames, FEATURES.bands)).astype(np.float32)
            taken: dict[Path, list[float]] = {path: [] for path in paths}
            for _ in range(_WARM_UP + repetitions):
                for path, model in models.items():
                    begun = time.perf_counter()
                    model.logits(windows)
                    taken[path].append(1000.0 * (time.perf_counter() - begun))
            for path, times in taken.items():
                kept = times[_WARM_UP:]
                out[path].append(
                    Latency(
                        threads=count,
                        batch=batch,
                        median_ms=round(statistics.median(kept), 4),
                        p95_ms=round(statistics.quantiles(kept, n=20)[-1], 4),
                    )
                )
    return out


def latency_table(timed: Mapping[str, Sequence[Latency]]) -> str:
    """Latencies of one or more files as Markdown, a column a file.

    Args:
        timed: by the file's name; not empty.
    """
    lines = ["| ms a batch: median (p95) | " + " | ".join(timed) + " |", "|---|" + "---|" * len(timed)]
    for same in zip(*timed.values(), strict=True):
        threads = f"{same[0].threads} thread{'s' if same[0].threads > 1 else ''}"
        cells = [f"{item.median_ms:.3f} ({item.p95_ms:.3f})" for item in same]
        lines.append(f"| {threads}, batch {same[0].batch} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
