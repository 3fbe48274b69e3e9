"""The speech gate: speech and other sound, with the same result for all chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import webrtcvad
from hypothesis import given
from streams import LAW, RATE, chunks, cuts, noise, silence

from edge_sser.pipeline.gate import FRAME_SAMPLES, SpeechGate, to_int16
from edge_sser.settings.schema import GateSettings

EXCERPT = 6 * RATE


@LAW
@given(places=cuts(EXCERPT))
def test_chunking_changes_nothing(samples: np.ndarray, places: list[int]) -> None:
    gate = SpeechGate(GateSettings())
    parts = [gate.push(chunk) for chunk in chunks(samples[:EXCERPT], places)]
    whole = SpeechGate(GateSettings()).push(samples[:EXCERPT])
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.any()
    assert not whole.all()


def test_the_gate_hears_what_the_detector_hears_in_the_16_bit_recording(speech: Path, samples: np.ndarray) -> None:
    pcm, _ = soundfile.read(speech, dtype="int16")
    detector = webrtcvad.Vad(1)
    frames = pcm[: pcm.size - pcm.size % FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    expected = [detector.is_speech(frame.tobytes(), RATE) for frame in frames]
    detected = SpeechGate(GateSettings(aggressiveness=1, floor_dbfs=-120.0)).push(samples)
    assert detected.tolist() == expected


def test_what_is_fainter_than_the_floor_is_never_speech(samples: np.ndarray) -> None:
    faint = samples * np.float32(10.0 ** (-20.0 / 20.0))
    frames = faint[: faint.size - faint.size % FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES).astype(np.float64)
    under = np.mean(frames**2, axis=1) < 10.0 ** (-50.0 / 10.0)
    open_gate = SpeechGate(GateSettings(floor_dbfs=-120.0)).push(faint)
    gate = SpeechGate(GateSettings(floor_dbfs=-50.0)).push(faint)
    assert (open_gate & under).any()
    assert np.array_equal(gate, open_gate & ~under)


def test_neither_silence_nor_steady_noise_is_speech() -> None:
    assert not SpeechGate(GateSettings()).push(silence(2.0)).any()
    assert not SpeechGate(GateSettings()).push(noise(5.0, dbfs=-45.0))[20:].any()


def test_what_is_beyond_full_scale_saturates() -> None:
    values = np.array([0.0, 0.5, 0.99999, 1.0, 1.5, 100.0, -1.0, -1.5, -100.0, 1.4 / 32768], dtype=np.float32)
    assert to_int16(values).tolist() == [0, 16384, 32767, 32767, 32767, 32767, -32768, -32768, -32768, 1]


def test_samples_are_rounded_to_the_nearest_integer() -> None:
    steps = np.array([0.4, 0.6, 1.6, 1000.7, -0.4, -0.6, -1.4, -1.6, -1000.7], dtype=np.float32)
    assert to_int16(steps / 32768).tolist() == [0, 1, 2, 1001, 0, -1, -1, -2, -1001]
