"""JSON Lines on standard output, and what happens when nobody reads them."""

from __future__ import annotations

import io
import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sser.errors import SinkError
from edge_sser.events import Health, HealthState, to_json
from edge_sser.sinks.stdout import JsonLines, OutputClosedError

HEALTH = Health(
    node="cab12",
    source="küche",
    ts="2026-01-02T03:04:05.678Z",
    state=HealthState.SILENT,
    detail="nothing but silence",
    read_s=12.0,
    processed_s=11.0,
    dropped_s=1.0,
    overruns=0,
)
WRITER = """
import sys
from edge_sser.errors import SinkError
from edge_sser.events import Health, HealthState
from edge_sser.sinks.stdout import JsonLines, OutputClosedError
sink = JsonLines(sys.stdout.buffer)
health = Health(node="n", source="s", ts="t", state=HealthState.OK, detail="", read_s=0.0, processed_s=0.0,
                dropped_s=0.0, overruns=0)
try:
    while True:
        sink.emit(health)
except OutputClosedError:
    sys.exit(3)
except SinkError as error:
    print(error, file=sys.stderr)
    sys.exit(4)
"""


def test_a_line_arrives_with_its_event() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as lines, os.fdopen(writer, "wb") as stream:
        JsonLines(stream).emit(HEALTH)
        assert select.select([reader], [], [], 10.0)[0], "the line is still in a buffer"
        line = lines.readline()
    assert line == to_json(HEALTH).encode() + b"\n"
    assert json.loads(line)["source"] == "küche"
    assert "küche".encode() in line


def test_it_writes_to_a_stream_that_is_no_file() -> None:
    stream = io.BytesIO()
    sink = JsonLines(stream)
    sink.emit(HEALTH)
    sink.emit(HEALTH)
    assert stream.getvalue().count(b"\n") == 2


def test_a_reader_that_has_gone_is_told_apart_from_a_failure() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as stream:
        os.close(reader)
        with pytest.raises(OutputClosedError):
            JsonLines(stream).emit(HEALTH)


def test_python_has_nothing_to_add_when_the_reader_leaves() -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 3


def test_a_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", WRITER], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 4
    assert done.stderr.decode().splitlines() == ["standard output cannot be written: No space left on device"]
    assert issubclass(OutputClosedError, SinkError)
