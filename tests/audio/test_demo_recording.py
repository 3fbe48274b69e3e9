"""The recording that ships shows the path: speech, pauses, and no silence that a microphone could not give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import webrtcvad


def test_the_recording_that_ships_is_short_small_16_khz_mono_speech_with_pauses(speech: Path) -> None:
    samples, rate_hz = soundfile.read(speech, dtype="int16")
    assert rate_hz == 16_000
    assert samples.ndim == 1
    assert 30 <= samples.size / rate_hz <= 60
    assert speech.stat().st_size < 1_500_000
    gate = webrtcvad.Vad(2)
    frames = samples[: samples.size // 480 * 480].reshape(-1, 480)
    assert 0.5 < np.mean([gate.is_speech(frame.tobytes(), rate_hz) for frame in frames]) < 0.95


def test_the_recording_that_ships_has_a_noise_floor_and_room_above(speech: Path) -> None:
    samples, rate_hz = soundfile.read(speech, dtype="int16")
    seconds = samples[: samples.size // rate_hz * rate_hz].reshape(-1, rate_hz)
    assert (seconds != 0).any(axis=1).all()
    assert np.abs(samples.astype(np.int32)).max() < 32_767
