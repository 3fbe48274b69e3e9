"""Faults that a second of sound shows by itself, channel by channel: nothing in it, hum, clipping, an offset."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.signal import Fault

# Samples beyond 120 dB over full scale are no sound (a float file read with the wrong coding, for example), and their
# power would overflow float32. Samples between full scale and this limit pass, and count as clipped.
MAX_MAGNITUDE: Final = 1e6
# A 16-bit converter reaches 32768 on the negative side only: a threshold of 1.0 would miss every positive peak.
FULL_SCALE: Final = 32_767 / 32_768
LAST_BIT: Final = 2.5 / 32_768  # from lowest to highest sample: dither of a 16-bit converter without a signal
LEAST_OFFSET: Final = 0.05  # of full scale; what converters have is well below
SOUND_POWER: Final = 1e-8  # -80 dB re full scale: below it the noise of the electronics says nothing of a channel
LOUD_POWER: Final = 1e-5  # -50 dB re full scale: speech, at about any gain
FAINT_RATIO: Final = 1e-4  # -40 dB: more than any place in a room makes between two microphones of a device
# Power of the mean of two channels by their mean power: 1 for equal channels, 1/2 for unrelated ones, 0 for opposite.
CANCELLED_RATIO: Final = 0.1
HUM_SHARE: Final = 0.75  # of the power, at multiples of the mains frequency
HUM_TOLERANCE_HZ: Final = 0.5
MAINS_HZ: Final = {50: Fault.HUM_50, 60: Fault.HUM_60}
_HUM_RATE_HZ = 1_000  # about, of the sound in which hum is looked for
_HIGHEST_HUM_HZ = 450
_LOBE_BINS = 4  # half the main lobe of a Blackman-Harris window
_PATTERN = 8  # samples of which a repetition is first suspected
_SUSPECTS = 4  # periods that are tried


@dataclass(frozen=True, slots=True)
class Look:
    """One second of sound.

    Attributes:
        faults: of each channel.
        powers: of each channel, mean squares without offset.
        opposite: channels whose mean with an earlier one is hardly heard.
    """

    faults: tuple[frozenset[Fault], ...]
    powers: tuple[float, ...]
    opposite: frozenset[int]


def look(frames: NDArray[np.float32], rate_hz: int) -> Look:
    """Looks at a second of sound.

    Args:
        frames: float32 [n, channels]; samples that are not numbers, or absurdly large, count as 0.
        rate_hz: sample rate, Hz.
    """
    channels = np.ascontiguousarray(frames.T)
    if not np.abs(channels.max()) <= MAX_MAGNITUDE or not np.abs(channels.min()) <= MAX_MAGNITUDE:  # also for NaN
        with np.errstate(invalid="ignore"):
            channels = np.where(np.abs(channels) <= MAX_MAGNITUDE, channels, np.float32(0.0))
    offsets = [samples.mean() for samples in channels]
    centred = [samples - offset for samples, offset in zip(channels, offsets, strict=True)]
    powers = [float(samples @ samples) / samples.size for samples in centred]
    faults = [
        _faults(samples, float(offset), samples_centred, power, rate_hz)
        for samples, offset, samples_centred, power in zip(channels, offsets, centred, powers, strict=True)
    ]
    return Look(tuple(faults), tuple(powers), frozenset(_opposite(centred, powers)))


def _faults(
    samples: NDArray[np.float32], offset: float, centred: NDArray[np.float32], power: float, rate_hz: int
) -> frozenset[Fault]:
    """Returns the faults that a channel shows by itself."""
    low, high = float(samples.min()), float(samples.max())
    found = _nothing(samples, low, high)
    if found:
        return found
    if abs(offset) > LEAST_OFFSET:
        found |= {Fault.OFFSET}
    if max(high, -low) >= FULL_SCALE and _is_clipped(samples):
        found |= {Fault.CLIPPED}
    if power > SOUND_POWER:
        found |= _hum(centred, rate_hz, power)
    return found


def _opposite(centred: Sequence[NDArray[np.float32]], powers: Sequence[float]) -> Iterator[int]:
    """Yields the channels that an earlier one cancels."""
    audible = [channel for channel, power in enumerate(powers) if power > SOUND_POWER]
    for later, earlier in itertools.combinations(reversed(audible), 2):
        sum_of_powers = powers[later] + powers[earlier]
        product = float(centred[later] @ centred[earlier]) / centred[later].size
        # Power of the sum of both, which is four times that of their mean.
        if sum_of_powers + 2.0 * product < 2.0 * CANCELLED_RATIO * sum_of_powers:
            yield later


def _nothing(samples: NDArray[np.float32], low: float, high: float) -> frozenset[Fault]:
    """Returns the fault of a channel that carries nothing; an empty set for one that does."""
    if low == high and abs(low) > LAST_BIT:
        return frozenset((Fault.STUCK,))
    if high - low <= LAST_BIT:
        return frozenset((Fault.SILENT,))
    return frozenset((Fault.REPEATS,) if _repeats(samples) else ())


def _repeats(samples: NDArray[np.float32]) -> bool:
    """Returns True when the samples are one piece over and over, to the last bit, as no microphone's noise is."""
    size = samples.size
    ends = np.flatnonzero(samples[size // 2 : -1] == samples[-1]) + size // 2  # where the piece before may end
    ends = ends[ends >= _PATTERN]
    for back in range(1, _PATTERN):
        if not ends.size:
            return False
        ends = ends[samples[ends - back] == samples[-1 - back]]
    periods = size - 1 - ends[-_SUSPECTS:]
    return any(np.array_equal(samples[period:], samples[:-period]) for period in periods)


def _is_clipped(samples: NDArray[np.float32]) -> bool:
    """Returns True for two neighbouring samples at full scale: one alone is left by a normalised recording."""
    full = np.abs(samples) >= FULL_SCALE
    return bool((full[1:] & full[:-1]).any())


def _hum(centred: NDArray[np.float32], rate_hz: int, power: float) -> set[Fault]:
    """Returns the mains frequency whose multiples are most of the sound, the strongest to half a hertz.

    No voice is so steady.
    """
    decimation = max(1, rate_hz // _HUM_RATE_HZ)
    size = centred.size // decimation
    low = centred[: size * decimation].reshape(size, decimation) @ np.full(decimation, 1.0 / decimation, np.float32)
    if float(low @ low) < HUM_SHARE * power * size:
        return set()
    window, bins = _hum_window(size, rate_hz / decimation)
    spectrum = np.abs(np.fft.rfft(low * window)) ** 2
    least = HUM_SHARE * power * size * float(window @ window) / 2.0
    found = {mains for mains, places in bins if float(spectrum[places].sum()) > least}
    if not found:
        return set()
    strongest = int(spectrum[1:-1].argmax()) + 1
    before, peak, after = np.log(spectrum[strongest - 1 : strongest + 2] + np.finfo(np.float64).tiny)
    place = strongest + 0.5 * (before - after) / (before - 2.0 * peak + after)  # top of a parabola through the three
    hertz = place * rate_hz / decimation / size
    return {MAINS_HZ[mains] for mains in found if abs(hertz - mains * round(hertz / mains)) < HUM_TOLERANCE_HZ}


@functools.lru_cache(maxsize=8)
def _hum_window(size: int, rate_hz: float) -> tuple[NDArray[np.float64], list[tuple[int, NDArray[np.intp]]]]:
    """Returns a Blackman-Harris window (Harris 1978, 4 terms, -92 dB), and the bins of each mains frequency."""
    angle = 2.0 * np.pi * np.arange(size) / size
    window = 0.35875 - 0.48829 * np.cos(angle) + 0.14128 * np.cos(2 * angle) - 0.01168 * np.cos(3 * angle)
    bins = []
    for mains in MAINS_HZ:
        harmonics = np.arange(mains, _HIGHEST_HUM_HZ + 1, mains) * size / rate_hz
        places = np.rint(harmonics).astype(np.intp)[:, np.newaxis] + np.arange(-_LOBE_BINS, _LOBE_BINS + 1)
        bins.append((mains, np.unique(places[(places > 0) & (places <= size // 2)])))
    return window, bins
