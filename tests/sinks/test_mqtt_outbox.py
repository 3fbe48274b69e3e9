"""The outbox on a disk that works, fails, fills up and rots."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sser.sinks.mqtt.outbox import Entry, Outbox, Record

TOPIC = "edge-sser/cab12/desk/episode"
ROOM = 64 * 2**20


class Clock:
    """Fake clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def record(number: int, topic: str = TOPIC, size: int = 300) -> Record:
    return Record(topic, (b'{"n":%d,"x":"' % number).ljust(size, b"x") + b'"}', retain=False)


def numbers(entries: list[Entry]) -> list[int]:
    return [int(entry.record.payload[5:].split(b",")[0]) for entry in entries]


def opened(path: Path, *, max_bytes: int = ROOM, clock: Clock | None = None) -> Outbox:
    return Outbox(path, max_bytes=max_bytes, clock=clock or Clock())


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write anywhere: permissions mean something to somebody else only."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that anybody may reach and write to."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


def test_entries_come_back_in_order_until_they_are_removed(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "state" / "outbox.db")
    outbox.put([record(1), record(2)])
    outbox.put([record(3)])
    assert numbers(outbox.pending(10)) == [1, 2, 3]
    outbox.remove(outbox.pending(1))
    assert numbers(outbox.pending(10)) == [2, 3]
    assert (outbox.depth, outbox.fault) == (2, None)


def test_entries_and_numbers_survive_a_restart(tmp_path: Path) -> None:
    first = opened(tmp_path / "outbox.db")
    first.put([record(1), record(2)])
    (delivered,) = first.pending(1)
    first.remove([delivered])
    first.close()
    second = opened(tmp_path / "outbox.db")
    assert (second.depth, numbers(second.pending(10))) == (1, [2])
    second.put([record(3)])
    assert [(entry.stream, entry.seq) for entry in second.pending(10)] == [
        (delivered.stream, 2),
        (delivered.stream, 3),
    ]


def test_the_last_number_is_remembered_when_nothing_is_left(tmp_path: Path) -> None:
    first = opened(tmp_path / "outbox.db")
    first.put([record(1)])
    first.remove(first.pending(1))
    first.close()
    second = opened(tmp_path / "outbox.db")
    second.put([record(2)])
    assert [entry.seq for entry in second.pending(1)] == [2]


def test_each_topic_is_numbered_by_itself(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    outbox.put([record(1, "a"), record(2, "b"), record(3, "a")])
    assert [(entry.record.topic, entry.seq) for entry in outbox.pending(9)] == [("a", 1), ("b", 1), ("a", 2)]
    assert numbers(outbox.pending(9, skip_topics=["a"])) == [2]


def test_what_is_in_flight_can_be_left_out(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    outbox.put([record(number) for number in range(5)])
    flying = {entry.key for entry in outbox.pending(3)}
    assert numbers(outbox.pending(10, skip=flying)) == [3, 4]


def test_the_oldest_go_when_it_is_full_and_are_counted_across_restarts(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db", max_bytes=2**16)
    outbox.put([record(number) for number in range(400)])
    kept = numbers(outbox.pending(1000))
    assert kept == list(range(400 - len(kept), 400))
    assert outbox.size_bytes <= 2**16
    assert outbox.lost == 400 - len(kept) > 0
    outbox.close()
    assert opened(tmp_path / "outbox.db", max_bytes=2**16).lost == 400 - len(kept)


def test_room_on_the_disk_is_given_back(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "outbox.db")
    outbox.put([record(number) for number in range(5000)])
    outbox.remove(outbox.pending(5000))
    outbox.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 200_000


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    outbox = opened(tmp_path / "state" / "outbox.db")
    outbox.put([record(1)])
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "state").iterdir()}
    assert modes == {0o600}


def test_a_commit_is_flushed_and_a_removal_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = opened(tmp_path / "outbox.db")
    assert outbox._file is not None
    statements: list[str] = []
    outbox._file._db.set_trace_callback(statements.append)
    outbox.put([record(1)])
    assert "PRAGMA synchronous = FULL" in statements
    assert outbox._file._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    statements.clear()
    outbox.remove(outbox.pending(1))
    assert "PRAGMA synchronous = NORMAL" in statements


def test_a_second_program_on_the_same_file_keeps_to_its_memory_and_says_so(tmp_path: Path) -> None:
    first = opened(tmp_path / "outbox.db")
    first.put([record(1)])
    clock = Clock()
    second = opened(tmp_path / "outbox.db", clock=clock)
    second.put([record(2)])
    assert second.fault is not None
    assert "another" in second.fault
    assert (numbers(first.pending(9)), numbers(second.pending(9))) == ([1], [2])
    first.close()
    clock.now += 11
    second.retry_if_due()
    assert second.fault is None
    assert numbers(second.pending(9)) == [1, 2]


def test_a_directory_that_cannot_be_written_is_used_as_soon_as_it_can(open_directory: Path) -> None:
    state = open_directory / "state"
    state.mkdir(mode=0o555)
    clock = Clock()
    with as_nobody():
        outbox = opened(state / "outbox.db", clock=clock)
        outbox.put([record(1)])
        assert outbox.fault is not None
        assert "ermission" in outbox.fault
        assert numbers(outbox.pending(9)) == [1]
        assert outbox.retry_in == pytest.approx(10)
    os.chmod(state, 0o777)
    with as_nobody():
        outbox.put([record(2)])
        assert outbox.fault is not None, "tried again only when it is time"
        clock.now += 11
        outbox.retry_if_due()
        assert outbox.fault is None
        outbox.close()
        again = opened(state / "outbox.db")
        assert numbers(again.pending(9)) == [1, 2]
        again.close()


def test_a_file_that_becomes_read_only_delivers_what_is_in_it_and_keeps_the_rest_in_memory(
    open_directory: Path,
) -> None:
    path = open_directory / "outbox.db"
    clock = Clock()
    with as_nobody():
        before = opened(path)
        before.put([record(1)])
        before.close()
        path.chmod(0o400)
        outbox = opened(path, clock=clock)
        outbox.put([record(2)])
        assert outbox.fault is not None
        path.chmod(0o600)
        clock.now += 11
        outbox.put([record(3)])
        assert outbox.fault is None
        assert numbers(outbox.pending(9)) == [1, 2, 3]
        outbox.close()


@contextlib.contextmanager
def small_disk(directory: Path, size: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", directory], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def can_mount(directory: Path) -> bool:
    try:
        with small_disk(directory, 2**16):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def test_a_full_disk_loses_nothing_and_is_used_again_when_there_is_room(tmp_path: Path) -> None:
    """On a tmpfs of 256 KiB where we may mount one; otherwise with files limited to that size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with contextlib.ExitStack() as stack:
        ballast = disk / "ballast"
        mounted = can_mount(disk)
        if mounted:
            stack.enter_context(small_disk(disk, 2**18))
        else:
            old = resource.getrlimit(resource.RLIMIT_FSIZE)
            stack.callback(resource.setrlimit, resource.RLIMIT_FSIZE, old)
        clock = Clock()
        outbox = opened(disk / "outbox.db", clock=clock)
        outbox.put([record(0), record(1)])
        if mounted:
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, old[1]))
        number = 2
        while outbox.fault is None:
            outbox.put([record(number)])
            number += 1
            assert number < 2000
        outbox.put([record(number)])
        clock.now += 11
        outbox.retry_if_due()
        assert outbox.fault is not None, "the disk is still full"
        assert numbers(outbox.pending(5000)) == list(range(number + 1))
        delivered = outbox.pending(3)
        outbox.remove(delivered)
        assert numbers(outbox.pending(5000)) == list(range(3, number + 1))
        # A program that ends now sends some of it again, but nothing twice under another number.
        if mounted:
            ballast.unlink()
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        clock.now += 11
        outbox.retry_if_due()
        assert outbox.fault is None
        outbox.close()
        again = opened(disk / "outbox.db")
        left = again.pending(5000)
        assert numbers(left) == list(range(3, number + 1))
        assert len({entry.key for entry in left}) == len(left)
        assert again.lost == 0
        again.close()


def test_numbers_given_while_the_disk_failed_are_never_given_again(open_directory: Path) -> None:
    path = open_directory / "outbox.db"
    with as_nobody():
        before = opened(path)
        before.put([record(1)])
        used = {entry.key for entry in before.pending(9)}
        before.close()
    path.chmod(0o400)
    with as_nobody():
        broken = opened(path)
        broken.put([record(2)])
        used |= {entry.key for entry in broken.pending(9)}
        broken.close()  # the program ends before the disk works again
    path.chmod(0o600)
    with as_nobody():
        after = opened(path)
        after.put([record(3)])
        assert numbers(after.pending(9)) == [1, 3]
        assert after.pending(9)[1].key not in used
        after.close()


def test_memory_is_bounded_while_the_disk_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outbox = opened(tmp_path / "file" / "outbox.db", max_bytes=2**16)
    assert outbox.fault is not None
    outbox.put([record(number) for number in range(400)])
    kept = numbers(outbox.pending(1000))
    assert kept == list(range(400 - len(kept), 400))
    assert outbox.size_bytes <= 2**16
    assert outbox.lost == 400 - len(kept)


@pytest.mark.parametrize("content", [b"this is no database at all", bytes(8192), b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_outbox_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(content)
    outbox = opened(path)
    outbox.put([record(1)])
    assert (outbox.fault, outbox.damaged) == (None, 1)
    assert (tmp_path / "outbox.db.damaged").read_bytes() == content
    outbox.close()
    assert numbers(opened(path).pending(9)) == [1]


def test_another_programs_database_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE event (something TEXT)")
    outbox = opened(path)
    outbox.put([record(1)])
    assert (outbox.fault, outbox.damaged, numbers(outbox.pending(9))) == (None, 1, [1])


def test_a_file_in_a_format_that_sqlite_does_not_know_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    first = opened(path)
    first.put([record(1)])
    first.close()
    content = bytearray(path.read_bytes())
    content[19] = 99  # the format's version, for readers
    path.write_bytes(content)
    outbox = opened(path)
    outbox.put([record(2)])
    assert (outbox.fault, outbox.damaged, numbers(outbox.pending(9))) == (None, 1, [2])


def test_rows_that_rotted_are_not_sent_and_the_sound_ones_are_saved(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    first = opened(path)
    first.put([record(number) for number in range(20)])
    first.close()
    content = path.read_bytes()
    assert content.count(b'{"n":7,') == 1
    path.write_bytes(content.replace(b'{"n":7,', b'{"n":8,'))
    second = opened(path)
    second.put([record(20)])
    second.pending(30)  # meets the damage
    assert numbers(second.pending(30)) == [*range(7), *range(8, 21)]
    assert (second.damaged, second.lost, second.fault) == (1, 1, None)
    second.put([record(21)])
    second.close()
    assert numbers(opened(path).pending(30)) == [*range(7), *range(8, 22)]


def test_an_event_whose_put_meets_damage_is_kept_behind_what_could_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    first = opened(path)
    first.put([record(1), record(2)])
    first.close()
    outbox = opened(path)
    assert outbox._file is not None
    db = outbox._file._db
    (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'event_key'").fetchone()
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * page_bytes)
        file.write(b"\xff" * page_bytes)
    db.execute("PRAGMA shrink_memory")  # empties the page cache, so that the next commit reads the damaged page
    outbox.put([record(3)])
    assert (outbox.damaged, outbox.lost, outbox.fault) == (1, 0, None)
    assert numbers(outbox.pending(9)) == [1, 2, 3]
    outbox.close()
    assert numbers(opened(path).pending(9)) == [1, 2, 3]


def test_what_was_acknowledged_when_the_file_was_damaged_is_not_counted_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = opened(path)
    outbox.put([record(number) for number in range(1, 6)])
    outbox._removed.update({entry.key: entry for entry in outbox.pending(2)})  # acknowledged, still in the file
    outbox._damage = sqlite3.DatabaseError("damaged")
    outbox._recover()
    assert outbox.lost == 0
    outbox.close()
    assert numbers(opened(path).pending(9)) == [3, 4, 5]


@pytest.mark.soak
@settings(max_examples=500 if os.environ.get("EDGE_SSER_SOAK") == "1" else 40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spots=st.integers(1, 40), cut=st.booleans())
def test_whatever_happens_to_the_file_only_what_was_put_comes_out_in_order(seed: int, spots: int, cut: bool) -> None:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "outbox.db"
        outbox = opened(path)
        outbox.put([record(number, f"topic{number % 3}") for number in range(40)])
        outbox.remove(outbox.pending(5))
        outbox.close()
        content = bytearray(path.read_bytes())
        for _ in range(spots):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content[: chance.randrange(len(content))] if cut else content)
        put = {record(number, f"topic{number % 3}") for number in range(42)}
        outbox = opened(path)
        outbox.put([record(40, "topic1"), record(41, "topic2")])
        for _ in range(3):  # every look may meet new damage
            outbox.pending(100)
        entries = outbox.pending(100)
        assert {entry.record for entry in entries} <= put
        assert numbers(entries)[-2:] == [40, 41]
        assert len({entry.key for entry in entries}) == len(entries)
        assert outbox.fault is None
        outbox.close()


@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("put"), st.integers(1, 5)),
            st.tuples(st.just("ack"), st.integers(1, 5)),
            st.tuples(st.just("restart"), st.just(0)),
        ),
        max_size=20,
    )
)
def test_it_is_a_queue_whatever_the_order_of_puts_acknowledgements_and_restarts(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "outbox.db"
        outbox, model, count = opened(path), list[int](), 0
        for step, amount in steps:
            if step == "put":
                outbox.put([record(count + extra) for extra in range(amount)])
                model += range(count, count + amount)
                count += amount
            elif step == "ack":
                outbox.remove(outbox.pending(amount))
                del model[:amount]
            else:
                outbox.close()
                outbox = opened(path)
            assert numbers(outbox.pending(1000)) == model
            assert outbox.depth == len(model)
            assert outbox.size_bytes == sum(entry.size_bytes for entry in outbox.pending(1000))
        assert [entry.seq for entry in outbox.pending(1000)] == [number + 1 for number in model]
        outbox.close()


HERE, THERE = "here:1883 (node cab12)", "there:1883 (node cab12)"


def of(destination: str, path: Path) -> Outbox:
    return Outbox(path, max_bytes=ROOM, destination=destination, clock=Clock())


def test_events_for_another_broker_are_kept_until_it_is_named_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "outbox.db"
    first = of(HERE, path)
    first.put([record(1), record(2)])
    first.close()
    second = of(THERE, path)
    assert (second.depth, second.pending(10), second.fault) == (0, [], None)
    assert f"2 events wait for {HERE}, and are not sent to {THERE}" in caplog.text
    second.put([record(3)])
    assert [entry.seq for entry in second.pending(10)] == [1]  # a stream of its own, so that no number seems left out
    assert second.waiting == f"outbox {path}: 1 event waits for {THERE}"
    second.close()
    third = of(HERE, path)
    assert numbers(third.pending(10)) == [1, 2]
    third.remove(third.pending(10))
    third.close()
    caplog.clear()
    fourth = of(THERE, path)
    assert numbers(fourth.pending(10)) == [3]
    fourth.remove(fourth.pending(10))
    fourth.close()
    assert "not sent" not in caplog.text  # nothing waited, so nothing was kept
    assert sorted(file.name for file in tmp_path.iterdir()) == ["outbox.db", "outbox.mark"]


def test_an_outbox_that_names_no_broker_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    old = opened(path)
    old.put([record(1)])
    old.close()
    assert numbers(of(HERE, path).pending(10)) == [1]


def test_a_damaged_outbox_still_knows_its_broker(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    first = of(HERE, path)
    first.put([record(number) for number in range(1, 6)])
    first.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE event SET crc = crc + 1 WHERE n = 1")
        db.execute("UPDATE topic SET last = -1")
        db.commit()
    second = of(THERE, path)
    assert (second.damaged, second.depth) == (1, 0)
    second.close()
    assert numbers(of(HERE, path).pending(10)) == [2, 3, 4, 5]
