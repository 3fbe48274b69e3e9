"""Whatever a recording holds: readings that fit the schema, then nothing or one line. Never a crash, never a hang."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile
from hostile import Worker, check_message, examples
from hypothesis import given
from hypothesis import strategies as st
from models import write_model
from voices import voice

from edge_sser.events import json_schema

ANALYZER = Path(__file__).with_name("recording_analyzer.py")
VALIDATOR = jsonschema.Draft202012Validator(json_schema())
# Common formats, and then the others that libsndfile reads.
COMMON = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")]
RARE = [
    ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("WAV", "ULAW"), ("W64", "PCM_24"),
    ("RF64", "PCM_16"), ("AIFF", "PCM_16"), ("CAF", "ALAC_16"), ("AU", "PCM_16"), ("SDS", "PCM_16"), ("VOC", "PCM_16"),
]  # fmt: skip


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    worker = Worker(ANALYZER, write_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], bytes]:
    """Four seconds of a voice in each format."""
    path = tmp_path_factory.mktemp("good") / "good"
    sound = voice(pitch_hz=120.0, syllables_hz=3.0, seconds=4.0, seed=0)
    contents = {}
    for form, coding in COMMON + RARE:
        soundfile.write(path, sound, 16_000, format=form, subtype=coding)
        contents[form, coding] = path.read_bytes()
    return contents


def analyze(worker: Worker, path: Path) -> dict[str, Any]:
    answer = worker.ask(path)
    for line in answer["out"].splitlines():
        VALIDATOR.validate(json.loads(line))
    assert answer["status"] in (0, 1)
    if answer["status"] == 0:
        assert answer["err"] == ""
    else:
        assert answer["err"].count("\n") == 1
        assert answer["err"].startswith("edge-sser: error: ")
        check_message(answer["err"].rstrip("\n"), path)
    return answer


SIZES = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\1\0\0\0", b"\0\0\0\1"]


@examples(50)
@given(data=st.data())
def test_a_good_recording_that_was_damaged(
    worker: Worker, recordings: dict[tuple[str, str], bytes], tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    content = bytearray(recordings[data.draw(st.sampled_from(COMMON) | st.sampled_from(RARE))])
    for _ in range(data.draw(st.integers(1, 8))):
        # Headers are where a byte decides most.
        place = data.draw(st.integers(0, min(len(content), 120) - 1) | st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(["flip", "size", "remove", "insert", "cut"]))
        if kind == "flip":
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "size":
            content[place : place + 4] = data.draw(st.sampled_from(SIZES))
        elif kind == "remove":
            del content[place : place + data.draw(st.integers(1, 300))]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=50))
        else:
            del content[max(place, 1) :]
        content = content or bytearray(1)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    analyze(worker, path)


def test_every_format_is_read_while_it_is_whole(
    worker: Worker, recordings: dict[tuple[str, str], bytes], tmp_path: Path
) -> None:
    for (form, coding), content in recordings.items():
        path = tmp_path / f"{form}-{coding}"
        path.write_bytes(content)
        answer = analyze(worker, path)
        assert (answer["status"], len(answer["out"].splitlines()) >= 3) == (0, True), (form, coding, answer["err"])


@pytest.mark.parametrize("position", [2**40, 2**55, 2**62, 2**63 - 1, -1, 0, -(2**60)])
@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_an_ogg_that_claims_an_absurd_length(
    worker: Worker, recordings: dict[tuple[str, str], bytes], tmp_path: Path, coding: str, position: int
) -> None:
    path = tmp_path / "long.ogg"
    path.write_bytes(with_last_position(recordings["OGG", coding], position))
    analyze(worker, path)


def with_last_position(ogg: bytes, position: int) -> bytes:
    """An Ogg file whose last page says that it ends at that sample, with the right checksum (RFC 3533)."""
    start = ogg.rindex(b"OggS")
    page = bytearray(ogg[start:])
    page[6:14] = struct.pack("<q", position)
    page[22:26] = bytes(4)
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register & 0x8000_0000 else 0)) & 0xFFFF_FFFF
    page[22:26] = struct.pack("<I", register)
    return ogg[:start] + bytes(page)


def test_nothing_that_a_library_prints_gets_among_the_events(worker: Worker, tmp_path: Path) -> None:
    path = tmp_path / "dump.sds"
    soundfile.write(path, np.zeros(64_000), 16_000, format="SDS", subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[200:200] = bytes(3)  # from here on libsndfile complains about every block, on the C library's stdout
    path.write_bytes(content)
    analyze(worker, path)
