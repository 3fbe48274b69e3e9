"""Audio fingerprint that survives gain, noise, cuts and small shifts of a recording.

Peaks of the log-mel spectrum stay where they are when noise is added, the gain is turned, or the band is limited. Three
neighbouring peaks, by their bands and the time between them, are one landmark, and a landmark that occurs in two
recordings by chance is rare (after Wang, ISMIR 2003, with three peaks in place of two, so that no alignment is needed).
A fingerprint is a fixed sample of a recording's landmarks: those with the smallest hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from edge_sser.train.corpora.table import Utterance

LANDMARKS = 256  # kept of a recording, 1 kB
TWIN_LANDMARKS = 10  # shared by twins; of 13.6 million pairs by different people none shares them (docs/corpora.md)
SHARED_VOICES = 4  # a landmark of more speakers belongs to the room or the device: a hum, a beep at the start

_DEPTH_DB = 50.0  # below the loudest value: fainter peaks are noise
_LOWEST_BAND = 4  # mains hum and rumble below 200 Hz repeat
_AREA = (9, 9)  # frames and bands around a peak that it exceeds
_SMOOTH = 1.0  # deviation in frames of the smoothing over time, so that peaks stay when frames fall elsewhere
_PEAKS_PER_SECOND = 10
_LEAST_PEAKS = 4
_NEXT = 8  # peaks after the first among which a landmark is completed
_MIN_INTERVAL = 2  # frames between the peaks of a landmark at least: peaks of one moment are harmonics, and those recur
_SPAN = 60  # frames between the first and the last peak of a landmark at most
_STEP = 2  # frames: resolution of intervals
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads neighbouring numbers (Knuth)


def fingerprint(features: NDArray[np.floating]) -> bytes:
    """Returns the fingerprint of a recording by its log-mel features [frames, bands], dB.

    Returns:
        uint32, little-endian, ascending, at most `LANDMARKS` of them; few or none when the recording is very short.
    """
    frame, band = _peaks(np.asarray(features, dtype=np.float32))
    codes = []
    for second, third in combinations(range(1, _NEXT + 1), 2):
        first = np.arange(max(0, frame.size - third))
        to_second, to_third = intervals = [frame[first + step] - frame[first] for step in (second, third)]
        near = (to_second >= _MIN_INTERVAL) & (to_third - to_second >= _MIN_INTERVAL) & (to_third <= _SPAN)
        code = np.zeros(int(near.sum()), dtype=np.uint64)
        steps = [interval // _STEP for interval in intervals]
        for part in (band[first], band[first + second], band[first + third], *steps):
            code = code * np.uint64(64) + part[near].astype(np.uint64)  # each part is below 64
        codes.append(code)
    hashes = (np.concatenate(codes) * _MIX) >> np.uint64(32)
    return np.unique(hashes)[:LANDMARKS].astype("<u4").tobytes()


def twins(utterances: Sequence[Utterance]) -> list[tuple[int, int]]:
    """Returns index pairs of recordings that are copies or altered copies of each other under different speakers.

    Utterances without a fingerprint have no twin.
    """
    from scipy.sparse import coo_matrix

    voices = np.unique([utterance.voice for utterance in utterances], return_inverse=True)[1]
    marks = [np.frombuffer(utterance.fingerprint, dtype="<u4") for utterance in utterances]
    recording = np.repeat(np.arange(len(marks)), [mark.size for mark in marks])
    if recording.size == 0:
        return []
    landmark = np.unique(np.concatenate(marks), return_inverse=True)[1]
    pairs = np.unique(np.stack([landmark, voices[recording]]), axis=1)
    distinctive = (np.bincount(pairs[0]) <= SHARED_VOICES)[landmark]
    ones = np.ones(int(distinctive.sum()), dtype=np.int32)
    shape = (len(marks), int(landmark.max()) + 1)
    found = coo_matrix((ones, (recording[distinctive], landmark[distinctive])), shape=shape).tocsr()
    shared = (found @ found.T).tocoo()
    keep = (shared.data >= TWIN_LANDMARKS) & (shared.row < shared.col) & (voices[shared.row] != voices[shared.col])
    return sorted(zip(shared.row[keep].tolist(), shared.col[keep].tolist(), strict=True))


def _peaks(features: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns frame and band of the peaks furthest above the mean of their band, in order of time."""
    from scipy.ndimage import gaussian_filter1d, maximum_filter

    above = features[:, _LOWEST_BAND:]
    above = gaussian_filter1d(np.maximum(above, above.max() - _DEPTH_DB), _SMOOTH, axis=0, mode="nearest")
    above = above - above.mean(axis=0)  # an equaliser changes nothing
    frame, band = np.nonzero((above == maximum_filter(above, size=_AREA, mode="nearest")) & (above > 0.0))
    count = max(_LEAST_PEAKS, round(_PEAKS_PER_SECOND * len(features) / 100))
    strongest = np.sort(np.argsort(-above[frame, band], kind="stable")[:count])
    return frame[strongest], band[strongest]
