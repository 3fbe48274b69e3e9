"""The level meter: decibels and clipping, whatever the chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import LAW, RATE, chunks, cuts, silence

from edge_sser.pipeline.level import PIECE_SAMPLES, LevelMeter, dbfs

LENGTH = 8_000


def level(samples: np.ndarray) -> float:
    return dbfs(float(LevelMeter().push(samples).energy.sum()) / samples.size)


def clipped(samples: np.ndarray) -> bool:
    return bool(LevelMeter().push(samples).clipped.any())


def sine(amplitude: float, hertz: float = 1_000.0, seconds: float = 1.0) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@LAW
@given(
    places=cuts(LENGTH), full=st.lists(st.tuples(st.integers(0, LENGTH // 8), st.booleans()), max_size=5, unique=True)
)
def test_chunking_changes_nothing(samples: np.ndarray, places: list[int], full: list[tuple[int, bool]]) -> None:
    audio = samples[16 * RATE :][:LENGTH].copy()
    for place, two in full:
        audio[8 * place : 8 * place + 1 + two] = 1.0
    meter = LevelMeter()
    parts = [meter.push(chunk) for chunk in chunks(audio, places)]
    whole = LevelMeter().push(audio)
    assert np.array_equal(np.concatenate([part.energy for part in parts]), whole.energy)  # to the last bit
    assert np.array_equal(np.concatenate([part.clipped for part in parts]), whole.clipped)
    assert whole.clipped.any() == any(two and 8 * place + 1 < LENGTH for place, two in full)


def test_a_full_scale_square_wave_is_0_and_a_sine_3_below() -> None:
    assert level(np.sign(sine(1.0, 1_001.0)) + np.float32(0.0)) == pytest.approx(0.0, abs=0.01)
    assert level(sine(1.0)) == pytest.approx(-3.01, abs=0.01)
    assert level(sine(0.1)) == pytest.approx(-23.01, abs=0.01)


def test_digital_silence_is_at_the_floor_and_nothing_is_below_it() -> None:
    assert level(silence(1.0)) == -120.0
    assert level(sine(1e-9)) == -120.0


def test_every_piece_is_measured_once(samples: np.ndarray) -> None:
    audio = samples[: 100 * PIECE_SAMPLES]
    expected = np.square(audio.astype(np.float64)).reshape(-1, PIECE_SAMPLES).sum(axis=1)
    assert LevelMeter().push(audio).energy == pytest.approx(expected, rel=1e-12)


def test_a_wave_cut_flat_is_clipped_and_one_normalised_to_its_peak_is_not(samples: np.ndarray) -> None:
    peak = samples / np.abs(samples).max()
    assert np.abs(peak).max() == 1.0
    assert not clipped(peak)
    assert clipped(np.clip(peak * np.float32(1.5), -1.0, 1.0))
    assert clipped(np.clip(peak * np.float32(1.5), -1.0, 32767 / 32768))  # as 16 bits have it


@pytest.mark.parametrize("value", [32767 / 32768, -1.0, 1.3])
def test_two_neighbours_at_full_scale_are_clipping_wherever_they_lie(value: float) -> None:
    for place in (0, 1, PIECE_SAMPLES - 1, PIECE_SAMPLES, 5 * PIECE_SAMPLES - 1):
        audio = silence(0.1)
        audio[place] = value
        assert not clipped(audio)
        audio[place + 1] = value
        assert clipped(audio)


def test_full_scale_with_quiet_chunks_between_is_not_clipping() -> None:
    meter = LevelMeter()
    audio = silence(0.03)
    audio[[PIECE_SAMPLES - 1, 2 * PIECE_SAMPLES]] = 1.0
    assert not np.concatenate([meter.push(piece).clipped for piece in audio.reshape(3, -1)]).any()


def test_a_neighbour_in_the_next_chunk_counts() -> None:
    meter = LevelMeter()
    audio = silence(0.02)
    audio[PIECE_SAMPLES - 1 : PIECE_SAMPLES + 1] = 1.0
    assert not meter.push(audio[:PIECE_SAMPLES]).clipped.any()
    assert not meter.push(audio[:0]).clipped.any()
    assert meter.push(audio[PIECE_SAMPLES:]).clipped.all()
