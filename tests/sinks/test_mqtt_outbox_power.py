"""The outbox and a power cut at any moment: rescue in one step, and no number twice in one stream."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_sser.sinks.mqtt import outbox_mark
from edge_sser.sinks.mqtt.outbox import Entry, Outbox, Record

TOPIC = "edge-sser/cab12/desk/episode"
ROOM = 64 * 2**20


def record(number: int) -> Record:
    return Record(TOPIC, b'{"n":%d,"x":"%s"}' % (number, b"x" * 300), retain=False)


def numbers(entries: list[Entry]) -> list[int]:
    return [int(entry.record.payload[5:].split(b",")[0]) for entry in entries]


def opened(path: Path) -> Outbox:
    return Outbox(path, max_bytes=ROOM)


def damaged(path: Path) -> None:
    """An outbox of twenty records whose eighth has rotted."""
    outbox = opened(path)
    outbox.put([record(number) for number in range(20)])
    outbox.close()
    path.write_bytes(path.read_bytes().replace(b'{"n":7,', b'{"n":8,'))


def killed_at(step: int, work: Callable[[], None]) -> bool:
    """Runs work in a child that is killed before its nth change to a file; False when it came to its end before."""
    pid = os.fork()
    if pid == 0:
        done = [0]

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                done[0] += 1
                if done[0] == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return call

        for name in ("replace", "link", "unlink", "open", "fsync"):
            setattr(os, name, counted(getattr(os, name)))
        sqlite3.connect = counted(sqlite3.connect)
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_a_rescue_that_is_killed_at_any_step_loses_nothing_that_could_be_read(tmp_path: Path) -> None:
    damaged(tmp_path / "before" / "outbox.db")
    step, killed = 0, True
    while killed:
        step += 1
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "before", folder)

        def meet_damage(folder: Path = folder) -> None:
            outbox = opened(folder / "outbox.db")
            outbox.pending(30)
            outbox.put([record(20)])

        killed = killed_at(step, meet_damage)
        outbox = opened(folder / "outbox.db")
        outbox.pending(30)
        found = numbers(outbox.pending(30))
        assert found[:19] == [*range(7), *range(8, 20)], step
        assert found[19:] in ([], [20]), step
        assert outbox.fault is None
        outbox.close()
        assert not list(folder.glob("*.part*")) or killed
        assert not list(folder.glob("*.rescued"))
    assert step > 8, "the steps were seen"


def test_an_outbox_that_is_killed_at_any_step_of_its_first_use_goes_on_in_one_stream(tmp_path: Path) -> None:
    step, killed, before = 0, True, []
    while killed:
        step += 1
        path = tmp_path / str(step) / "outbox.db"

        def use(path: Path = path) -> None:
            opened(path).put([record(0), record(1)])

        killed = killed_at(step, use)
        outbox = opened(path)
        first = outbox.pending(5)
        assert numbers(first) in ([], [0, 1]), step
        outbox.put([record(2)])
        entries = outbox.pending(5)
        assert len({entry.stream for entry in entries}) == 1, f"killed at change {step}: a new stream"
        assert [entry.seq for entry in entries] == [*range(1, len(entries) + 1)]
        outbox.close()
        before.append(len(first))
    assert before == sorted(before)
    assert (before[0], before[-2]) == (0, 2), "killed before and after the first events"


def test_the_log_of_the_damaged_file_is_not_applied_to_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    damaged(path)
    other = opened(tmp_path / "other" / "outbox.db")
    other.put([record(number) for number in range(100, 140)])
    shutil.copy(tmp_path / "other" / "outbox.db-wal", tmp_path / "outbox.db-wal")
    outbox = opened(path)
    outbox.pending(50)
    outbox.close()
    assert set(numbers(opened(path).pending(50))) <= {*range(20), *range(100, 140)}


def test_a_damaged_file_is_kept_for_whoever_wants_to_look(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    damaged(path)
    content = path.read_bytes()
    opened(path).pending(30)
    assert (tmp_path / "outbox.db.damaged").read_bytes() == content


def state_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("outbox.db*")}


def put_back(folder: Path, state: dict[str, bytes]) -> None:
    """Undoes the newest changes of an outbox, as a medium does that had not kept what it called flushed."""
    for path in folder.glob("outbox.db*"):
        path.unlink()
    for name, content in state.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("closed", [False, True])
def test_numbers_that_a_power_cut_took_back_are_not_given_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, closed: bool
) -> None:
    path = tmp_path / "outbox.db"
    outbox = opened(path)
    outbox.put([record(1), record(2)])
    if closed:
        outbox.close()
    before = state_of(tmp_path)
    if closed:
        outbox = opened(path)
    outbox.put([record(3)])
    sent = {entry.key for entry in outbox.pending(9)}
    outbox.close()
    put_back(tmp_path, before)
    with caplog.at_level(logging.WARNING):
        again = opened(path)
    assert "its newest changes are missing" in caplog.text
    assert "1 events" in caplog.text
    again.put([record(4)])
    assert numbers(again.pending(9)) == [1, 2, 4]
    assert again.pending(9)[-1].key not in sent
    assert again.pending(9)[-1].seq == 1, "a subscriber sees that counting began again"


def test_an_outbox_that_is_gone_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outbox = opened(tmp_path / "outbox.db")
    outbox.put([record(1), record(2)])
    outbox.close()
    put_back(tmp_path, {})
    with caplog.at_level(logging.WARNING):
        opened(tmp_path / "outbox.db")
    assert "2 events" in caplog.text


def test_an_older_copy_that_comes_back_gives_no_number_again(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = opened(path)
    outbox.put([record(1)])
    outbox.close()
    before = state_of(tmp_path)
    outbox = opened(path)
    outbox.put([record(2)])
    sent = {entry.key for entry in outbox.pending(9)}
    outbox.close()
    for between in ([], [record(3)]):  # a new outbox in between, without and with an event
        put_back(tmp_path, {})
        new = opened(path)
        new.put(between)
        new.close()
        put_back(tmp_path, before)
        again = opened(path)
        again.put([record(4)])
        assert numbers(again.pending(9)) == [1, 4]
        assert again.pending(9)[-1].key not in sent
        again.close()


def test_an_event_that_no_mark_knew_of_is_marked_before_it_is_sent(tmp_path: Path) -> None:
    """The program is killed between commit and mark, goes on, sends the event, and the medium takes it back."""
    path, mark = tmp_path / "outbox.db", tmp_path / "outbox.mark"
    outbox = opened(path)
    outbox.put([record(1)])
    before, marked = state_of(tmp_path), mark.read_bytes()
    outbox.put([record(2)])
    outbox.close()
    mark.write_bytes(marked)
    again = opened(path)
    sent = {entry.key for entry in again.pending(9)}
    again.close()
    put_back(tmp_path, before)
    rolled_back = opened(path)
    rolled_back.put([record(3)])
    assert rolled_back.pending(9)[-1].key not in sent


def test_numbers_begin_in_a_new_stream_after_another_start_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, streams = tmp_path / "outbox.db", []
    for boot in ("one", "one", "two"):
        (tmp_path / "boot").write_text(boot + "\n")
        monkeypatch.setattr(outbox_mark, "BOOT_ID", tmp_path / "boot")
        with caplog.at_level(logging.WARNING):
            outbox = opened(path)
        outbox.put([record(1)])
        streams.append(outbox.pending(9)[-1].stream)
        outbox.close()
    assert streams[0] == streams[1] != streams[2]
    assert caplog.text == "", "an orderly start is no reason for a warning"


def test_the_first_event_after_a_start_of_the_machine_keeps_its_stream_when_the_program_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, mark = tmp_path / "outbox.db", tmp_path / "outbox.mark"
    monkeypatch.setattr(outbox_mark, "BOOT_ID", tmp_path / "boot")
    (tmp_path / "boot").write_text("one\n")
    outbox = opened(path)
    outbox.put([record(1)])
    outbox.close()
    (tmp_path / "boot").write_text("two\n")
    outbox = opened(path)
    marked = mark.read_bytes()
    outbox.put([record(2)])
    outbox.close()
    mark.write_bytes(marked)  # killed between the commit and its mark
    again = opened(path)
    again.put([record(3)])
    first, second, third = again.pending(9)
    assert first.stream != second.stream == third.stream
    assert (second.seq, third.seq) == (1, 2)


@pytest.mark.parametrize("content", [b"", b"\0" * 57, b"12", b"a b", b"\xff\xff c"])
def test_a_mark_that_cannot_be_read_costs_a_stream_and_nothing_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "outbox.db"
    outbox = opened(path)
    outbox.put([record(1)])
    outbox.close()
    (tmp_path / "outbox.mark").write_bytes(content)
    again = opened(path)
    again.put([record(2)])
    first, second = again.pending(9)
    assert first.stream != second.stream
    assert second.seq == 1
