"""Sliding windows: their times, their content, and the effect of lost audio on their times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import LAW, RATE, blocks, chunks, cuts, losses, noise, silence

from edge_sser.audio.source import AudioBlock
from edge_sser.pipeline.features import log_mel
from edge_sser.pipeline.gate import NetworkDetector, WebRtcDetector
from edge_sser.pipeline.highpass import high_pass
from edge_sser.pipeline.windows import Window, Windower
from edge_sser.settings.schema import Detector, GateSettings, WindowSettings

LENGTH = 6 * RATE
WINDOW = 3 * RATE


WEBRTC = GateSettings(detector=Detector.WEBRTC)


def windower(hop_seconds: float = 0.5, gate: GateSettings | None = None) -> Windower:
    return Windower(window=WindowSettings(hop_seconds=hop_seconds), gate=gate or GateSettings())


def windows(audio: Sequence[AudioBlock], hop_seconds: float = 0.5, gate: GateSettings | None = None) -> list[Window]:
    stage = windower(hop_seconds, gate)
    return [window for block in audio for window in stage.push(block.samples, block.dropped)]


def plain(window: Window) -> tuple[object, ...]:
    return (
        window.start,
        window.end,
        window.dropped,
        window.log_mel.tobytes(),
        window.speech_ratio,
        window.dbfs,
        window.clipped,
    )


@LAW
@given(
    places=cuts(LENGTH),
    lost=losses(LENGTH),
    hop=st.sampled_from([0.1, 0.5, 0.7]),
    detector=st.sampled_from(list(Detector)),
)
def test_chunking_changes_nothing(
    samples: np.ndarray, places: list[int], lost: dict[int, int], hop: float, detector: Detector
) -> None:
    audio = samples[12 * RATE :][:LENGTH]
    gate = GateSettings(detector=detector)
    cut = windows(blocks(audio, places, lost), hop, gate)
    whole = windows(blocks(audio, [], lost), hop, gate)
    assert [plain(window) for window in cut] == [plain(window) for window in whole]


@LAW
@given(hop_blocks=st.integers(1, 30), places=cuts(LENGTH))
def test_the_first_comes_after_three_seconds_and_then_one_every_hop(hop_blocks: int, places: list[int]) -> None:
    stage = windower(hop_blocks / 10)
    ends = []
    for chunk in chunks(silence(LENGTH / RATE), places):
        ends += [window.end for window in stage.push(chunk)]
        assert len(ends) == (max(0, stage.processed - WINDOW + hop_blocks * 1600) // (hop_blocks * 1600))
    assert ends == list(range(WINDOW, LENGTH + 1, hop_blocks * 1600))


@LAW
@given(lost=losses(LENGTH))
def test_a_window_holds_the_last_three_seconds_that_were_heard(samples: np.ndarray, lost: dict[int, int]) -> None:
    audio = samples[12 * RATE :][:LENGTH]
    time = np.arange(LENGTH) + sum(np.where(np.arange(LENGTH) >= place, gap, 0) for place, gap in lost.items())
    passed = high_pass(audio)
    mel = log_mel(passed)
    speech = WebRtcDetector(WEBRTC).push(passed)
    speech_ends = 480 * (1 + np.arange(speech.size))
    network = NetworkDetector(GateSettings())
    got = windows(blocks(audio, [], lost), gate=WEBRTC)
    by_network = windows(blocks(audio, [], lost))
    assert len(got) == len(by_network) == 7
    for number, window in enumerate(got):
        end = WINDOW + number * RATE // 2
        start = end - WINDOW
        assert window.start == time[start]
        assert window.end == time[end - 1] + 1
        assert window.dropped == window.end - end
        assert np.array_equal(window.log_mel, mel[start // 160 : end // 160])
        assert window.log_mel.dtype == np.float32
        assert window.log_mel.flags.c_contiguous
        assert window.speech_ratio == speech[(start < speech_ends) & (speech_ends <= end)].mean()
        assert by_network[number].speech_ratio == network.ratio(passed, window.log_mel, window.dbfs)
        assert plain(by_network[number])[:4] == plain(window)[:4]
        assert window.dbfs == pytest.approx(
            10 * np.log10(np.mean(np.square(passed[start:end], dtype=np.float64))), abs=1e-9
        )


def test_a_constant_offset_changes_neither_features_nor_level_nor_speech(samples: np.ndarray) -> None:
    audio = samples[12 * RATE :][:LENGTH]
    settled = slice(2, None)  # the first windows hold the step from nothing to the offset
    shifted = windows([AudioBlock(audio + np.float32(0.3))], gate=WEBRTC)[settled]
    for window, other in zip(windows([AudioBlock(audio)], gate=WEBRTC)[settled], shifted, strict=True):
        assert other.dbfs == pytest.approx(window.dbfs, abs=0.01)
        assert other.speech_ratio == pytest.approx(window.speech_ratio, abs=0.02)
        loud = window.log_mel > window.log_mel.max() - 60.0
        assert np.abs(other.log_mel - window.log_mel)[loud].max() < 0.2


def test_clipping_is_found_in_the_samples_as_they_came() -> None:
    time = np.arange(5 * RATE) / RATE
    flat = np.clip(1.2 * np.sin(2 * np.pi * 200.0 * time), -1.0, 1.0).astype(np.float32)
    assert np.abs(high_pass(flat)[RATE:]).max() != 1.0
    assert all(window.clipped for window in windows([AudioBlock(flat)]))
    loud = (0.99 * np.sign(np.sin(2 * np.pi * 100.0 * time))).astype(np.float32)  # the filter overshoots full scale
    assert np.abs(high_pass(loud)[RATE:]).max() > 1.0
    assert not any(window.clipped for window in windows([AudioBlock(loud)]))


def test_clipping_shows_as_long_as_it_is_inside_the_window() -> None:
    audio = noise(10.0, dbfs=-30.0)
    audio[4 * RATE : 4 * RATE + 2] = 1.0
    clipped = [window.end / RATE for window in windows([AudioBlock(audio)]) if window.clipped]
    assert clipped == [4.5, 5.0, 5.5, 6.0, 6.5, 7.0]


def test_a_window_does_not_change_when_the_audio_goes_on() -> None:
    stage = windower()
    (window,) = stage.push(noise(3.0, dbfs=-30.0))
    before = window.log_mel.copy()
    stage.push(noise(3.0, dbfs=-10.0, seed=1))
    assert np.array_equal(window.log_mel, before)


def test_each_frame_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    transform = np.fft.rfft

    def counting(frames: np.ndarray, size: int, **options: np.ndarray) -> np.ndarray:
        rows.append(len(frames))
        return transform(frames, size, **options)

    monkeypatch.setattr(np.fft, "rfft", counting)
    assert len(windows([AudioBlock(noise(6.0, dbfs=-30.0))], hop_seconds=0.1)) == 31
    assert sum(rows) == 600


@LAW
@given(places=cuts(LENGTH), lost=losses(LENGTH))
def test_every_sample_is_accounted_for(places: list[int], lost: dict[int, int]) -> None:
    stage = windower()
    audio = blocks(noise(LENGTH / RATE, dbfs=-30.0), places, lost)
    for number, block in enumerate(audio):
        stage.push(block.samples, block.dropped)
        seen = audio[: number + 1]
        assert stage.processed == sum(block.samples.size for block in seen)
        assert stage.dropped == sum(block.dropped for block in seen)
        assert stage.now == stage.processed + stage.dropped
