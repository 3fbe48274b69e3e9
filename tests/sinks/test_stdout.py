"""JSON Lines on standard output, and what happens when nobody reads them."""

from __future__ import annotations

import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mqtt_rig import emit

from edge_sser.errors import OutputClosedError, SinkError
from edge_sser.events import Health, HealthState, to_json
from edge_sser.sinks.stdout import MAX_QUEUED_BYTES, JsonLines, NonBlockingWriter

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
import threading
from edge_sser.errors import OutputClosedError, SinkError
from edge_sser.events import Health, HealthState, to_line
from edge_sser.sinks.stdout import NonBlockingWriter
from edge_sser.sinks.stdout import JsonLines
sink = JsonLines(NonBlockingWriter(sys.stdout, wait_until=threading.Event()))
health = Health(node="n", source="s", ts="t", state=HealthState.OK, detail="", read_s=0.0, processed_s=0.0,
                dropped_s=0.0, overruns=0)
try:
    while True:
        sink.emit(health, to_line(health))
except OutputClosedError:
    sys.exit(3)
except SinkError as error:
    print(error, file=sys.stderr)
    sys.exit(4)
"""


def test_a_line_arrives_with_its_event() -> None:
    reader, write_end = os.pipe()
    with os.fdopen(reader, "rb") as lines, os.fdopen(write_end, "wb") as stream:
        emit(JsonLines(NonBlockingWriter(stream)), HEALTH)
        assert select.select([reader], [], [], 10.0)[0], "the line is still in a buffer"
        line = lines.readline()
    assert line == to_json(HEALTH).encode() + b"\n"
    assert json.loads(line)["source"] == "küche"
    assert "küche".encode() in line


def lines_of(reader: int, until: bytes = b"") -> list[bytes]:
    """Returns the lines in a pipe, up to a line that ends with `until`, or to the end."""
    data = b""
    while not (until and data.endswith(until)):
        part = os.read(reader, 1 << 16)
        if not part:
            break
        data += part
    assert data.endswith(b"\n"), "the last line is torn"
    return data.splitlines()


def test_a_reader_who_does_not_read_makes_nobody_wait_and_gets_all_of_it_later() -> None:
    reader, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as stream:
        writer = NonBlockingWriter(stream)
        for number in range(5_000):  # far more than a pipe holds
            writer.write(b"%05d %s\n" % (number, b"x" * 90))
        assert not writer.flush()
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.extend(lines_of(reader)))
        thread.start()
        writer.close()
        assert writer.flush()
    thread.join()
    os.close(reader)
    assert [int(line[:5]) for line in got] == list(range(5_000))
    assert writer.dropped == 0


def test_what_nobody_reads_is_bounded_whole_lines_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    reader, write_end = os.pipe()
    line = b"%07d " + b"x" * 1016 + b"\n"  # so that lines and the chunks of a pipe do not end together
    many = MAX_QUEUED_BYTES // 1025 + 500
    with os.fdopen(write_end, "wb") as stream, caplog.at_level(logging.WARNING):
        writer = NonBlockingWriter(stream)
        for number in range(many):
            writer.write(line % number)
        assert [record.getMessage() for record in caplog.records] == [
            "standard output is not read; the oldest lines are dropped from now on"
        ]
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.extend(lines_of(reader)))
        thread.start()
        writer.close()
        assert "is read again" in caplog.records[-1].getMessage()
    thread.join()
    os.close(reader)
    assert {len(each) for each in got} == {1024}
    numbers = [int(each[:7]) for each in got]
    assert numbers == sorted(numbers)
    assert numbers[-1] == many - 1
    assert writer.dropped == many - len(numbers) > 0


def test_a_recording_waits_for_its_reader_until_it_is_stopped() -> None:
    reader, write_end = os.pipe()
    stop = threading.Event()
    with os.fdopen(write_end, "wb") as stream:
        writer = NonBlockingWriter(stream, wait_until=stop)
        written: list[int] = []

        def write() -> None:
            for number in range(2_000):
                writer.write(b"x" * 99 + b"\n")
                written.append(number)

        thread = threading.Thread(target=write)
        thread.start()
        while len(written) < 600:  # about what a pipe of 64 KiB holds
            time.sleep(0.01)
        os.read(reader, 1 << 15)
        while len(written) < 800:  # it goes on with its reader
            time.sleep(0.01)
        assert thread.is_alive()
        assert len(written) < 2_000
        stop.set()
        thread.join(30.0)
        assert not thread.is_alive()
        os.close(reader)
        with pytest.raises(OutputClosedError):
            writer.close()


def test_a_reader_that_has_gone_is_told_apart_from_a_failure() -> None:
    reader, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as stream:
        os.close(reader)
        with pytest.raises(OutputClosedError):
            emit(JsonLines(NonBlockingWriter(stream)), HEALTH)


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
