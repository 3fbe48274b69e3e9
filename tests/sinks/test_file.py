"""Events in a rotating file, on disks that work, fill up and hang."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mqtt_rig import emit, episode, eventually, reading

from edge_sser.errors import SinkError
from edge_sser.events import to_json
from edge_sser.settings.sinks import FileSinkSettings
from edge_sser.sinks.file import RotatingFileSink

Open = Callable[..., RotatingFileSink]


@pytest.fixture
def open_file(tmp_path: Path) -> Iterator[Open]:
    sinks: list[RotatingFileSink] = []

    def start(path: Path | None = None, **options: Any) -> RotatingFileSink:
        settings = FileSinkSettings(path=path or tmp_path / "events.jsonl", **options)
        sinks.append(RotatingFileSink(settings, retry_seconds=0.05))
        return sinks[-1]

    yield start
    for sink in sinks:
        sink.close()


def lines(*paths: Path) -> list[str]:
    return [line for path in paths for line in path.read_text().splitlines()]


def test_the_file_holds_the_lines_of_standard_output(tmp_path: Path, open_file: Open) -> None:
    sink = open_file()
    events = [reading(1), episode(1), reading(2)]
    for event in events:
        emit(sink, event)
    sink.close()
    assert lines(tmp_path / "events.jsonl") == [to_json(event) for event in events]
    sink.close()
    with pytest.raises(SinkError, match="closed"):
        emit(sink, reading(3))


def test_a_full_file_becomes_the_first_older_one_and_the_oldest_is_deleted(tmp_path: Path, open_file: Open) -> None:
    sink = open_file(max_bytes=4096, keep=2)
    for number in range(60):
        emit(sink, episode(number))
    sink.close()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert all(file.stat().st_size <= 4096 for file in files)
    kept = [json.loads(line)["id"] for line in lines(files[2], files[1], files[0])]
    assert kept == [episode(number).id for number in range(60)][-len(kept) :]
    assert len(kept) > 20


def test_no_older_file_is_kept_when_none_is_wanted(tmp_path: Path, open_file: Open) -> None:
    sink = open_file(max_bytes=4096, keep=0)
    for number in range(60):
        emit(sink, episode(number))
    sink.close()
    assert [file.name for file in tmp_path.iterdir()] == ["events.jsonl"]
    assert lines(tmp_path / "events.jsonl")[-1] == to_json(episode(59))


def test_a_restart_goes_on_where_the_file_ends_and_cuts_off_half_a_line(tmp_path: Path, open_file: Open) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(to_json(episode(1)) + "\n" + to_json(episode(2))[:50])
    sink = open_file()
    emit(sink, episode(3))
    sink.close()
    assert lines(path) == [to_json(episode(1)), to_json(episode(3))]


def test_a_full_disk_leaves_whole_lines_and_is_written_again_when_there_is_room(
    tmp_path: Path, open_file: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = 1000
    write = os.write

    def short_write(fd: int, data: bytes) -> int:
        if os.fstat(fd).st_size >= room:
            raise OSError(28, "No space left on device")
        return write(fd, data[: max(1, room - os.fstat(fd).st_size)])

    sink = open_file()
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("edge_sser.sinks.file.os.write", short_write)
        for number in range(10):
            emit(sink, episode(number))
        eventually(lambda: sink.fault is not None, "the disk is full")
        assert sink.fault == "No space left on device"
        assert sink.trouble == "the event file cannot be written: No space left on device"
        written = (tmp_path / "events.jsonl").read_text()
        assert written.splitlines() == [to_json(episode(number)) for number in range(written.count("\n"))]
    eventually(lambda: sink.fault is None, "written again")
    assert sink.trouble == ""
    sink.close()
    assert lines(tmp_path / "events.jsonl") == [to_json(episode(number)) for number in range(10)]
    assert (len(caplog.records), sink.dropped) == (2, 0)


def test_a_disk_that_hangs_delays_nobody_and_what_it_cannot_take_is_counted(
    tmp_path: Path, open_file: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sser.sinks.file.MAX_QUEUED_LINES", 20)
    hang, hung = threading.Event(), threading.Event()
    write = os.write

    def slow_write(fd: int, data: bytes) -> int:
        hung.set()
        assert hang.wait(30)
        return write(fd, data)

    sink = open_file()
    monkeypatch.setattr("edge_sser.sinks.file.os.write", slow_write)
    emit(sink, episode(0))
    assert hung.wait(30)
    for number in range(1, 51):
        emit(sink, episode(number))
    hang.set()
    sink.close()
    assert sink.dropped == 30
    assert lines(tmp_path / "events.jsonl") == [to_json(episode(number)) for number in (0, *range(31, 51))]


@pytest.mark.parametrize("where", ["a directory", "below a file"])
def test_a_path_that_cannot_be_a_file_is_named(where: str, tmp_path: Path, open_file: Open) -> None:
    (tmp_path / "file").touch()
    path = tmp_path if where == "a directory" else tmp_path / "file" / "events.jsonl"
    with pytest.raises(SinkError, match=str(path)):
        open_file(path)


def test_a_file_that_was_moved_or_deleted_is_opened_anew(tmp_path: Path, open_file: Open) -> None:
    """As logrotate does, with `create` and without, and as somebody does who makes room."""
    path = tmp_path / "events.jsonl"
    sink = open_file()

    def write(number: int) -> None:
        emit(sink, episode(number))
        eventually(lambda: path.exists() and to_json(episode(number)) in path.read_text(), f"episode {number}")

    write(1)
    path.rename(tmp_path / "moved")
    write(2)
    path.rename(tmp_path / "moved-again")
    path.touch()  # logrotate's `create`
    write(3)
    path.unlink()
    write(4)
    assert lines(tmp_path / "moved", tmp_path / "moved-again", path) == [to_json(episode(n)) for n in (1, 2, 4)]


def test_a_folder_that_was_deleted_is_made_anew(tmp_path: Path, open_file: Open) -> None:
    path = tmp_path / "folder" / "events.jsonl"
    sink = open_file(path)
    emit(sink, episode(1))
    eventually(lambda: path.read_text(), "written")
    path.unlink()
    path.parent.rmdir()
    emit(sink, episode(2))
    eventually(lambda: path.exists() and lines(path) == [to_json(episode(2))], "written again")


@pytest.mark.parametrize("content", ["notes of mine, without a line end", '{"a": 1}\n{"b"', "\0" * 100])
@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.2"])
def test_a_file_with_anything_else_in_it_is_refused_and_left_alone(
    tmp_path: Path, open_file: Open, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SinkError, match=f"{name} holds something else than events"):
        open_file()
    assert (tmp_path / name).read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_takes_the_place_of_a_moved_one_is_left_alone_too(tmp_path: Path, open_file: Open) -> None:
    path = tmp_path / "events.jsonl"
    sink = open_file()
    emit(sink, episode(1))
    eventually(lambda: path.read_text(), "written")
    path.unlink()
    path.write_text("something else")
    emit(sink, episode(2))
    eventually(lambda: "something else than events" in sink.trouble, "told")
    assert path.read_text() == "something else"
    path.unlink()
    eventually(lambda: path.exists() and lines(path) == [to_json(episode(2))], "nothing was lost")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_whatever_the_umask_the_file_is_the_groups_to_read_and_the_state_directory_is_private(
    tmp_path: Path, open_file: Open, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    state = tmp_path / "var" / "state"
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    before = os.umask(umask)
    try:
        open_file(state / "below" / "events.jsonl")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (state, state / "below", state / "below/events.jsonl")}
    assert modes == {"state": 0o700, "below": 0o700, "events.jsonl": 0o640}
