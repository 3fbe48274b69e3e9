"""The speech gate: speech and other sound, with the same result for all chunks and at any gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import webrtcvad
from hypothesis import given
from hypothesis import strategies as st
from streams import LAW, RATE, chunks, cuts, noise, silence

from edge_sser.errors import ModelError
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.pipeline.gate import (
    BLOCKS,
    FRAME_SAMPLES,
    NETWORK_LEAST_RATIO,
    SHAPES,
    NetworkDetector,
    SpeechNet,
    WebRtcDetector,
    shipped_net,
    speech_detector,
    to_int16,
)
from edge_sser.pipeline.highpass import high_pass
from edge_sser.pipeline.windows import Windower
from edge_sser.settings.schema import GateSettings, WindowSettings

EXCERPT = 6 * RATE
WEIGHTS = {name: np.zeros(shape, dtype=np.float32) for name, shape in SHAPES.items()}


def webrtc(**options: float) -> GateSettings:
    return GateSettings.model_validate({"detector": "webrtc", **options})


def ratios(samples: np.ndarray, gate: GateSettings | None = None) -> np.ndarray:
    """Shares of speech of all windows of a stream."""
    stage = Windower(window=WindowSettings(), gate=gate or GateSettings())
    return np.array([window.speech_ratio for window in stage.push(samples)])


def scored(samples: np.ndarray) -> float:
    """Share of the windows of a stream that are scored."""
    return float(np.mean(ratios(samples) >= NETWORK_LEAST_RATIO))


def changed_gain(samples: np.ndarray, db: float) -> np.ndarray:
    return samples * np.float32(10.0 ** (db / 20.0))


def in_a_room(samples: np.ndarray) -> np.ndarray:
    """With the noise of a microphone, so that pauses are no digital silence at any gain."""
    return samples + noise(samples.size / RATE, dbfs=-90.0)


def test_the_detector_is_that_of_the_settings() -> None:
    assert isinstance(speech_detector(GateSettings()), NetworkDetector)
    assert isinstance(speech_detector(webrtc()), WebRtcDetector)


@pytest.mark.parametrize("db", [0.0, -24.0])
def test_speech_passes_at_any_gain(samples: np.ndarray, db: float) -> None:
    found = ratios(in_a_room(changed_gain(samples, db)))
    assert np.mean(found >= NETWORK_LEAST_RATIO) > 0.9
    assert found.max() > 0.8


@LAW
@given(db=st.floats(-40.0, 20.0))
def test_gain_plays_no_part(samples: np.ndarray, db: float) -> None:
    window = log_mel(high_pass(samples[12 * RATE :][: 3 * RATE]))
    audible = np.maximum(window, window.max() - 60.0)
    assert np.allclose(
        shipped_net().log_odds(audible + np.float32(db)), shipped_net().log_odds(audible), rtol=0.0, atol=1e-3
    )


@pytest.mark.parametrize("hertz", [50.0, 60.0, 100.0, 120.0, 180.0, 220.0])
def test_hum_is_not_speech(hertz: float) -> None:
    time = np.arange(40 * RATE) / RATE
    first, second, faint = (np.sin(2 * np.pi * hertz * number * time) for number in (1, 2, 3))
    assert scored((0.02 * first + 0.01 * second + 0.004 * faint).astype(np.float32) + noise(40.0, dbfs=-50.0)) == 0.0
    assert scored((0.04 * first + 0.017 * second).astype(np.float32) + noise(40.0, dbfs=-75.0)) == 0.0


def test_beeps_are_not_speech() -> None:
    time = np.arange(40 * RATE) / RATE
    beeps = (0.05 * np.sin(2 * np.pi * 1000.0 * time) * (time % 1.0 < 0.5)).astype(np.float32)
    assert scored(beeps + noise(40.0, dbfs=-61.0)) == 0.0


def test_silence_and_noise_and_a_constant_offset_are_not_speech() -> None:
    assert not ratios(silence(6.0)).any()
    assert not ratios(np.full(6 * RATE, 0.3, dtype=np.float32))[1:].any()
    assert scored(noise(20.0, dbfs=-45.0)) == 0.0
    assert scored(noise(20.0, dbfs=-70.0)) == 0.0
    assert scored(noise(20.0, dbfs=-60.0) + np.float32(0.3)) == 0.0


def test_a_window_below_the_floor_has_no_speech_and_does_not_cost_the_network(
    samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    faint = in_a_room(changed_gain(samples[12 * RATE :][:EXCERPT], -40.0))
    assert ratios(faint, GateSettings(floor_dbfs=-80.0)).max() > 0.5
    monkeypatch.setattr(SpeechNet, "log_odds", lambda net, window: pytest.fail("the network ran"))
    assert not ratios(faint, GateSettings(floor_dbfs=-50.0)).any()


def test_a_more_aggressive_gate_lets_less_through(samples: np.ndarray) -> None:
    noisy = samples + noise(samples.size / RATE, dbfs=-40.0)
    shares = [ratios(noisy, GateSettings(aggressiveness=mode)).mean() for mode in range(4)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[3]


def test_the_network_is_read_once_and_leaves_its_window_alone(samples: np.ndarray) -> None:
    assert shipped_net() is shipped_net()
    window = log_mel(samples[: FEATURES.window_samples])
    before = window.copy()
    log_odds = shipped_net().log_odds(window)
    assert log_odds.shape == (BLOCKS,)
    assert log_odds.dtype == np.float32
    assert np.array_equal(window, before)
    assert np.array_equal(shipped_net().log_odds(window), log_odds)


def test_a_damaged_file_of_weights_is_refused_with_its_name_and_a_remedy(tmp_path: Path) -> None:
    from edge_sser.model.shipped import models_folder
    from edge_sser.pipeline.gate import WEIGHTS_FILE

    whole = models_folder() / WEIGHTS_FILE
    path = tmp_path / "speech-net.npz"
    for content in (b"", b"not weights", whole.read_bytes()[:20_000], whole.read_bytes().replace(b"input", b"inpux")):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"speech-net\.npz.*install edge-sser again"):
            SpeechNet(path)
    damaged = bytearray(whole.read_bytes())
    damaged[30_000] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match="install edge-sser again"):
        SpeechNet(path)
    with pytest.raises(ModelError, match="missing"):
        SpeechNet(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden1_bias": np.zeros(31, dtype=np.float32)},
        {"output_weight": np.zeros(32, dtype=np.float64)},
        {"input_bias": np.full(32, np.nan, dtype=np.float32)},
        {"output_bias": np.array([{}], dtype=object)},
    ],
)
def test_weights_of_another_shape_or_type_are_refused(tmp_path: Path, wrong: dict[str, np.ndarray]) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, **WEIGHTS)
    SpeechNet(path)
    np.savez(path, **{**WEIGHTS, **wrong})
    with pytest.raises(ModelError, match="weights"):
        SpeechNet(path)


@LAW
@given(places=cuts(EXCERPT))
def test_chunking_changes_nothing(samples: np.ndarray, places: list[int]) -> None:
    gate = WebRtcDetector(webrtc())
    parts = [gate.push(chunk) for chunk in chunks(samples[:EXCERPT], places)]
    whole = WebRtcDetector(webrtc()).push(samples[:EXCERPT])
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.any()
    assert not whole.all()


def test_the_gate_hears_what_the_detector_hears_in_the_16_bit_recording(speech: Path, samples: np.ndarray) -> None:
    pcm, _ = soundfile.read(speech, dtype="int16")
    detector = webrtcvad.Vad(1)
    frames = pcm[: pcm.size - pcm.size % FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    expected = [detector.is_speech(frame.tobytes(), RATE) for frame in frames]
    detected = WebRtcDetector(webrtc(aggressiveness=1, floor_dbfs=-120.0)).push(samples)
    assert detected.tolist() == expected


def test_what_is_fainter_than_the_floor_is_never_speech(samples: np.ndarray) -> None:
    faint = samples * np.float32(10.0 ** (-20.0 / 20.0))
    frames = faint[: faint.size - faint.size % FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES).astype(np.float64)
    under = np.mean(frames**2, axis=1) < 10.0 ** (-50.0 / 10.0)
    open_gate = WebRtcDetector(webrtc(floor_dbfs=-120.0)).push(faint)
    gate = WebRtcDetector(webrtc(floor_dbfs=-50.0)).push(faint)
    assert (open_gate & under).any()
    assert np.array_equal(gate, open_gate & ~under)


def test_neither_silence_nor_steady_noise_is_speech() -> None:
    assert not WebRtcDetector(webrtc()).push(silence(2.0)).any()
    assert not WebRtcDetector(webrtc()).push(noise(5.0, dbfs=-45.0))[20:].any()


def test_what_is_beyond_full_scale_saturates() -> None:
    values = np.array([0.0, 0.5, 0.99999, 1.0, 1.5, 100.0, -1.0, -1.5, -100.0, 1.4 / 32768], dtype=np.float32)
    assert to_int16(values).tolist() == [0, 16384, 32767, 32767, 32767, 32767, -32768, -32768, -32768, 1]


def test_samples_are_rounded_to_the_nearest_integer() -> None:
    steps = np.array([0.4, 0.6, 1.6, 1000.7, -0.4, -0.6, -1.4, -1.6, -1000.7], dtype=np.float32)
    assert to_int16(steps / 32768).tolist() == [0, 1, 2, 1001, 0, -1, -1, -2, -1001]
