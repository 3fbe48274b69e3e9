"""Whatever bytes come through a pipe, however coded and cut: events that fit the schema, and every sample counted."""

from __future__ import annotations

import json
import os

import jsonschema
import numpy as np
import pytest
from hostile import check_message, examples
from hypothesis import given
from hypothesis import strategies as st
from models import write_model

from edge_sser.audio.raw import RawSource
from edge_sser.audio.source import EndOfAudio
from edge_sser.errors import SourceError
from edge_sser.events import Event, Reading, json_schema, to_json
from edge_sser.model.model import Model
from edge_sser.monitor.monitor import Monitor
from edge_sser.settings.schema import SampleFormat, Settings

RATE_HZ = 16_000
WINDOW, HOP = 3 * RATE_HZ, RATE_HZ // 2
MAX_BYTES = 2_000_000
PIPE_BYTES = 60_000  # less than a pipe holds
SMALL_PIECES = 300  # of any size, before the rest comes in large ones
VALIDATOR = jsonschema.Draft202012Validator(json_schema())
BYTES = {SampleFormat.S16LE: 2, SampleFormat.S32LE: 4, SampleFormat.F32LE: 4}
# Quiet and signalling NaN, infinities, the largest, the smallest, minus nothing: as bits of a float32.
ODD_FLOATS = [0x7FC00000, 0x7F800001, 0xFFFFFFFF, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 0x00000001, 0x80000000]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(write_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def pcm(kind: str, sample_format: SampleFormat, size: int, seed: int) -> bytes:
    chance = np.random.default_rng(seed)
    if kind == "anything":
        return chance.bytes(size)
    if kind == "extremes":
        return chance.choice(np.frombuffer(b"\x00\x7f\x80\xff", dtype=np.uint8), size).tobytes()
    scale = 10.0 ** chance.uniform(-40.0, 37.0) if sample_format is SampleFormat.F32LE else 2**15
    sound = (scale * chance.standard_normal(size // 4 + 1)).astype("<f4").view("<u4")
    odd = chance.integers(0, sound.size, 1 + sound.size // 100)
    sound[odd] = chance.choice(np.array(ODD_FLOATS, dtype="<u4"), odd.size)
    return sound.tobytes()[:size]


@pytest.mark.filterwarnings("error")  # numpy's would appear on standard error
@examples(60)
@given(
    kind=st.sampled_from(["anything", "extremes", "floats"]),
    sample_format=st.sampled_from(SampleFormat),
    channels=st.sampled_from([1, 1, 1, 2, 3, 64]),
    rate_hz=st.sampled_from([4_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 192_000, 384_000]),
    frames=st.integers(0, 100) | st.integers(WINDOW, 5 * RATE_HZ),
    torn=st.integers(0, 7),
    pieces=st.lists(st.integers(1, PIPE_BYTES), min_size=1, max_size=8),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_bytes_in_any_coding_cut_anyhow(
    model: Model,
    kind: str,
    sample_format: SampleFormat,
    channels: int,
    rate_hz: int,
    frames: int,
    torn: int,
    pieces: list[int],
    seed: int,
) -> None:
    frame_bytes = channels * BYTES[sample_format]
    frames = min(frames * max(1, rate_hz // RATE_HZ), MAX_BYTES // frame_bytes)
    torn %= frame_bytes
    data = pcm(kind, sample_format, frames * frame_bytes + torn, seed)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as stream:
        source = RawSource(
            stream,
            name="raw",
            rate_hz=rate_hz,
            channels=channels,
            sample_format=sample_format,
            channel=[None, 0, channels - 1][seed % 3],
        )
        monitor = Monitor(node="n", source_name="raw", started_at=0.0, live=True, model=model, settings=Settings())
        events, samples = hear(source, monitor, data, pieces, writer)
    if not frames:
        return
    expected = frames * RATE_HZ / rate_hz
    assert abs(samples - expected) <= 1.0
    assert monitor.counters.read == monitor.counters.processed == samples
    for event in events:
        VALIDATOR.validate(json.loads(to_json(event)))
    readings = [event for event in events if isinstance(event, Reading)]
    assert len(readings) == max(0, (samples - WINDOW) // HOP + 1)


def hear(source: RawSource, monitor: Monitor, data: bytes, pieces: list[int], writer: int) -> tuple[list[Event], int]:
    """Writes in pieces and reads after each. Returns the outcome and the number of samples."""
    events: list[Event] = []
    samples = at = turn = 0
    message = ""
    try:
        while True:
            if at < len(data):
                size = pieces[turn % len(pieces)] if turn < SMALL_PIECES else PIPE_BYTES
                os.write(writer, data[at : at + size])
                at, turn = at + size, turn + 1
            elif writer >= 0:
                os.close(writer)
                writer = -1
            block = source.read(timeout_seconds=0.0 if writer >= 0 else 10.0)
            if block is not None:
                assert np.isfinite(block.samples).all()
                samples += block.samples.size
                events += monitor.push(block)
    except EndOfAudio:
        events += monitor.finish()
    except SourceError as error:  # nothing at all, or the start of a file
        message = str(error)
    if writer >= 0:
        os.close(writer)
    if message:
        check_message(message)
        assert not events
        assert len(data) < BYTES[SampleFormat.S16LE] or "expected raw PCM" in message or "before any audio" in message
    return events, samples
