"""Recordings as sources: every format, every fault."""

from __future__ import annotations

import contextlib
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from edge_sser.audio.file import FileSource
from edge_sser.audio.source import EndOfAudio
from edge_sser.errors import SourceError


class FakeClock:
    """A clock on which only sleeping takes time."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def noise(samples: int, channels: int = 1) -> NDArray[np.float32]:
    values = np.random.default_rng(7).uniform(-0.5, 0.5, (samples, channels))
    return (np.round(values * 2**15) / 2**15).astype(np.float32)  # exact in 16 bits


def read_into(blocks: list[NDArray[np.float32]], source: FileSource) -> None:
    with source, contextlib.suppress(EndOfAudio):
        while True:
            block = source.read(timeout_seconds=10.0)
            assert block is not None
            assert block.dropped == 0
            assert block.samples.dtype == np.float32
            blocks.append(block.samples)


def read_all(source: FileSource) -> NDArray[np.float32]:
    blocks: list[NDArray[np.float32]] = []
    read_into(blocks, source)
    return np.concatenate(blocks)


def open_paced(path: Path, clock: FakeClock) -> FileSource:
    return FileSource(path, name="file", paced=True, clock=clock, sleep=clock.sleep)


def test_a_16_khz_mono_file_comes_out_to_the_last_bit(tmp_path: Path) -> None:
    samples = noise(40_001)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="PCM_16")
    np.testing.assert_array_equal(read_all(FileSource(tmp_path / "a.wav", name="a")), samples[:, 0])


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au", "w64", "caf"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(8_000, 1), (44_100, 2), (48_000, 2)])
def test_any_format_rate_and_channel_count_becomes_16_khz_mono(
    tmp_path: Path, suffix: str, rate_hz: int, channels: int
) -> None:
    path = tmp_path / f"tone.{suffix}"
    tone = 0.4 * np.sin(2 * np.pi * 500 * np.arange(2 * rate_hz) / rate_hz)
    soundfile.write(path, np.repeat(tone[:, np.newaxis], channels, axis=1), rate_hz)
    with FileSource(path, name="tone") as source:
        decoded = read_all(source)
    assert decoded.size == pytest.approx(32_000, abs=16_000 * 0.1)  # MP3 pads
    middle = decoded[8_000:24_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 500
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.4, rel=0.05)  # MP3 at 8 kHz is that far off


def test_one_channel_can_be_chosen(tmp_path: Path) -> None:
    frames = noise(5_000, channels=3)
    soundfile.write(tmp_path / "a.wav", frames, 16_000, subtype="PCM_16")
    np.testing.assert_array_equal(read_all(FileSource(tmp_path / "a.wav", name="a", channel=2)), frames[:, 2])


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg"])
def test_paced_or_not_the_samples_are_the_same_to_the_last_bit(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, noise(100_000), 44_100)
    np.testing.assert_array_equal(read_all(open_paced(path, FakeClock())), read_all(FileSource(path, name="file")))


def test_a_paced_file_hands_each_block_out_once_its_time_has_passed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(16_000), 16_000)
    clock = FakeClock()
    with open_paced(tmp_path / "a.wav", clock) as source:
        begun_at, handed = clock.now, 0
        for _ in range(5):
            block = source.read(timeout_seconds=1.0)
            assert block is not None
            handed += block.samples.size
            assert clock.now - begun_at == pytest.approx(handed / 16_000)


def test_a_paced_file_gives_none_while_its_time_has_not_come(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(16_000), 16_000)
    clock = FakeClock()
    with open_paced(tmp_path / "a.wav", clock) as source:
        begun_at = clock.now
        assert source.read(timeout_seconds=0.03) is None
        assert clock.now - begun_at == pytest.approx(0.03)
        assert source.read(timeout_seconds=1.0) is not None


def test_time_starts_at_the_files_date_less_its_length(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(24_000), 8_000)
    os.utime(tmp_path / "a.wav", (1_700_000_000, 1_700_000_000))
    with FileSource(tmp_path / "a.wav", name="a") as source:
        assert source.started_at == 1_700_000_000 - 3.0
        assert source.duration_seconds == 3.0


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.wav"
        with soundfile.SoundFile(path, "w", samplerate=22_050, channels=1, subtype="PCM_16") as file:
            for _ in range(seconds):
                file.write(np.zeros(22_050, dtype=np.int16))
        with FileSource(path, name="long") as source:
            tracemalloc.start()
            try:
                while True:
                    source.read(timeout_seconds=1.0)
            except EndOfAudio:
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    peak(10)  # imports on first use
    assert peak(300) < 1.5 * peak(10)


def test_a_tenth_of_a_second_is_enough(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1_600), 16_000)
    assert read_all(FileSource(tmp_path / "a.wav", name="a")).size == 1_600


@pytest.mark.parametrize("claimed_bytes", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000])
def test_a_wav_file_that_was_streamed_into_a_pipe_is_whole(tmp_path: Path, claimed_bytes: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(16_000), 16_000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    for offset in (4, content.index(b"data") + 4):
        content[offset : offset + 4] = struct.pack("<I", claimed_bytes)
    path.write_bytes(content)
    assert read_all(FileSource(path, name="a")).size == 16_000


def test_a_flac_stream_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(20_000), 16_000)
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the 36 bits of STREAMINFO that hold the number of samples
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with FileSource(path, name="a") as source:
        assert source.duration_seconds is None
        assert read_all(source).size == 20_000


def missing(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.touch()


def directory(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def text(path: Path) -> None:
    path.write_text("this is not audio\n" * 100)


def only_a_header(path: Path) -> None:
    soundfile.write(path, np.empty(0), 16_000)


def torn_header(path: Path) -> None:
    soundfile.write(path, noise(100), 16_000)
    path.write_bytes(path.read_bytes()[:30])


def absurd_rate(path: Path) -> None:
    soundfile.write(path, noise(100), 2**30)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "does not exist: check the path"),
        (empty, r"is empty \(0 bytes\): record or copy it again"),
        (directory, "is a directory: name the audio files in it, or use analyze --out"),
        (fifo, "is not a regular file: pipe raw PCM into --source -"),
        (text, "is not audio that libsndfile reads .* converted first"),
        (only_a_header, "holds no audio .* record it again"),
        (torn_header, "is not audio that libsndfile reads .* undamaged"),
        (absurd_rate, "has a sample rate of 1073741824 Hz"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_remedy(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "thing.wav"
    make(path)
    with pytest.raises(SourceError, match=f"{path} {message}"):
        FileSource(path, name="thing")


def test_headerless_pcm_is_sent_to_standard_input(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(3_200))
    with pytest.raises(SourceError, match="is raw PCM by its name: pipe it in with --source -"):
        FileSource(tmp_path / "a.raw", name="a")


def test_a_file_name_need_not_be_valid_utf_8(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(100), 16_000)
    odd = tmp_path / os.fsdecode(b"\xff\xfe.wav")
    (tmp_path / "a.wav").rename(odd)
    assert read_all(FileSource(odd, name="odd")).size == 100


def test_a_file_of_somebody_else_is_named_with_its_remedy(tmp_path: Path) -> None:
    path = tmp_path / "private.wav"
    soundfile.write(path, noise(100), 16_000)
    path.chmod(0)
    if (child := os.fork()) == 0:  # root may read everything, so the child gives that up
        status = 1
        try:
            if os.geteuid() == 0:
                tmp_path.chmod(0o755)
                os.setresuid(65_534, 65_534, 65_534)
            FileSource(path, name="private")
        except SourceError as error:
            status = 0 if "private.wav may not be read by this user" in str(error) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3", "aiff", "au", "w64"])
def test_a_truncated_file_gives_what_it_holds_and_then_the_error(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"torn.{suffix}"
    soundfile.write(path, noise(160_000), 16_000)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    decoded: list[NDArray[np.float32]] = []
    with pytest.raises(SourceError, match=f"{path} is truncated or damaged: its audio ends after "):
        read_into(decoded, FileSource(path, name="torn"))
    assert 48_000 < sum(samples.size for samples in decoded) <= 90_000
    assert capfd.readouterr() == ("", "")  # the MP3 decoder would say much


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_a_file_with_samples_that_are_no_numbers_is_one_error(tmp_path: Path, bad: float) -> None:
    samples = noise(40_000).astype(np.float64)
    samples[20_000] = bad
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="DOUBLE")
    with FileSource(tmp_path / "a.wav", name="a") as source:
        first = source.read(timeout_seconds=1.0)
        assert first is not None
        np.testing.assert_array_equal(first.samples, samples[:16_000, 0].astype(np.float32))
        with pytest.raises(SourceError, match=r"a\.wav holds samples that are not numbers.* before 2\.0 s"):
            source.read(timeout_seconds=1.0)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_zeros_and_full_scale_pass_untouched(tmp_path: Path, value: float) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(5_000, value), 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_all(FileSource(tmp_path / "a.wav", name="a")), np.full(5_000, value, np.float32))
