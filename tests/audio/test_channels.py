"""Channels are looked at before they are averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edge_sser.audio.channels import ChannelWatch
from edge_sser.audio.file import FileSource
from edge_sser.audio.source import EndOfAudio
from edge_sser.train.data.audio import read_audio

RATE = 16_000
LEFT, RIGHT = np.random.default_rng(0).normal(0, 0.1, (2, 2 * RATE))


def chosen(*channels: NDArray[np.float64]) -> int | None:
    watch = ChannelWatch()
    for block in np.array_split(np.stack(channels, axis=1).astype(np.float32), 7):
        watch.push(block)
    return watch.instead_of_mean()


@pytest.mark.parametrize(
    "channels",
    [
        (LEFT, LEFT),
        (LEFT, RIGHT),
        (LEFT, 0 * LEFT),
        (LEFT, 0.2 * RIGHT),
        (LEFT + 0.5, LEFT - 0.5),
        (0 * LEFT, 0 * LEFT),
        (LEFT, RIGHT, 0 * LEFT, 0 * LEFT),
        (LEFT, np.full_like(LEFT, np.nan)),
        (LEFT,),
    ],
)
def test_channels_that_can_be_heard_together_are_averaged(channels: tuple[NDArray[np.float64], ...]) -> None:
    assert chosen(*channels) is None


@pytest.mark.parametrize(
    ("channels", "loudest"),
    [
        ((LEFT, -LEFT), 0),
        ((0.7 * LEFT, -0.9 * LEFT), 1),
        ((1.05 * LEFT + 0.3, -LEFT + 0.1), 0),
        ((0 * LEFT, LEFT, -1.1 * LEFT, 0 * LEFT), 2),
        ((LEFT, -LEFT + 0.05 * RIGHT), 1),
    ],
)
def test_of_channels_that_cancel_the_loudest_is_taken(channels: tuple[NDArray[np.float64], ...], loudest: int) -> None:
    assert chosen(*channels) == loudest


def test_a_recording_of_opposite_channels_is_heard_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([LEFT, -LEFT], axis=1), RATE, subtype="FLOAT")
    heard = []
    with FileSource(path, name="a") as source:
        try:
            while True:
                block = source.read(timeout_seconds=1.0)
                assert block is not None
                heard.append(block.samples)
        except EndOfAudio:
            pass
    np.testing.assert_array_equal(np.concatenate(heard), LEFT.astype(np.float32))
    assert "a.wav: its channels cancel each other out" in caplog.text
    np.testing.assert_array_equal(read_audio(path), LEFT.astype(np.float32))


def test_a_channel_that_was_asked_for_is_taken_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([LEFT, -LEFT], axis=1), RATE, subtype="FLOAT")
    with FileSource(tmp_path / "a.wav", name="a", channel=1) as source:
        block = source.read(timeout_seconds=1.0)
    assert block is not None
    np.testing.assert_array_equal(block.samples, -LEFT[:RATE].astype(np.float32))
    assert caplog.text == ""
