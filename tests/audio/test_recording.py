"""The reader of recordings: all of the audio in a file, whatever its header says, or an error."""

from __future__ import annotations

import os
import struct
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from components import require_programs
from numpy.typing import NDArray

from edge_sser.audio import ffmpeg
from edge_sser.audio.container import MAX_PARTS
from edge_sser.audio.recording import Recording
from edge_sser.errors import SourceError
from edge_sser.train.data.audio import duration_s, read_audio

RATE = 16_000


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(RATE * seconds))).astype(np.float32)


def frames(path: Path) -> NDArray[np.float32]:
    with closing(Recording(path)) as recording:
        blocks = []
        while (block := recording.read(5_000)).shape[0]:
            blocks.append(block)
    return np.concatenate(blocks)


def convert(source: Path, *options: str | Path) -> None:
    require_programs("ffmpeg", packages="ffmpeg")
    subprocess.run(["ffmpeg", "-nostdin", "-y", "-v", "error", "-i", source, *options], check=True)


def mp3_without_length(path: Path, samples: NDArray[np.float32]) -> None:
    """A stream of variable bit rate whose length tag is spoilt, as an encoder that writes into a pipe leaves it."""
    soundfile.write(path, samples, RATE, format="MP3", bitrate_mode="VARIABLE")
    content = path.read_bytes()
    assert b"Xing" in content[:200] or b"Info" in content[:200]
    path.write_bytes(content.replace(b"Xing", bytes(4), 1).replace(b"Info", bytes(4), 1))


@pytest.mark.parametrize("quiet_first", [True, False])
def test_an_mp3_that_does_not_say_its_length_is_read_to_its_end(tmp_path: Path, quiet_first: bool) -> None:
    path = tmp_path / "talk.mp3"
    halves = [np.zeros(20 * RATE, np.float32), noise(20)]
    mp3_without_length(path, np.concatenate(halves if quiet_first else halves[::-1]))
    assert frames(path).shape[0] / RATE == pytest.approx(40, abs=0.3)
    assert duration_s(path) == pytest.approx(40, abs=0.3)
    assert read_audio(path).size / RATE == pytest.approx(40, abs=0.3)


def test_the_length_tag_of_the_first_of_joined_mp3_files_does_not_end_them(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", noise(8), RATE)
    (tmp_path / "two.mp3").write_bytes((tmp_path / "a.mp3").read_bytes() * 2)
    assert frames(tmp_path / "two.mp3").shape[0] / RATE == pytest.approx(16, abs=0.4)


def spoil(path: Path, form: str, claimed: int) -> None:
    content = bytearray(path.read_bytes())
    if form == "AU":
        content[8:12] = struct.pack(">I", claimed)
    elif form == "W64":
        place = content.index(b"data\xf3\xac")
        content[place + 16 : place + 24] = struct.pack("<Q", claimed + 24)
    elif form == "CAF":
        place = content.index(b"data")
        content[place + 4 : place + 12] = struct.pack(">Q", claimed)
    else:
        place = content.index(b"SSND" if form == "AIFF" else b"data")
        order = "<" if form == "WAV" else ">"
        content[place + 4 : place + 8] = struct.pack(f"{order}I", claimed)
        content[4:8] = struct.pack(f"{order}I", place + claimed)
    path.write_bytes(content)


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "W64", "CAF"])
def test_audio_behind_a_header_that_was_never_finished_is_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / "crash"
    soundfile.write(path, noise(5), RATE, format=form, subtype="PCM_16")
    whole = frames(path)
    spoil(path, form, 0)
    np.testing.assert_array_equal(frames(path)[-len(whole) :], whole)


def test_a_caf_file_of_unknown_length_is_read_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / "live.caf"
    soundfile.write(path, noise(5), RATE, format="CAF", subtype="PCM_16")
    whole = frames(path)
    spoil(path, "CAF", 2**64 - 1)
    np.testing.assert_array_equal(frames(path)[-len(whole) :], whole)


def test_audio_behind_the_size_that_a_recorder_wrote_last_is_read(tmp_path: Path) -> None:
    path = tmp_path / "crash.wav"
    soundfile.write(path, noise(5), RATE, subtype="PCM_16")
    spoil(path, "WAV", 2 * RATE)
    assert frames(path).shape[0] == 5 * RATE


def test_chunks_behind_the_audio_are_not_audio(tmp_path: Path) -> None:
    path = tmp_path / "tagged.wav"
    soundfile.write(path, noise(1), RATE, subtype="PCM_16")
    for tag in (b"LIST" + struct.pack("<I", 500) + bytes(500), b"ID3\x04" + bytes(600)):
        (tmp_path / "b.wav").write_bytes(path.read_bytes() + tag)
        assert frames(tmp_path / "b.wav").shape[0] == RATE


@pytest.mark.parametrize(
    ("form", "coding"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("AIFF", "PCM_16")]
)
def test_recordings_that_were_joined_are_all_read(tmp_path: Path, form: str, coding: str) -> None:
    for number in range(3):
        soundfile.write(tmp_path / str(number), noise(2, number), RATE, format=form, subtype=coding)
    path = tmp_path / "joined"
    path.write_bytes(b"".join((tmp_path / str(number)).read_bytes() for number in range(3)))
    single = np.concatenate([frames(tmp_path / str(number)) for number in range(3)])
    np.testing.assert_array_equal(frames(path), single)


def test_a_recording_in_another_format_behind_the_first_is_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(2), RATE)
    soundfile.write(tmp_path / "b.wav", noise(2), 8_000)
    path = tmp_path / "joined.wav"
    path.write_bytes((tmp_path / "a.wav").read_bytes() + (tmp_path / "b.wav").read_bytes())
    with pytest.raises(SourceError, match=r"several recordings in different formats: after 2\.0 s .* 8000 Hz"):
        frames(path)


@pytest.mark.parametrize("tag", [b"Info", b"Xing", b"VBRI"])
def test_an_mp3_that_is_cut_in_its_length_tag_is_refused(tmp_path: Path, tag: bytes) -> None:
    path = tmp_path / "cut.mp3"
    path.write_bytes(b"\xff\xfb\x90\x00" + tag + b"\x00" * 4)
    with pytest.raises(SourceError, match=r"cut\.mp3"):
        read_audio(path)


def test_a_file_of_thousands_of_recordings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "many.flac"
    path.write_bytes(b"fLaC\x00\x00\x00\x22" * (MAX_PARTS + 2))
    with pytest.raises(SourceError, match=f"more than {MAX_PARTS} recordings"):
        read_audio(path)


@pytest.mark.parametrize("name", ["whole.wav", "whole.flac", "whole.ogg", "whole.aiff"])
def test_a_part_is_the_same_as_in_the_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    soundfile.write(path, noise(8), RATE)
    whole = read_audio(path)
    part = read_audio(f"{path}#t=5.500,6.250")
    np.testing.assert_array_equal(part, whole[round(5.5 * RATE) : round(6.25 * RATE)])


def test_training_does_not_take_half_of_a_truncated_recording(tmp_path: Path) -> None:
    path = tmp_path / "torn.wav"
    soundfile.write(path, noise(4), RATE)
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(SourceError, match="is truncated or damaged"):
        read_audio(path)


def test_a_part_of_a_joined_recording_is_found(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", noise(2), RATE)
    (tmp_path / "b.flac").write_bytes((tmp_path / "a.flac").read_bytes() * 2)
    np.testing.assert_array_equal(
        read_audio(f"{tmp_path / 'b.flac'}#t=2.500,3.500"), read_audio(tmp_path / "a.flac")[8_000:24_000]
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.m4a", []), ("a.mp4", ["-f", "mp4"]), ("a.wma", []), ("a.webm", []), ("a.aac", []), ("a.mka", ["-c:a", "ac3"])],
)
def test_formats_that_phones_record_are_read_by_ffmpeg(tmp_path: Path, name: str, options: list[str]) -> None:
    soundfile.write(tmp_path / "a.wav", noise(6), RATE)
    convert(tmp_path / "a.wav", *options, tmp_path / name)
    decoded = read_audio(tmp_path / name)
    assert decoded.size / RATE == pytest.approx(6, abs=0.3)
    assert np.sqrt(np.mean(decoded[RATE:-RATE] ** 2)) == pytest.approx(0.1, rel=0.3)


def test_a_truncated_recording_of_a_phone_is_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(20), RATE)
    convert(tmp_path / "a.wav", "-movflags", "+faststart", tmp_path / "a.m4a")
    path = tmp_path / "torn.m4a"
    content = (tmp_path / "a.m4a").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match="is truncated or damaged"):
        frames(path)


def test_without_ffmpeg_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x1cftypM4A " + bytes(1000))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="install the program ffmpeg, which reads M4A"):
        Recording(tmp_path / "a.m4a")


def test_a_playlist_cannot_make_ffmpeg_read_another_file(tmp_path: Path) -> None:
    """A list of files named like a recording would otherwise open any file of the user."""
    soundfile.write(tmp_path / "secret.wav", noise(3), RATE)
    convert(tmp_path / "secret.wav", "-f", "mpegts", tmp_path / "secret.ts")
    path = tmp_path / "list.m4a"
    for text in (
        f"ffconcat version 1.0\nfile {tmp_path / 'secret.ts'}\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{tmp_path / 'secret.ts'}\n#EXT-X-ENDLIST\n",
    ):
        path.write_text(text)
        with pytest.raises(SourceError, match="is not audio that libsndfile reads"):
            Recording(path)


def test_ffmpeg_ends_with_the_recording(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(60), RATE)
    convert(tmp_path / "a.wav", tmp_path / "a.m4a")
    decoder = ffmpeg.FfmpegDecoder(tmp_path / "a.m4a")
    process = decoder._process.pid
    decoder.close()
    assert not os.path.exists(f"/proc/{process}")


@pytest.mark.parametrize("name", ["a.oga", "a.aac"])
def test_joined_recordings_that_ffmpeg_reads_are_read_once_each(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / "a.wav", noise(4), RATE)
    convert(tmp_path / "a.wav", *(["-c:a", "flac"] if name == "a.oga" else []), tmp_path / name)
    (tmp_path / f"two-{name}").write_bytes((tmp_path / name).read_bytes() * 2)
    assert frames(tmp_path / f"two-{name}").shape[0] / RATE == pytest.approx(8, abs=0.4)


def test_joined_files_of_which_ffmpeg_reads_the_first_are_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(4), RATE)
    convert(tmp_path / "a.wav", tmp_path / "a.m4a")
    (tmp_path / "two.m4a").write_bytes((tmp_path / "a.m4a").read_bytes() * 2)
    with pytest.raises(SourceError, match="a second recording follows in the file"):
        frames(tmp_path / "two.m4a")
