"""The high-pass: an offset and rumble do not pass, speech does, and chunking changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from streams import LAW, RATE, chunks, cuts, noise, silence

from edge_sser.pipeline.highpass import BLOCK_SAMPLES, CUTOFF_HZ, HighPass, high_pass

LENGTH = 3 * RATE


def gain_db(hertz: float) -> float:
    """Change of the level of a tone, after the start."""
    tone = (0.5 * np.sin(2 * np.pi * hertz * np.arange(4 * RATE) / RATE)).astype(np.float32)
    before, after = (np.mean(np.square(part[RATE:], dtype=np.float64)) for part in (tone, high_pass(tone)))
    return float(10 * np.log10(after / before))


@LAW
@given(places=cuts(LENGTH))
def test_chunking_changes_nothing(samples: np.ndarray, places: list[int]) -> None:
    audio = samples[12 * RATE :][:LENGTH] + np.float32(0.1)
    stage = HighPass()
    parts = [stage.push(chunk) for chunk in chunks(audio, places)]
    assert all(part.dtype == np.float32 and part.size % BLOCK_SAMPLES == 0 for part in parts)
    assert np.array_equal(np.concatenate(parts), HighPass().push(audio))


def test_it_equals_scipys_butterworth_filter(samples: np.ndarray) -> None:
    signal = pytest.importorskip("scipy.signal", reason='pip install "edge-sser[train]"')
    audio = samples[: 20 * RATE + 777] + np.float32(0.3)
    expected = signal.sosfilt(signal.butter(2, CUTOFF_HZ, "high", fs=RATE, output="sos"), audio.astype(np.float64))
    filtered = high_pass(audio)
    assert filtered.size == audio.size
    assert np.abs(filtered - expected).max() < 1e-7


def test_speech_passes_and_rumble_does_not() -> None:
    assert gain_db(CUTOFF_HZ) == pytest.approx(-3.01, abs=0.01)
    assert gain_db(10.0) < -30.0
    assert gain_db(200.0) == pytest.approx(0.0, abs=0.05)
    assert gain_db(4000.0) == pytest.approx(0.0, abs=0.001)


def test_a_constant_offset_is_gone_after_a_tenth_of_a_second() -> None:
    filtered = high_pass(np.full(2 * RATE, 0.5, dtype=np.float32))
    assert filtered[0] == pytest.approx(0.5, abs=0.01)
    assert np.abs(filtered[RATE // 10 :]).max() < 1e-6


def test_silence_after_sound_becomes_exact_silence() -> None:
    filtered = high_pass(np.concatenate((noise(1.0, dbfs=-10.0), silence(5.0))))
    assert not filtered[2 * RATE :].any()
