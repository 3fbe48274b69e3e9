"""Conversion to 16 kHz mono, with the same result for all chunks."""

from __future__ import annotations

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sser.audio.convert import InputConverter, Resampler, mix
from edge_sser.audio.look import MAX_MAGNITUDE
from edge_sser.errors import SourceError

RATES_HZ = [4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 12_345]
rates = st.sampled_from(RATES_HZ)
chunks = st.lists(st.integers(0, 3_000), max_size=30)


def noise(samples: int, channels: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(samples).standard_normal((samples, channels)).astype(np.float32) * np.float32(0.2)


def intake(rate_hz: int, *, channels: int = 1, channel: int | None = None) -> InputConverter:
    return InputConverter(rate_hz=rate_hz, channels=channels, channel=channel, origin="the test")


def split(frames: NDArray[np.float32], sizes: list[int]) -> list[NDArray[np.float32]]:
    return np.split(frames, np.minimum(np.cumsum(sizes, dtype=int), frames.shape[0])) if sizes else [frames]


@settings(deadline=None, max_examples=60)
@given(rate_hz=rates, sizes=chunks, channels=st.sampled_from([1, 2, 3, 9]))
def test_chunking_changes_nothing_to_the_last_bit(rate_hz: int, sizes: list[int], channels: int) -> None:
    frames = noise(9_000, channels)
    whole, pieces = intake(rate_hz, channels=channels), intake(rate_hz, channels=channels)
    at_once = [whole.push(frames).samples, whole.finish().samples]
    chunked = [*(pieces.push(piece).samples for piece in split(frames, sizes)), pieces.finish().samples]
    np.testing.assert_array_equal(np.concatenate(at_once), np.concatenate(chunked))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_streaming_gives_what_soxr_gives_for_the_whole(rate_hz: int) -> None:
    samples = noise(10_000)[:, 0]
    resampler = Resampler(rate_hz)
    streamed = np.concatenate((resampler.push(samples), resampler.finish()))
    np.testing.assert_array_equal(streamed, soxr.resample(samples, rate_hz, 16_000, quality="HQ"))


def test_what_lies_above_8_khz_does_not_fold_back_into_speech() -> None:
    seconds = np.arange(48_000) / 48_000
    whistle = np.sin(2 * np.pi * 11_000 * seconds).astype(np.float32)
    assert np.abs(Resampler(48_000).push(whistle)[2_000:]).max() < 1e-5


@settings(deadline=None, max_examples=60)
@given(
    rate_hz=rates,
    events=st.lists(st.tuples(st.one_of(st.just(0), st.integers(0, 5_000)), st.integers(0, 3_000)), max_size=20),
)
def test_samples_handed_on_and_dropped_add_up_to_the_place_in_time(rate_hz: int, events: list[tuple[int, int]]) -> None:
    stage = intake(rate_hz)
    device_frames = samples = 0
    for dropped, size in events:
        block = stage.push(noise(size), dropped)
        device_frames += dropped
        if dropped:
            assert samples + block.dropped == device_frames * 16_000 // rate_hz
        else:
            assert block.dropped == 0
        device_frames += size
        samples += block.dropped + block.samples.size
    samples += stage.finish().samples.size
    assert abs(samples - device_frames * 16_000 / rate_hz) <= 1.5


def test_at_16_khz_a_loss_is_reported_to_the_sample() -> None:
    stage = intake(16_000)
    stage.push(noise(100))
    block = stage.push(noise(50), dropped=7)
    assert (block.dropped, block.samples.size) == (7, 50)


def test_one_channel_is_taken_as_it_is_and_all_are_averaged() -> None:
    frames = np.array([[0.5, -0.5, 0.25], [1.0, 0.0, -1.0]], dtype=np.float32)
    np.testing.assert_array_equal(mix(frames, 2), [0.25, -1.0])
    np.testing.assert_allclose(mix(frames, None), [0.25 / 3, 0.0], atol=1e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -3 * MAX_MAGNITUDE])
def test_what_is_no_number_becomes_zero_and_is_counted(bad: float) -> None:
    frames = noise(1_000)
    frames[400:405] = bad
    stage = intake(48_000)
    samples = np.concatenate((stage.push(frames).samples, stage.finish().samples))
    assert stage.replaced == 5
    assert np.abs(samples).max() < 2.0


def test_what_is_beyond_full_scale_is_left_for_the_meter_to_flag() -> None:
    frames = np.full((10, 1), 1.5, dtype=np.float32)
    stage = intake(16_000)
    np.testing.assert_array_equal(stage.push(frames).samples, frames[:, 0])
    assert stage.replaced == 0


@pytest.mark.parametrize(
    ("rate_hz", "channels", "channel", "message"),
    [
        (16_000, 1, 1, "the test has 1 channel, number 0: there is no channel 1"),
        (16_000, 4, 4, "the test has 4 channels, numbered 0 to 3: there is no channel 4"),
        (100, 1, None, "the test has a sample rate of 100 Hz, expected 4000 to 384000"),
        (2**31, 1, None, "the test has a sample rate of 2147483648 Hz"),
    ],
)
def test_audio_that_cannot_be_used_is_refused(rate_hz: int, channels: int, channel: int | None, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        intake(rate_hz, channels=channels, channel=channel)
