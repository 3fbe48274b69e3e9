"""Real windows to quantise with, drawn from the training speakers alone, and the ranges that tensors take on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_sser.commands.progress import progress
from edge_sser.errors import TrainingError, UsageError
from edge_sser.model.onnx_backend import cpu_session
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.folds import check_disjoint, split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.features import windows
from edge_sser.train.fit.checkpoint import data_key

CALIBRATION_WINDOWS = 256
TUNING_WINDOWS = 512
SEED = 1

BINS = 8192  # ONNX Runtime's own entropy method has 128, too few to find anything but the extremes
LEVELS = 256  # of 8 bits
PERCENTILE_SHARE = 0.9999  # of the values, kept by the percentile method
ENTROPY_STEPS = 80  # ranges that the entropy method tries, from ENTROPY_MIN_SHARE of the widest up to all of it
ENTROPY_MIN_SHARE = 0.2
MSE_STEPS = 80  # the same of each end, for the method of least squares
MSE_MIN_SHARE = 0.2
_BATCH = 32
_MIN_WIDTH = 1e-6  # of a histogram, for a tensor that is constant


@dataclass(frozen=True, slots=True)
class SpeakerSplit:
    """Utterances of a table, split by speaker.

    Attributes:
        training: utterances to draw calibration windows from.
        test: utterances of other speakers, to compare FP32 and INT8 on.
        strangers: True when the checkpoint was not trained on the test speakers. Otherwise only the differences between
            files mean something.
    """

    training: Sequence[Utterance]
    test: Sequence[Utterance]
    strangers: bool

    @property
    def test_speakers(self) -> int:
        """Number of test speakers."""
        return len({(utterance.corpus, utterance.speaker) for utterance in self.test})

    def describe(self) -> dict[str, Any]:
        """Plain values of the test part for the report."""
        return {"clips": len(self.test), "speakers": self.test_speakers, "strangers": self.strangers}


def split_speakers(
    header: Mapping[str, Any],
    table: Sequence[Utterance],
    *,
    held_out: int | None = None,
    test: Sequence[Utterance] | None = None,
) -> SpeakerSplit:
    """Finds the fold that a checkpoint left out, and splits the table by it.

    Args:
        header: header of the checkpoint.
        table: the utterances of its run, all folds.
        held_out: fold to leave out where the checkpoint was trained on all speakers.
        test: utterances to judge by instead of the fold that was left out.

    Raises:
        TrainingError: the checkpoint was trained on other recordings, or a test speaker or recording is in the training
            part too.
        UsageError: no fold is left to judge by, `held_out` is not the fold that the checkpoint left out, or `test` and
            `held_out` are both given.
    """
    folds = sorted({utterance.fold for utterance in table})
    left_out = [fold for fold in (*folds, None) if data_key(split(table, fold)[0]) == header["data"]]
    if not left_out:
        raise TrainingError(
            "the checkpoint was trained on other recordings than this table leaves for any fold: "
            "give --calibration the table that train fit was given"
        )
    fold = left_out[0]
    if test is not None:
        if held_out is not None:
            raise UsageError("--test and --held-out both name test speakers: leave one of them out")
        training, _ = split(table, fold)
        check_disjoint(training, test)
        return SpeakerSplit(training, test, strangers=True)
    if held_out is not None and held_out not in folds:
        raise UsageError(f"--held-out {held_out}: the table has the folds {', '.join(map(str, folds))}")
    if fold is None:
        if held_out is None:
            raise UsageError(
                "the checkpoint was trained on all speakers, so none is left to judge by: give --test TABLE with "
                "strangers, or --held-out FOLD to compare on speakers that the checkpoint knows"
            )
        training, test = split(table, held_out)
        return SpeakerSplit(training, test, strangers=False)
    if held_out not in (None, fold):
        raise UsageError(f"--held-out {held_out}: the checkpoint left out fold {fold}, and knows the others")
    training, test = split(table, fold)
    return SpeakerSplit(training, test, strangers=True)


@dataclass(frozen=True, slots=True)
class CalibrationData:
    """Windows drawn from the training speakers.

    Attributes:
        calibration: float32 [n, frames, bands], to find ranges with.
        tuning: float32 [m, frames, bands] of other recordings, to choose methods and nodes by.
        sha256: hash of the calibration windows.
    """

    calibration: NDArray[np.float32]
    tuning: NDArray[np.float32]
    seed: int
    sha256: str

    def describe(self) -> dict[str, Any]:
        """Plain values for the card and the report."""
        return {"windows": len(self.calibration), "seed": self.seed, "sha256": self.sha256}


def draw_windows(training: Sequence[Utterance], *, seed: int = SEED) -> CalibrationData:
    """Draws windows at random, one per recording.

    Raises:
        TrainingError: there are fewer than two recordings.
        SourceError: a recording cannot be read.
    """
    if len(training) < 2:
        raise TrainingError("calibration needs at least two recordings: give a larger table")
    random = np.random.default_rng(seed)
    order = random.permutation(len(training))
    count = min(CALIBRATION_WINDOWS, len(training) // 2)
    drawn = []
    chosen = order[: count + TUNING_WINDOWS]
    with progress("windows", len(chosen)) as work:
        for index in chosen:
            clip = windows(log_mel(read_audio(training[index].path)))
            drawn.append(clip[random.integers(len(clip))])
            work.advance()
    calibration = np.stack(drawn[:count])
    return CalibrationData(
        calibration, np.stack(drawn[count:]), seed, hashlib.sha256(calibration.tobytes()).hexdigest()
    )


class Method(str, Enum):
    """Methods that choose a range from a histogram."""

    MINMAX = "minmax"
    """All values."""
    PERCENTILE = "percentile"
    """All but the outermost ten thousandth."""
    ENTROPY = "entropy"
    """The range whose 256 levels keep most of the distribution: least Kullback-Leibler divergence (Migacz, 2017)."""
    MSE = "mse"
    """The range with the least mean square of what rounding and clipping change; each end is searched on its own."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Distribution of the values of a tensor.

    Attributes:
        counts: int64 [BINS], of equal bins from low to high.
    """

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin, float64 [BINS]."""
        return self.low + (np.arange(self.counts.size) + 0.5) * (self.high - self.low) / self.counts.size


def observe(model: onnx.ModelProto, tensors: Iterable[str], windows: NDArray[np.float32]) -> Mapping[str, Histogram]:
    """Returns histograms of float tensors of a graph with one input, run over windows, float32 [n, frames, bands]."""
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    key = model.graph.input[0].name
    inner = sorted(set(tensors) - {key})
    outputs = {value.name for value in model.graph.output}
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in outputs)
    session = cpu_session(probed.SerializeToString(), threads=0)

    def batches() -> Iterator[tuple[str, NDArray[np.float32]]]:
        for start in range(0, len(windows), _BATCH):
            batch = windows[start : start + _BATCH]
            yield key, batch
            yield from zip(inner, session.run(inner, {key: batch}), strict=True)

    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for name, value in batches():
        low[name] = min(low.get(name, np.inf), float(value.min()))
        high[name] = max(high.get(name, -np.inf), float(value.max()))
    high = {name: max(high[name], low[name] + _MIN_WIDTH) for name in low}
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in low}
    for name, value in batches():
        counts[name] += np.histogram(value, BINS, (low[name], high[name]))[0]
    return {name: Histogram(low[name], high[name], counts[name]) for name in low}


def find_range(histogram: Histogram, method: Method, *, symmetric: bool) -> tuple[float, float]:
    """Returns the range to quantise, least and greatest value; zero lies within it, in the middle if `symmetric`."""
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if method is Method.PERCENTILE:
        share = np.cumsum(histogram.counts) / histogram.counts.sum()
        outside = (1.0 - PERCENTILE_SHARE) / (2.0 if low < 0.0 < high else 1.0)
        centres = histogram.centres
        if high > 0.0:
            high = max(float(centres[np.searchsorted(share, 1.0 - outside).clip(max=BINS - 1)]), 0.0)
        if low < 0.0:
            low = min(float(centres[np.searchsorted(share, outside)]), 0.0)
    if method is Method.MSE:
        low, high = _least_square_range(histogram, low, high, symmetric=symmetric)
    if symmetric:
        high = max(-low, high)
        low = -high
    if method is not Method.ENTROPY or high <= low:
        return low, high
    shares = np.linspace(ENTROPY_MIN_SHARE, 1.0, ENTROPY_STEPS)
    losses = [divergence(histogram, low * share, high * share) for share in shares]
    best = float(shares[int(np.argmin(losses))])
    return low * best, high * best


def _least_square_range(histogram: Histogram, low: float, high: float, *, symmetric: bool) -> tuple[float, float]:
    """Returns the ends from MSE_MIN_SHARE to all of a range whose 256 levels differ least from the values."""
    centres, mass = histogram.centres, histogram.counts / histogram.counts.sum()
    shares = np.linspace(MSE_MIN_SHARE, 1.0, MSE_STEPS)

    def loss(least: float, greatest: float) -> float:
        clipped = centres.clip(least, greatest)
        step = (greatest - least) / (LEVELS - 1)
        return float(mass @ ((centres - clipped) ** 2 + (step**2 / 12.0) * (clipped == centres)))

    if symmetric:
        end = max(-low, high)
        end *= min(shares, key=lambda share: loss(-share * end, share * end))
        return -end, end
    for _ in range(2):  # each end depends a little on the other
        high *= min(shares, key=lambda share: loss(low, share * high))
        low *= min(shares, key=lambda share: loss(share * low, high))
    return float(low), float(high)


def divergence(histogram: Histogram, low: float, high: float) -> float:
    """Returns the Kullback-Leibler divergence, nats, from a distribution to its 256 levels from low to high.

    Values outside are clipped to the ends. Zero itself is left out: every range represents it exactly, and after a ReLU
    it outweighs all else.
    """
    centres = histogram.centres
    counts = histogram.counts.astype(np.float64)
    bin_width = (histogram.high - histogram.low) / counts.size
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
