"""`edge-sser analyze FOLDER --out`: Parquet of an archive, whole after kills, on processes and on a Dask cluster."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from components import require_package
from program import COMMAND
from test_process_crash import killed_when_opened

from edge_sser.commands.archive.find import BATCH_FILES, Item, batches, find_recordings
from edge_sser.commands.archive.times import TimeRule
from edge_sser.errors import UsageError

RATE = 16_000


def write(path: Path, seconds: float, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(round(RATE * seconds)), RATE)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three batches of short recordings in two folders, one that is too short, one that is no audio, one other file."""
    folder = tmp_path / "archive"
    for number in range(3 * BATCH_FILES - 2):
        write(folder / f"day-{number % 2}" / f"unit7_202601{number % 28 + 1:02}_0930{number % 60:02}_{number}.wav", 4.0)
    write(folder / "day-0" / "short.wav", 1.0)
    (folder / "day-1" / "bad.wav").write_bytes(b"no audio")
    (folder / "notes.txt").write_text("mine")
    return folder


def summary_counts(text: str) -> dict[str, int]:
    """The first four lines of the summary."""
    lines = [line.strip() for line in text.splitlines()[:4]]
    return {name: int(re.match(r"\d+", value)[0]) for name, value in (re.split("  +", line) for line in lines)}


def tables(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of each table; each part belongs to a batch that is whole."""
    parquet = require_package("pyarrow.parquet", "archive")
    parts = {
        table: sorted(path.name for path in (out / table).iterdir()) for table in ("readings", "episodes", "files")
    }
    assert parts["readings"] == parts["episodes"] == parts["files"]
    return {
        table: [row for name in names for row in parquet.ParquetFile(out / table / name).read().to_pylist()]
        for table, names in parts.items()
    }


def check_whole(out: Path, folder: Path) -> None:
    """Every recording of the archive is there, once, with all of its readings."""
    rows = tables(out)
    paths = sorted(str(path) for path in folder.rglob("*.wav"))
    assert sorted(row["path"] for row in rows["files"]) == paths
    counts = dict.fromkeys(paths, 0)
    for row in rows["readings"]:
        counts[row["path"]] += 1
    assert counts == {row["path"]: row["readings"] for row in rows["files"]}
    assert {row["readings"] for row in rows["files"] if row["status"] == "done"} == {3}


def test_the_tables_hold_what_analyze_prints(
    call: Callable[..., Any], archive: Path, model: str, tmp_path: Path, speech: Path
) -> None:
    talk = write(archive / "talk.wav", 1.0)
    talk.unlink()
    talk.symlink_to(speech)
    out = tmp_path / "out"
    result = call("analyze", archive, "--recursive", "--out", out, "--model", model, "--times", "_%Y%m%d_%H%M%S_")
    assert result.status == 1
    total = 3 * BATCH_FILES + 1
    assert summary_counts(result.out) == {"recordings": total, "analysed now": total - 2, "done before": 0, "failed": 2}
    assert "no time of day  1: --times found none" in result.out
    assert len(result.err.splitlines()) == 2
    rows = tables(out)
    failed = {Path(row["path"]).name: row["reason"] for row in rows["files"] if row["status"] == "failed"}
    assert set(failed) == {"short.wav", "bad.wav"}
    assert "shorter than the window" in failed["short.wav"]
    assert "not audio" in failed["bad.wav"]
    events = call("analyze", talk, "--model", model)
    mine = [row for row in rows["readings"] if row["path"] == str(talk)]
    for row, event in zip(mine, events.of_type("reading"), strict=True):
        assert (row["end_s"], row["level"], row["ts"]) == (event["end_s"], event["level"], None)
        for name in ("stress", "stress_rolling", "dbfs"):
            assert row[name] == (None if event[name] is None else pytest.approx(event[name], abs=1e-4))
    ended = [event for event in events.of_type("episode") if event["phase"] == "end"]
    assert [row["peak"] for row in rows["episodes"] if row["path"] == str(talk)] == [each["peak"] for each in ended]
    timed = next(row for row in rows["files"] if row["path"].endswith("_20260101_093000_0.wav"))
    assert timed["started"].timestamp() == datetime(2026, 1, 1, 9, 30).timestamp()
    first = min(row["ts"] for row in rows["readings"] if row["path"] == timed["path"])
    assert (first - timed["started"]).total_seconds() == 3.0


def test_a_run_that_was_killed_goes_on_where_it_stopped(
    call: Callable[..., Any], archive: Path, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["analyze", str(archive), "--recursive", "--out", str(out), "--model", model]
    process = subprocess.Popen([*COMMAND, *arguments, "--jobs", "2"], stderr=subprocess.DEVNULL)
    while not (out / "files").is_dir() or not any((out / "files").glob("[!.]*.parquet")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (out / "readings" / "half.parquet").write_bytes(b"PAR1")  # as a kill between two parts leaves it
    before = {path.name: path.stat().st_mtime_ns for path in (out / "files").glob("[!.]*.parquet")}
    result = call(*arguments)
    assert result.status == 1
    assert "recordings were tried before" in result.err
    check_whole(out, archive)
    after = {path.name: path.stat().st_mtime_ns for path in (out / "files").iterdir()}
    assert before.items() <= after.items()  # nothing was done twice
    again = call(*arguments)
    total = 3 * BATCH_FILES
    assert summary_counts(again.out) == {"recordings": total, "analysed now": 0, "done before": total - 2, "failed": 2}
    assert "failed        2, 2 of them in an earlier run" in again.out
    assert again.status == 1
    call(*arguments, "--channel", "0").refuses(2, "was begun with other settings")


@pytest.mark.timeout(120)
def test_a_recording_that_ends_its_process_is_one_row(run: Callable[..., Any], model: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    for number in range(3):
        write(archive / f"{number}.wav", 4.0)
    bad = write(archive / "killer.wav", 120.0)  # open long enough for a busy machine to see it
    out = tmp_path / "out"
    with killed_when_opened(bad):
        result = run("analyze", archive, "--recursive", "--out", out, "--model", model, "--jobs", 2)
    assert result.status == 1
    rows = {row["path"]: row for row in tables(out)["files"]}
    assert "was killed, or crashed" in rows[str(bad)]["reason"]
    assert sum(row["status"] == "done" for row in rows.values()) == 3


@pytest.mark.timeout(180)
def test_workers_of_a_cluster_that_are_killed_lose_nothing(
    call: Callable[..., Any], archive: Path, model: str, tmp_path: Path
) -> None:
    distributed = require_package("distributed", "archive")
    out = tmp_path / "out"
    killed: list[int] = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:

        def kill() -> None:
            while not (out / "files").is_dir() or not any((out / "files").glob("[!.]*.parquet")):
                time.sleep(0.005)
            for worker in cluster.workers.values():
                killed.append(worker.pid)
                os.kill(worker.pid, signal.SIGKILL)

        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        address = cluster.scheduler_address
        result = call("analyze", archive, "--recursive", "--out", out, "--model", model, "--dask", address)
        thread.join(10.0)
    assert len(killed) == 2
    assert result.status == 1
    total = 3 * BATCH_FILES
    assert summary_counts(result.out) == {"recordings": total, "analysed now": total - 2, "done before": 0, "failed": 2}
    check_whole(out, archive)


def test_large_recordings_come_first_and_small_ones_together(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / "a" / f"{number}.wav", 0.1)
    large = write(tmp_path / "b" / "c" / "large.FLAC", 60.0)
    items = find_recordings([tmp_path / "a", tmp_path, large], recursive=True)
    assert len(items) == 41  # each once
    assert items[0].path == str(large)
    assert [len(batch) for batch in batches([Item("x", 2**30, 0.0), *items])] == [1, 32, 9]
    assert len(find_recordings([tmp_path / "a"], recursive=False)) == 40


def test_times_by_name_metadata_and_last_change(tmp_path: Path) -> None:
    path = tmp_path / "AM12_20260701_093005.WAV"
    found = TimeRule("%Y%m%d_%H%M%S").started(path, modified=0.0, seconds=0.0)
    assert found == datetime(2026, 7, 1, 9, 30, 5).timestamp()
    zoned = TimeRule("%Y-%m-%dT%H.%M.%S%z").started(Path("2026-07-01T09.30.05+0200.wav"), modified=0.0, seconds=0.0)
    assert zoned == datetime(2026, 7, 1, 7, 30, 5, tzinfo=timezone.utc).timestamp()
    assert TimeRule("%Y%m%d").started(Path("20269901.wav"), modified=0.0, seconds=0.0) is None
    assert TimeRule().started(path, modified=1000.0, seconds=60.0) == 940.0
    write(tmp_path / "plain.wav", 1.0)
    content = (tmp_path / "plain.wav").read_bytes()
    bext = bytearray(602)
    bext[320:338] = b"2026-07-0109:30:05"
    (tmp_path / "bwf.wav").write_bytes(content[:12] + struct.pack("<4sI", b"bext", 602) + bext + content[12:])
    rule = TimeRule("metadata")
    assert rule.started(tmp_path / "bwf.wav", modified=0.0, seconds=1.0) == datetime(2026, 7, 1, 9, 30, 5).timestamp()
    assert rule.started(tmp_path / "plain.wav", modified=0.0, seconds=1.0) is None
    with soundfile.SoundFile(tmp_path / "tag.flac", "w", RATE, 1) as file:
        file.date = "2026-07-01"
        file.write(np.zeros(RATE))
    assert rule.started(tmp_path / "tag.flac", modified=0.0, seconds=1.0) == datetime(2026, 7, 1).timestamp()
    for text in ("yesterday", "%H%M%S", "%Y%Q"):
        with pytest.raises(UsageError, match="--times"):
            TimeRule(text)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("{archive} --recursive", 2, "name a folder for the results with --out"),
        ("{archive} --out {out}", 2, "there is no recording: --recursive searches the folders in it, too"),
        ("{archive}/nowhere --out {out}", 2, "there is no such file or folder"),
        ("{archive} --recursive --out {archive}", 2, "the folder holds something else"),
        ("{archive} --recursive --out /proc/no", 1, "cannot be written"),
        ("{archive} --recursive --out {out} --format csv", 2, "--out writes Parquet"),
        ("{archive} --recursive --out {out} --plot x.png", 2, "--plot does not go with --out"),
        ("{archive} --recursive --out {out} --times noon", 2, "expected modified, metadata, or a pattern"),
        ("{archive} --recursive --out {out} --dask nobody", 2, "expected the address of a scheduler"),
    ],
)
def test_a_wrong_option_is_one_line_about_it(
    call: Callable[..., Any], archive: Path, tmp_path: Path, arguments: str, status: int, message: str
) -> None:
    call("analyze", *arguments.format(archive=archive, out=tmp_path / "out").split()).refuses(status, message)
