"""Log-mel: equal to its definition, whatever the chunks, and moved by gain alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import LAW, RATE, chunks, cuts, noise, silence

from edge_sser.pipeline.features import BLOCK_FRAMES, FEATURES, LogMel, log_mel

EXCERPT = 2 * RATE


def mel_by_definition(samples: np.ndarray, frame: int) -> list[float]:
    """One frame, straight from the words: 25 ms of periodic Hann window, a Fourier sum, triangles on the mel scale."""
    begin = 160 * frame - 240
    window = [0.5 - 0.5 * math.cos(2 * math.pi * n / 400) for n in range(400)]
    piece = np.array([samples[begin + n] * window[n] if begin + n >= 0 else 0.0 for n in range(400)], dtype=np.float64)
    turns = np.outer(np.arange(257), np.arange(400)) / 512
    power = np.abs(np.exp(-2j * np.pi * turns) @ piece) ** 2 * (2.0 / sum(window)) ** 2

    def mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    def hertz(value: float) -> float:
        return 700.0 * (10.0 ** (value / 2595.0) - 1.0)

    step = (mel(7600.0) - mel(60.0)) / 65
    edges = [hertz(mel(60.0) + step * n) for n in range(66)]
    bands = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        total = 0.0
        for index in range(257):
            f = index * 31.25
            if low < f <= centre:
                total += power[index] * (f - low) / (centre - low)
            elif centre < f < high:
                total += power[index] * (high - f) / (high - centre)
        bands.append(10.0 * math.log10(max(total, 1e-12)))
    return bands


@LAW
@given(places=cuts(EXCERPT))
def test_chunking_changes_nothing(samples: np.ndarray, places: list[int]) -> None:
    stream = LogMel()
    parts = [stream.push(chunk) for chunk in chunks(samples[:EXCERPT], places)]
    assert np.array_equal(np.concatenate(parts), LogMel().push(samples[:EXCERPT]))  # to the last bit


@LAW
@given(frame=st.integers(0, 199))
def test_a_frame_is_what_its_definition_says(samples: np.ndarray, frame: int) -> None:
    audio = samples[16 * RATE :][:EXCERPT]
    assert log_mel(audio)[frame] == pytest.approx(mel_by_definition(audio, frame), abs=0.01)


def test_three_seconds_are_exactly_one_window() -> None:
    mel = LogMel().push(noise(3.0, dbfs=-30.0))
    assert mel.shape == (FEATURES.frames, FEATURES.bands)
    assert mel.dtype == np.float32
    assert mel.flags.c_contiguous


@LAW
@given(place=st.integers(0, EXCERPT - 1))
def test_a_click_sounds_in_the_frames_that_hold_it_and_in_no_other(place: int) -> None:
    audio = silence(EXCERPT / RATE)
    audio[place] = 1.0
    loud = set(np.flatnonzero(log_mel(audio).max(axis=1) > -100.0))
    holding = {i for i in range(200) if 160 * i - 240 <= place < 160 * i + 160}
    # The window is zero at the frame's first sample and next to nothing beside it.
    clearly = {i for i in holding if 4 <= place - (160 * i - 240) <= 396}
    assert clearly <= loud <= holding


def test_silence_is_at_the_floor() -> None:
    assert log_mel(silence(0.5)) == pytest.approx(FEATURES.floor_db, abs=1e-4)


def test_a_full_scale_sine_is_0_db_in_its_band() -> None:
    time = np.arange(RATE) / RATE
    mel = log_mel(np.sin(2 * np.pi * 1_000.0 * time).astype(np.float32))
    assert mel[10:].max(axis=1) == pytest.approx(0.0, abs=1.5)  # a triangle weighs the bins beside the peak too


@LAW
@given(gain_db=st.floats(-12.0, 12.0))
def test_gain_moves_all_of_it_by_one_constant(samples: np.ndarray, gain_db: float) -> None:
    audio = samples[14 * RATE :][:EXCERPT] + noise(EXCERPT / RATE, dbfs=-60.0)  # nothing at the floor
    moved = log_mel(audio * np.float32(10.0 ** (gain_db / 20.0))) - log_mel(audio)
    assert moved == pytest.approx(gain_db, abs=0.01)


@pytest.mark.parametrize("length", [0, 1, 159, 160, 1_599, 1_600, 16_001])
def test_a_whole_recording_has_a_frame_for_every_whole_hop(length: int) -> None:
    audio = noise(2.0, dbfs=-30.0)
    mel = log_mel(audio[:length])
    assert mel.shape == (length // 160, 64)
    assert np.array_equal(mel, LogMel().push(audio)[: len(mel)])


def test_frames_come_in_whole_blocks() -> None:
    stream = LogMel()
    assert stream.push(noise(0.0999, dbfs=-30.0)).shape == (0, 64)
    assert stream.push(noise(0.0002, dbfs=-30.0)).shape == (BLOCK_FRAMES, 64)
