"""Raw PCM on a pipe that is something else: a file, or PCM of another coding. Noise must not become a level."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from components import require_programs
from numpy.typing import NDArray

from edge_sser.audio.raw import RawSource
from edge_sser.audio.source import EndOfAudio
from edge_sser.errors import SourceError
from edge_sser.settings.schema import SampleFormat

RATE = 16_000


def encode(samples: NDArray[np.float64], coding: str) -> bytes:
    samples = np.clip(samples, -1.0, 1.0)
    if coding in ("f32le", "s32le", "s16le", "s16be"):
        scale = {"f32le": 1.0, "s32le": 2**31 - 1, "s16le": 2**15 - 1, "s16be": 2**15 - 1}[coding]
        kind = {"f32le": "<f4", "s32le": "<i4", "s16le": "<i2", "s16be": ">i2"}[coding]
        return (samples * scale).astype(kind).tobytes()
    subtype = {"u8": "PCM_U8", "s24le": "PCM_24", "mulaw": "ULAW"}[coding]
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="RAW", subtype=subtype)
    return file.getvalue()


def hear(tmp_path: Path, content: bytes, declared: str, *, channels: int = 1, heard: list[int] | None = None) -> int:
    """Returns the number of samples heard; adds that of each block to `heard`."""
    heard = [] if heard is None else heard
    path = tmp_path / "stream"
    path.write_bytes(content)
    with path.open("rb") as stream:
        source = RawSource(stream, name="raw", sample_format=SampleFormat(declared), channels=channels)
        try:
            while True:
                block = source.read(timeout_seconds=1.0)
                assert block is not None
                heard.append(block.samples.size)
        except EndOfAudio:
            return sum(heard)


def talk(speech: Path, gain: float = 1.0) -> NDArray[np.float64]:
    samples, _ = soundfile.read(speech, frames=8 * RATE)
    noise = 1e-5 * np.random.default_rng(0).standard_normal(samples.size)  # of a converter of 24 bits
    return np.asarray(samples * gain + noise)


@pytest.mark.parametrize("gain", [0.05, 1.0])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("actual", "declared"),
    [
        *((actual, "s16le") for actual in ("f32le", "s32le", "s16be", "s24le", "u8", "mulaw")),
        ("s16le", "f32le"),
        ("s16le", "s32le"),
        ("f32le", "s32le"),
        ("s32le", "f32le"),
    ],
)
def test_another_coding_is_refused_by_name(
    tmp_path: Path, speech: Path, actual: str, declared: str, channels: int, gain: float
) -> None:
    if actual == "u8":
        gain = 1.0  # eight bits of quiet speech are noise in any coding
    content = encode(np.repeat(talk(speech, gain), channels), actual)
    heard: list[int] = []
    with pytest.raises(SourceError, match=f"is raw PCM coded as {actual}, not as {declared}"):
        hear(tmp_path, content, declared, channels=channels, heard=heard)
    assert sum(heard) < 3 * RATE  # no window is filled with noise


def test_it_is_refused_behind_a_silence_too(tmp_path: Path, speech: Path) -> None:
    content = bytes(4 * RATE * 5) + encode(talk(speech), "f32le")
    with pytest.raises(SourceError, match="give --raw-format f32le"):
        hear(tmp_path, content, "s16le")


def sounds(speech: Path) -> dict[str, NDArray[np.float64]]:
    random = np.random.default_rng(0)
    time = np.arange(4 * RATE) / RATE
    return {
        "speech": talk(speech),
        "quiet speech": talk(speech, 0.01),
        "white noise": random.normal(0, 0.3, 4 * RATE),
        "uniform noise": random.uniform(-1, 1, 4 * RATE),
        "clicks": (random.uniform(size=4 * RATE) > 0.99).astype(float),
        **{f"{hz} Hz": 0.9 * np.sin(2 * np.pi * hz * time) for hz in (50, 440, 3_000, 5_500, 7_000, 7_990)},
        "square": np.sign(np.sin(2 * np.pi * 300 * time)),
        "nyquist": np.tile([0.9, -0.9], 2 * RATE),
        "opposite channels": np.stack([talk(speech), -talk(speech)], axis=1).ravel(),
        "one channel": np.stack([talk(speech), 0 * talk(speech)], axis=1).ravel(),
        "silence": np.zeros(4 * RATE),
        "offset": np.full(4 * RATE, 0.5),
    }


@pytest.mark.parametrize("coding", ["s16le", "s32le", "f32le"])
@pytest.mark.parametrize("name", [
    "speech", "quiet speech", "white noise", "uniform noise", "clicks", "50 Hz", "440 Hz", "3000 Hz", "5500 Hz",
    "7000 Hz", "7990 Hz", "square", "nyquist", "opposite channels", "one channel", "silence", "offset",
])  # fmt: skip
def test_the_right_coding_passes_whatever_the_sound(tmp_path: Path, speech: Path, name: str, coding: str) -> None:
    samples = sounds(speech)[name]
    channels = 2 if name.endswith(("channels", "channel")) else 1
    assert hear(tmp_path, encode(samples, coding), coding, channels=channels) == samples.size // channels


@pytest.mark.parametrize(("suffix", "kind"), [("mp3", "MP3"), ("au", "AU"), ("caf", "CAF"), ("w64", "W64")])
def test_a_file_on_the_pipe_is_named(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    with pytest.raises(SourceError, match=f"carries an? {kind} file, expected raw PCM"):
        hear(tmp_path, path.read_bytes(), "s16le")


@pytest.mark.parametrize(("name", "kind"), [("a.m4a", "M4A"), ("a.aac", "AAC"), ("a.webm", "WebM"), ("a.wma", "WMA")])
def test_a_recording_of_a_phone_on_the_pipe_is_named(tmp_path: Path, name: str, kind: str) -> None:
    require_programs("ffmpeg", packages="ffmpeg")
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(RATE), RATE)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", tmp_path / name], check=True)
    with pytest.raises(SourceError, match=f"carries an? {kind}.* file, expected raw PCM"):
        hear(tmp_path, (tmp_path / name).read_bytes(), "s16le")


def test_samples_that_look_like_the_first_bytes_of_an_mp3_are_samples(tmp_path: Path) -> None:
    samples = np.full(RATE, -1025, dtype="<i2")  # ff fb
    assert hear(tmp_path, samples.tobytes(), "s16le") == RATE
