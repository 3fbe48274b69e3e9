"""The history file: what the writer keeps, what its reader returns, and what a kill, damage or another program does."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from history_days import DAY, write_days
from mqtt_rig import NODE, episode, health, reading

from edge_sser.errors import HistoryError
from edge_sser.events import Event, HealthState, Level, Phase, timestamp, to_line
from edge_sser.history import summary
from edge_sser.history.live import STALE_SECONDS, LiveFile, live_path, read_live
from edge_sser.history.reader import HistoryReader
from edge_sser.history.schema import DamagedHistoryError
from edge_sser.history.writer import HistoryWriter

MINUTE = 1_767_323_040  # start of the minute that the readings of the rig begin in, at its sixth second


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite"


@pytest.fixture
def writer(path: Path) -> Iterator[HistoryWriter]:
    writer = HistoryWriter(path, live=path.with_name("live.json"), readings=True)
    yield writer
    writer.close()


def add(writer: HistoryWriter, *events: Event) -> list[bool]:
    return [writer.add(event, to_line(event)) for event in events]


def test_readings_become_minutes(writer: HistoryWriter, path: Path) -> None:
    spoken = [replace(reading(number), stress_rolling=0.01 * number) for number in range(30)]
    silent = [replace(reading(number), stress=None, speech_ratio=0.0, level=Level.HIGH) for number in range(30, 54)]
    silent_minute = [replace(reading(number), stress=None, speech_ratio=0.0) for number in range(60, 70)]
    assert not any(add(writer, *spoken, *silent, *silent_minute))
    writer.commit()
    reader = HistoryReader(path)
    first, second = reader.minutes(MINUTE, MINUTE + 120)
    assert (first.minute, first.readings, first.level) == (
        MINUTE,
        54,
        Level.ELEVATED,
    )  # a level stands still in silence
    assert first.speech == pytest.approx(30 * 0.74 / 54, abs=1e-3)
    assert first.mean == pytest.approx(0.145, abs=1e-3)
    assert first.max == pytest.approx(0.29)
    assert (second.minute, second.readings, second.speech) == (MINUTE + 60, 10, 0.0)
    assert (second.mean, second.max, second.level) == (None, None, None)  # silence is not calm
    assert (first.seconds, first.low_s, first.elevated_s, first.high_s) == (27.0, 0.0, 15.0, 0.0)
    assert (second.seconds, second.low_s, second.elevated_s, second.high_s) == (5.0, 0.0, 0.0, 0.0)
    assert reader.readings(0, 2e9, "desk") == [to_line(event).decode() for event in (*spoken, *silent, *silent_minute)]
    assert reader.span() == (MINUTE, MINUTE + 60)


def test_two_seconds_of_high_are_no_minute(writer: HistoryWriter, path: Path) -> None:
    levels = [Level.HIGH if number < 4 else Level.LOW for number in range(120)]
    for number, level in enumerate(levels):
        add(writer, replace(reading(0), ts=timestamp(MINUTE + 0.5 * number), level=level))
    writer.commit()
    (minute,) = HistoryReader(path).minutes(0, 2e9)
    assert (minute.level, minute.seconds, minute.low_s, minute.high_s) == (Level.HIGH, 60.0, 58.0, 2.0)


def test_a_file_of_version_1_is_read_and_then_upgraded(writer: HistoryWriter, path: Path) -> None:
    writer.commit()
    writer.close()
    columns = "minute, readings, speech, mean, max, level"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("INSERT INTO sources VALUES (1, 'cab12', 'desk')")
        for name in ("seconds", "low_s", "elevated_s", "high_s"):
            db.execute(f"ALTER TABLE minutes DROP COLUMN {name}")
        db.execute(f"INSERT INTO minutes (source_id, {columns}) VALUES (1, 60, 120, 0.5, 0.9, 0.9, 'high')")
        db.execute(f"INSERT INTO minutes (source_id, {columns}) VALUES (1, 120, 60, 0.0, NULL, NULL, NULL)")
        db.execute("PRAGMA user_version = 1")
    before = HistoryReader(path).minutes(0, 2e9)
    assert [(each.seconds, each.low_s, each.high_s) for each in before] == [(60.0, 0.0, 30.0), (30.0, 0.0, 0.0)]
    again = HistoryWriter(path, live=path)
    again.add(reading(0), b"{}")
    again.commit()
    again.close()
    after = HistoryReader(path).minutes(0, 2e9)
    assert (after[:2], after[2].seconds) == (before, 0.5)


def test_a_commit_completes_the_minute_of_an_earlier_one(writer: HistoryWriter, path: Path) -> None:
    add(writer, reading(0))
    writer.commit()
    reader = HistoryReader(path)
    assert reader.minutes(0, 2e9)[0].readings == 1
    add(writer, reading(1))
    writer.commit()
    assert reader.minutes(0, 2e9)[0].readings == 2  # read while it is written


def test_an_episode_is_one_row_from_start_to_end(writer: HistoryWriter, path: Path) -> None:
    start = replace(episode(1), id="e", phase=Phase.START, ts=timestamp(1000.0), duration_s=0.0, level=Level.ELEVATED)
    assert add(writer, start) == [True]
    writer.commit()
    reader = HistoryReader(path)
    (row,) = reader.episodes(5000, 6000)  # open: it lasts
    assert (row.started, row.ended, row.duration_s) == (1000.0, None, 0.0)
    assert add(writer, replace(start, phase=Phase.UPDATE, ts=timestamp(1010.0), duration_s=9.0)) == [False]
    end = replace(start, phase=Phase.END, ts=timestamp(1050.0), duration_s=20.0, level=Level.HIGH, peak=0.9, mean=0.8)
    assert add(writer, end) == [True]
    writer.commit()
    (row,) = reader.episodes(1019, 6000, f"{NODE}/desk", Level.HIGH)
    assert (row.started, row.ended, row.level, row.peak) == (1000.0, 1020.0, Level.HIGH, 0.9)
    assert reader.episodes(1021, 6000) == reader.episodes(0, 1000) == reader.episodes(0, 6000, "door") == []


def test_an_episode_that_a_kill_left_open_ends_at_the_next_start(writer: HistoryWriter, path: Path) -> None:
    start = replace(episode(1), id="e", phase=Phase.START, ts=timestamp(1000.0), duration_s=0.0)
    add(writer, start, replace(start, phase=Phase.UPDATE, ts=timestamp(1012.0), duration_s=11.0))
    writer.commit()
    writer.close()
    again = HistoryWriter(path, live=path)
    again.commit()
    again.close()
    (row,) = HistoryReader(path).episodes(0, 2e9)
    assert (row.ended, row.duration_s) == (1011.0, 11.0)


def test_the_latest_rows_of_each_source(writer: HistoryWriter, path: Path) -> None:
    add(writer, reading(0), reading(100), reading(3, source="door"), health(HealthState.SILENT, "check the cable"))
    writer.commit()
    door, desk = sorted(HistoryReader(path).latest(), key=lambda each: each.source, reverse=True)
    assert desk.minute is not None
    assert desk.health is not None
    assert (desk.minute.minute, desk.health.state, desk.health.detail) == (
        MINUTE + 60,
        HealthState.SILENT,
        "check the cable",
    )
    assert (door.source, door.health, door.episode) == ("door", None, None)


def test_a_second_writer_is_refused(writer: HistoryWriter, path: Path) -> None:
    writer.commit()
    with pytest.raises(HistoryError, match="another edge-sser writes this history"):
        HistoryWriter(path, live=path).commit()


def test_old_rows_go_by_age_and_by_size_and_the_file_shrinks(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    today = time.time() // DAY * DAY
    write_days(path, start=today - 20 * DAY, days=21, sources=4)
    writer = HistoryWriter(path, live=path)
    reader = HistoryReader(path)
    large = os.path.getsize(path)
    writer.prune(keep_days=10, max_bytes=10**9)
    first, last = reader.span() or (0, 0)
    assert today - 10 * DAY <= first <= today - 9 * DAY
    assert last >= today
    assert min(each.started for each in reader.episodes(0, 4e9)) >= first - 60
    writer.close()  # with its log
    assert os.path.getsize(path) < 0.7 * large
    limit = os.path.getsize(path) // 2
    writer.prune(keep_days=10, max_bytes=limit)
    writer.close()
    assert os.path.getsize(path) <= limit
    assert (reader.span() or (0, 0))[1] == last  # the newest stay


def test_hours_and_days_by_the_local_clock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")  # 5.5 h from UTC
    time.tzset()
    try:
        path.parent.mkdir()
        start = summary.start_of_day(1_767_323_045)
        write_days(path, start=start, days=2, sources=2, gap=(3, 5))
        reader = HistoryReader(path)
        hours = summary.hours(reader, start, start + 2 * DAY, "source-1")
        days = summary.days(reader, start, start + 2 * DAY)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(hours) == 2 * 22
    assert all((each.start - start) % 3600 == 0 for each in hours)
    noon = next(each for each in hours if each.start == start + 12 * 3600)
    assert (noon.seconds, noon.level, noon.episodes, sum(noon.levels)) == (3600, Level.HIGH, 1, 3600)
    assert [(each.source, each.start, each.seconds, each.episodes) for each in days] == [
        ("source-1", start, 79_200, 1),
        ("source-1", start + DAY, 79_200, 1),
        ("source-2", start, 79_200, 1),
        ("source-2", start + DAY, 79_200, 1),
    ]
    night = hours[0]
    assert (night.speech, night.mean, night.level, night.levels) == (0.0, None, None, (0, 0, 0))


@pytest.mark.soak
def test_a_kill_at_any_moment_loses_nothing_that_was_committed(path: Path) -> None:
    rounds = 20 if os.environ.get("EDGE_SSER_SOAK") else 3
    done = 0
    for attempt in range(rounds):
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("history_crash_writer.py"), path, str(done + 1)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(0.05 + 0.13 * attempt)
        process.send_signal(signal.SIGKILL)
        done = max(done, *map(int, process.stdout.read().split() or [done + 1]))
        process.wait()
        reader = HistoryReader(path)
        assert {f"cab/desk/{number}" for number in range(1, done + 1)} <= {row.id for row in reader.episodes(0, 4e9)}
        assert reader.query("PRAGMA integrity_check") == [("ok",)]
        done = max(int(row.id.rpartition("/")[2]) for row in reader.episodes(0, 4e9))
        reader.close()
        copy = path.with_name(f"copy-{attempt}.sqlite")  # as a power cut leaves it, without the shared memory
        for suffix in ("", "-wal"):
            if Path(f"{path}{suffix}").exists():
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        with sqlite3.connect(copy) as db:
            assert db.execute("SELECT count(*) FROM episodes").fetchone()[0] >= done


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"my notes\n" * 100, "this is no history file"),
        ("foreign", "another program's database"),
        ("newer", "written by a newer edge-sser .version 3"),
    ],
)
def test_a_file_of_something_else_is_left_as_it_is(path: Path, content: bytes | str, message: str) -> None:
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "foreign":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE mine (x)")
        db.close()
    else:
        write_days(path, start=0, days=1)
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 3")
        db.close()
    before = path.read_bytes()
    writer = HistoryWriter(path, live=path)
    for use in (writer.commit, lambda: HistoryReader(path)):
        with pytest.raises(HistoryError, match=message):
            use()
    writer.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["nulls", "garbage", "truncated", "no table"])
def test_a_damaged_file_is_set_aside(path: Path, damage: str) -> None:
    path.parent.mkdir()
    write_days(path, start=0, days=3)
    whole = path.read_bytes()
    if damage == "nulls":
        path.write_bytes(bytes(len(whole)))
    elif damage == "garbage":
        path.write_bytes(whole[:100] + os.urandom(len(whole) - 100))
    elif damage == "truncated":
        path.write_bytes(whole[:4096])
    else:
        with sqlite3.connect(path) as db:
            db.execute("DROP TABLE episodes")
        db.close()
    damaged = path.read_bytes()
    writer = HistoryWriter(path, live=path)
    add(writer, reading(1), replace(episode(1), phase=Phase.START))
    with pytest.raises(DamagedHistoryError, match="damaged"):
        writer.commit()
    aside = writer.set_aside()
    writer.commit()  # into a new file, with the rows that waited
    writer.close()
    assert aside.read_bytes() == damaged or damage == "no table"  # which was opened before it was noticed
    assert len(HistoryReader(path).minutes(0, 2e9)) == len(HistoryReader(path).episodes(0, 2e9)) == 1


def test_a_reader_follows_a_file_that_was_replaced(path: Path, writer: HistoryWriter) -> None:
    add(writer, reading(1))
    writer.commit()
    reader = HistoryReader(path)
    writer.set_aside()
    add(writer, reading(2, source="door"))
    writer.commit()
    assert "door" in [each.source for each in reader.sources()]


def test_the_live_file_holds_the_newest_events(path: Path, tmp_path: Path) -> None:
    live = LiveFile(live_path(path, {"RUNTIME_DIRECTORY": str(tmp_path / "run")}))
    begun = replace(episode(1), phase=Phase.START)
    for event in (reading(1), health(), reading(2), begun, reading(1, source="door")):
        live.add(event, to_line(event))
    live.write(1000.0)
    content = read_live(live.path, now=1001.0)
    assert content is not None
    desk, door = content.sources
    assert desk.reading is not None
    assert desk.episode is not None
    assert (content.ts, desk.reading["id"], desk.episode["id"]) == (1000.0, reading(2).id, begun.id)
    assert (door.source, door.health, door.episode) == ("door", None, None)
    assert (os.stat(live.path).st_mode & 0o777, os.stat(live.path.parent).st_mode & 0o777) == (0o600, 0o700)
    ended = replace(begun, phase=Phase.END)
    live.add(ended, to_line(ended))
    live.write(1000.5)
    content = read_live(live.path, now=1001.0)
    assert content is not None
    assert content.sources[0].episode is None
    assert read_live(live.path, now=1001.0 + STALE_SECONDS) is None
    live.remove()
    assert read_live(live.path) is None


def test_places_of_the_live_file(path: Path) -> None:
    assert live_path(path, {"RUNTIME_DIRECTORY": "/run/edge-sser", "XDG_RUNTIME_DIR": "/run/user/7"}).parent == Path(
        "/run/edge-sser"
    )
    assert live_path(path, {"XDG_RUNTIME_DIR": "/run/user/7"}).parent == Path("/run/user/7/edge-sser")
    assert live_path(path, {}).parent == Path(f"/dev/shm/edge-sser-{os.getuid()}")
    assert live_path(path, {}) != live_path(path.with_name("other.sqlite"), {})
