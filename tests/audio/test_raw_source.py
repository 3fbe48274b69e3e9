"""Raw PCM from a real pipe."""

from __future__ import annotations

import logging
import os
import pty
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_sser.audio.file import FileSource
from edge_sser.audio.open import open_source
from edge_sser.audio.raw import RawSource
from edge_sser.audio.source import EndOfAudio, Source
from edge_sser.errors import SourceError, UsageError
from edge_sser.settings.schema import SampleFormat, SourceSettings


class Pipe:
    """Both ends of a pipe."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.reader = os.fdopen(reader, "rb", buffering=0)
        self.open = True

    def write(self, data: bytes) -> None:
        os.write(self.writer, data)

    def end(self) -> None:
        if self.open:
            os.close(self.writer)
            self.open = False

    def close(self) -> None:
        self.end()
        self.reader.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = Pipe()
    yield ends
    ends.close()


def samples_of(source: Source) -> NDArray[np.float32]:
    blocks = [np.empty(0, dtype=np.float32)]
    try:
        while True:
            block = source.read(timeout_seconds=5.0)
            assert block is not None
            assert block.dropped == 0
            blocks.append(block.samples)
    except EndOfAudio:
        return np.concatenate(blocks)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 500), max_size=20),
    count=st.integers(1, 1_000),
    channels=st.sampled_from([1, 2, 3]),
    rate_hz=st.sampled_from([16_000, 48_000]),
)
def test_where_a_pipe_is_cut_changes_nothing(sizes: list[int], count: int, channels: int, rate_hz: int) -> None:
    frames = np.random.default_rng(count).integers(-9_000, 9_000, (count, channels)).astype("<i2")
    data = frames.tobytes()

    def through(cuts: list[int]) -> NDArray[np.float32]:
        pipe = Pipe()
        source = RawSource(pipe.reader, name="raw", rate_hz=rate_hz, channels=channels)
        received, start = [np.empty(0, dtype=np.float32)], 0
        for size in [*cuts, len(data)]:
            if data[start : start + size]:
                pipe.write(data[start : start + size])
                block = source.read(timeout_seconds=0.0)
                received.append(block.samples if block else received[0])
            start += size
        pipe.end()
        received.append(samples_of(source))
        pipe.close()
        return np.concatenate(received)

    in_pieces, whole = through(sizes), through([])
    np.testing.assert_array_equal(in_pieces, whole)
    assert whole.size == pytest.approx(count * 16_000 / rate_hz, abs=1)


@pytest.mark.parametrize(
    ("sample_format", "dtype", "scale"),
    [(SampleFormat.S16LE, "<i2", 2**15), (SampleFormat.S32LE, "<i4", 2**31), (SampleFormat.F32LE, "<f4", 1.0)],
)
def test_every_format_is_scaled_to_full_scale_1(
    pipe: Pipe, sample_format: SampleFormat, dtype: str, scale: float
) -> None:
    wave = np.array([0.0, 0.5, -0.5, -1.0, 0.25])
    pipe.write((wave * scale).astype(dtype).tobytes())
    pipe.end()
    np.testing.assert_array_equal(samples_of(RawSource(pipe.reader, name="raw", sample_format=sample_format)), wave)


def test_a_pipe_gives_the_samples_of_the_same_file(tmp_path: Path, speech: Path) -> None:
    values, rate_hz = soundfile.read(speech, dtype="int16")
    (tmp_path / "speech.pcm").write_bytes(values.astype("<i2").tobytes())
    with (tmp_path / "speech.pcm").open("rb") as stream:
        piped = samples_of(RawSource(stream, name="raw", rate_hz=rate_hz))
    with FileSource(speech, name="file") as source:
        np.testing.assert_array_equal(piped, samples_of(source))


def test_a_reader_that_is_late_loses_nothing(pipe: Pipe) -> None:
    data = np.arange(200_000, dtype=np.uint32).astype("<i2").tobytes()  # more than a pipe holds: the writer must wait

    def write() -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(pipe.writer, view) :]
        pipe.end()

    writer = threading.Thread(target=write)
    writer.start()
    received = samples_of(RawSource(pipe.reader, name="raw"))
    writer.join()
    np.testing.assert_array_equal(received * 2**15, np.frombuffer(data, "<i2"))


def test_nothing_within_the_timeout_is_none(pipe: Pipe) -> None:
    source = RawSource(pipe.reader, name="raw")
    assert source.read(timeout_seconds=0.02) is None
    pipe.write(bytes(3))
    assert source.read(timeout_seconds=0.02) is None


def test_an_end_in_mid_sample_leaves_the_torn_sample_out_and_says_so(
    pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    pipe.write(np.array([1, 2, 3], dtype="<i2").tobytes() + b"\x01")
    pipe.end()
    with caplog.at_level(logging.WARNING):
        received = samples_of(RawSource(pipe.reader, name="raw"))
    np.testing.assert_array_equal(received * 2**15, [1, 2, 3])
    assert [record.getMessage() for record in caplog.records] == [
        "the raw stream ended in the middle of a sample; its last 1 bytes were left out"
    ]


def test_no_audio_at_all_is_an_error(pipe: Pipe) -> None:
    pipe.end()
    with pytest.raises(SourceError, match="ended before any audio came: check the program that writes to it"):
        RawSource(pipe.reader, name="raw").read(timeout_seconds=1.0)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "aiff"])
def test_an_audio_file_in_the_pipe_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.zeros(1_000), 16_000)
    with path.open("rb") as stream, pytest.raises(SourceError, match="expected raw PCM: give the file by its name"):
        RawSource(stream, name="raw").read(timeout_seconds=1.0)


def test_a_file_that_arrives_byte_by_byte_is_refused_too(pipe: Pipe) -> None:
    source = RawSource(pipe.reader, name="raw")
    for byte in b"fLa":
        pipe.write(bytes([byte]))
        assert source.read(timeout_seconds=0.0) is None
    pipe.write(b"C")
    with pytest.raises(SourceError, match="carries a FLAC file"):
        source.read(timeout_seconds=1.0)


def test_samples_that_are_no_numbers_count_as_silence_and_are_reported_once(
    pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    source = RawSource(pipe.reader, name="raw", sample_format=SampleFormat.F32LE)
    for _ in range(3):
        pipe.write(np.array([0.5, np.nan, np.inf, -0.5], dtype="<f4").tobytes())
        block = source.read(timeout_seconds=1.0)
        assert block is not None
        np.testing.assert_array_equal(block.samples, [0.5, 0.0, 0.0, -0.5])
    assert len(caplog.records) == 1
    assert "Check that it is coded as f32le" in caplog.text


def test_time_starts_with_the_first_audio_not_with_the_start_of_the_program(pipe: Pipe) -> None:
    now = 100.0
    source = RawSource(pipe.reader, name="raw", wall_clock=lambda: now)
    assert source.read(timeout_seconds=0.0) is None
    now = 160.0
    pipe.write(bytes(2 * 8_000))
    assert source.read(timeout_seconds=1.0) is not None
    assert source.started_at == 159.5


def test_a_terminal_is_refused() -> None:
    controller, terminal = pty.openpty()
    with (
        os.fdopen(terminal, "rb", buffering=0) as stream,
        pytest.raises(UsageError, match="is a terminal, expected raw PCM"),
    ):
        RawSource(stream, name="raw")
    os.close(controller)


def test_a_stream_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with (tmp_path / "written").open("wb") as stream:
        source = RawSource(stream, name="raw")
        with pytest.raises(SourceError, match="cannot be read: Bad file descriptor"):
            source.read(timeout_seconds=1.0)


def test_closed_standard_input_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SourceError, match="standard input is closed"):
        open_source(SourceSettings(device="-"), paced=True)
