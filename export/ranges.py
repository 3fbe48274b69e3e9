"""What range of a tensor 8 bits should cover: seen on real windows, found by one of three methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_sser.model.runtime import onnx_runtime

BINS = 8192  # ONNX Runtime's own entropy method has 128, too few to find anything but the extremes
LEVELS = 256
KEPT_SHARE = 0.9999  # of the values, by the percentile method
STEPS = 80  # ranges that the entropy method tries, from LEAST of the widest up
LEAST = 0.2
_BATCH = 32


class Method(str, Enum):
    """How a range is chosen."""

    MINMAX = "minmax"
    """All that was seen."""
    PERCENTILE = "percentile"
    """All but the outermost ten thousandth."""
    ENTROPY = "entropy"
    """The one whose 256 levels keep most of the distribution: least Kullback-Leibler divergence (Migacz, 2017)."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """The values that a tensor took.

    Attributes:
        low: the least of them.
        high: the greatest.
        counts: int64 [BINS], of equal bins from low to high.
    """

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """float64 [BINS], the middle of each bin."""
        return self.low + (np.arange(self.counts.size) + 0.5) * (self.high - self.low) / self.counts.size


def observe(model: onnx.ModelProto, tensors: Iterable[str], windows: NDArray[np.float32]) -> Mapping[str, Histogram]:
    """Runs a graph over windows and notes what tensors inside it take.

    Args:
        model: with one input.
        tensors: float tensors of the graph.
        windows: float32 [n, frames, bands].
    """
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    key = model.graph.input[0].name
    inner = sorted(set(tensors) - {key})
    already = {value.name for value in model.graph.output}
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in already)
    session = onnx_runtime().InferenceSession(probed.SerializeToString(), providers=["CPUExecutionProvider"])

    def seen() -> Iterable[Mapping[str, NDArray[np.float32]]]:
        for start in range(0, len(windows), _BATCH):
            batch = windows[start : start + _BATCH]
            yield {key: batch, **dict(zip(inner, session.run(inner, {key: batch}), strict=True))}

    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for values in seen():
        for name, value in values.items():
            low[name] = min(low.get(name, np.inf), float(value.min()))
            high[name] = max(high.get(name, -np.inf), float(value.max()))
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in low}
    for values in seen():
        for name, value in values.items():
            counts[name] += np.histogram(value, BINS, (low[name], max(high[name], low[name] + 1e-6)))[0]
    return {name: Histogram(low[name], max(high[name], low[name] + 1e-6), counts[name]) for name in low}


def find_range(seen: Histogram, method: Method, *, symmetric: bool) -> tuple[float, float]:
    """The range to quantise; zero lies within it.

    Args:
        seen: of the tensor.
        method: how to choose.
        symmetric: whether it must be the same on both sides of zero.
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if method is Method.PERCENTILE:
        share = np.cumsum(seen.counts) / seen.counts.sum()
        outside = (1.0 - KEPT_SHARE) / (2.0 if low < 0.0 < high else 1.0)
        centres = seen.centres
        if high > 0.0:
            high = max(float(centres[np.searchsorted(share, 1.0 - outside).clip(max=BINS - 1)]), 0.0)
        if low < 0.0:
            low = min(float(centres[np.searchsorted(share, outside)]), 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    if method is not Method.ENTROPY or high <= low:
        return low, high
    shares = np.linspace(LEAST, 1.0, STEPS)
    lost = [divergence(seen, low * share, high * share) for share in shares]
    best = float(shares[int(np.argmin(lost))])
    return low * best, high * best


def divergence(seen: Histogram, low: float, high: float) -> float:
    """Kullback-Leibler divergence, nats, from a distribution to what 256 levels from low to high leave of it.

    What lies outside is clipped to the ends. Zero itself is left out: every range represents it exactly, and after a
    ReLU it outweighs all else.
    """
    centres = seen.centres
    counts = seen.counts.astype(np.float64)
    bin_width = (seen.high - seen.low) / counts.size
    counts[np.abs(centres) <= bin_width / 2.0] = 0.0
    inside = (centres >= low) & (centres <= high)
    if not counts[inside].any():
        return float("inf")
    kept = counts[inside]
    clipped = kept.copy()
    clipped[0] += counts[centres < low].sum()
    clipped[-1] += counts[centres > high].sum()
    level = np.minimum(((centres[inside] - low) / (high - low) * LEVELS).astype(int), LEVELS - 1)
    mass = np.bincount(level, kept, LEVELS)
    filled = np.bincount(level, kept > 0, LEVELS)
    spread = np.where(kept > 0, mass[level] / np.maximum(filled[level], 1), 0.0)
    p = clipped / clipped.sum()
    q = np.maximum(spread / spread.sum(), 1e-9)  # an end that only clipped values reach
    here = p > 0
    return float(np.sum(p[here] * np.log(p[here] / q[here])))
