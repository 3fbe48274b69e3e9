"""Outboxes kept for another broker: nothing in them is lost, whatever fails when the settings change."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from edge_sser.sinks.mqtt import outbox_destination
from edge_sser.sinks.mqtt.outbox import Entry, Outbox, Record
from edge_sser.sinks.mqtt.outbox_file import OutboxFile, log_path

HERE, THERE = "here:1883 (node cab12)", "there:1883 (node cab12)"


class Clock:
    """Fake clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def numbers(entries: list[Entry]) -> list[int]:
    return [int(entry.record.payload) for entry in entries]


def of(destination: str, path: Path, clock: Clock | None = None) -> Outbox:
    return Outbox(path, max_bytes=2**20, destination=destination, clock=clock or Clock())


def put(destination: str, path: Path, *events: int) -> None:
    outbox = of(destination, path)
    outbox.put([Record("t", b"%d" % number, retain=False) for number in events])
    assert outbox.fault is None
    outbox.close()


def delivered(destination: str, path: Path) -> list[int]:
    """Opens an outbox, acknowledges all that waits in it, and returns that."""
    outbox = of(destination, path)
    entries = outbox.pending(100)
    outbox.remove(entries)
    outbox.close()
    return numbers(entries)


def test_kept_events_are_taken_in_place_of_an_empty_outbox_of_nobody(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    put(HERE, path, 1, 2)
    delivered(THERE, path)
    path.unlink()
    OutboxFile(path).close()  # killed before it wrote its destination
    assert delivered(HERE, path) == [1, 2]


def test_a_kept_outbox_is_never_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "outbox.db"
    put(HERE, path, 1, 2)
    put(THERE, path, 3)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM fact WHERE name = 'destination'")  # as of a rescued file that did not say
        db.commit()
    put(HERE, path, 4)
    assert "waits until the outbox is opened with nothing in it" in caplog.text
    delivered(THERE, path)
    assert len(list(tmp_path.glob(outbox_destination.KEPT_PATTERN))) == 2
    assert [delivered(HERE, path) for _ in range(3)] == [[1, 2], [3, 4], []]
    assert [file.name for file in tmp_path.glob("outbox*.db")] == ["outbox.db"]


def test_too_many_kept_outboxes_stop_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_destination, "KEPT_FILES", 1)
    path = tmp_path / "outbox.db"
    put(HERE, path, 1)
    outbox_destination.kept_path(path, HERE).touch()
    assert of(THERE, path).fault == f"1 files are kept for {HERE}: remove those that nobody wants"


def test_an_outbox_whose_log_cannot_be_moved_into_it_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "outbox.db"
    first = of(HERE, path)
    first.put([Record("t", b"1", retain=False)])
    left = {file: file.read_bytes() for file in (path, log_path(path))}
    first.close()

    def close_without_room(self: OutboxFile) -> None:
        """Leaves the log, as a checkpoint that finds no room."""
        close(self)
        for file, content in left.items():
            file.write_bytes(content)

    for file, content in left.items():
        file.write_bytes(content)
    close, clock = OutboxFile.close, Clock()
    with monkeypatch.context() as full:
        full.setattr(OutboxFile, "close", close_without_room)
        second = of(THERE, path, clock)
    assert second.fault is not None
    assert "the log cannot be moved into the file" in second.fault
    second.put([Record("t", b"2", retain=False)])
    assert second.depth == 1
    clock.now = 100.0
    second.retry_if_due()
    assert second.fault is None
    second.close()
    assert [delivered(HERE, path), delivered(THERE, path)] == [[1], [2]]


def test_a_file_damaged_while_in_use_keeps_its_broker(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    put(HERE, path, 1, 2, 3)
    outbox = of(HERE, path)
    assert outbox._file is not None
    db = outbox._file._db
    db.execute("UPDATE event SET crc = crc + 1 WHERE n = 1")
    db.execute("DELETE FROM fact WHERE name = 'destination'")
    assert numbers(outbox.pending(10)) == []  # damage found, and the file rescued
    assert (outbox.damaged, outbox._file.destination) == (1, HERE)
    assert numbers(outbox.pending(10)) == [2, 3]
    outbox.close()
