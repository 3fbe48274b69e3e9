"""From settings to sources."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from virtual_microphone import VirtualMicrophone

from edge_sser.audio.open import open_source
from edge_sser.audio.raw import RawSource
from edge_sser.audio.source import Source
from edge_sser.settings.schema import SampleFormat, SourceSettings


def test_a_file_is_opened_with_its_settings(tmp_path: Path) -> None:
    frames = np.tile(np.array([[0.25, -0.5]], dtype=np.float32), (1_000, 1))
    soundfile.write(tmp_path / "Two Voices.wav", frames, 16_000)
    settings = SourceSettings(device=str(tmp_path / "Two Voices.wav"), channel=1)
    with open_source(settings, paced=False) as source:
        block = source.read(timeout_seconds=1.0)
    assert (source.name, source.live) == ("two-voices", False)
    assert block is not None
    np.testing.assert_array_equal(block.samples, np.full(1_000, -0.5, dtype=np.float32))


def test_standard_input_is_opened_with_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, np.tile(np.array([0.25, -0.5], dtype="<f4"), 1_000).tobytes())
    os.close(writer)
    settings = SourceSettings(device="-", raw_rate_hz=16_000, raw_channels=2, raw_format=SampleFormat.F32LE, channel=0)
    with os.fdopen(reader, "rb") as binary, io.TextIOWrapper(binary) as text:
        monkeypatch.setattr("sys.stdin", text)
        source = open_source(settings, paced=True)
        assert isinstance(source, RawSource)
        block = source.read(timeout_seconds=1.0)
    assert (source.name, source.live) == ("stdin", True)
    assert block is not None
    np.testing.assert_array_equal(block.samples, np.full(1_000, 0.25, dtype=np.float32))


def read_seconds(source: Source, seconds: float) -> np.ndarray:
    blocks = []
    while sum(block.size for block in blocks) < seconds * 16_000:
        block = source.read(timeout_seconds=5.0)
        assert block is not None
        blocks.append(block.samples)
    return np.concatenate(blocks)


@pytest.mark.mic
@pytest.mark.parametrize("device", ["mic", "mic:pulse"])
def test_speech_at_the_microphone_equals_the_same_speech_in_a_file(
    virtual_microphone: VirtualMicrophone, speech: Path, device: str
) -> None:
    spoken, _ = soundfile.read(speech, dtype="int16", frames=24_000)
    with open_source(SourceSettings(device=str(speech)), paced=False) as file:
        expected = read_seconds(file, 1.5)
    with open_source(SourceSettings(device=device), paced=True) as microphone:
        virtual_microphone.wait_until_recorded()
        virtual_microphone.play(spoken)
        recorded = read_seconds(microphone, 1.2)
    assert microphone.live
    np.testing.assert_array_equal(recorded, expected[: recorded.size])
