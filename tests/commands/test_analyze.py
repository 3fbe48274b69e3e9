"""`edge-sser analyze` from end to end."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from components import require

from edge_sser.events import Reading

COMMAND = [sys.executable, "-m", "edge_sser.cli"]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))


def test_listening_to_a_recording_gives_the_same_bytes_as_analysing_it(call, speech, model, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("[rolling]\nelevated = 0.1\n")  # the toy model is soon undecided, and never sure
    heard = call("listen", "--no-pace", "--source", speech, "--model", model, "--format", "jsonl", "--config", config)
    analysed = call("analyze", speech, "--model", model, "--config", config)
    assert (analysed.status, analysed.err) == (0, "")
    lines = [line for line in heard.out.splitlines() if line.startswith(('{"type":"reading"', '{"type":"episode"'))]
    assert analysed.out.splitlines() == lines
    assert analysed.of_type("episode")
    assert analysed.of_type("reading", "episode") == analysed.events


def test_several_processes_give_the_same_bytes_in_the_order_of_the_files(call, run, speech, write_audio, model):
    files = [write_audio(noise(4, seed), f"noise-{seed}.wav") for seed in range(4)]
    arguments = ["analyze", files[0], speech, *files[1:], "--model", model]
    one = call(*arguments)
    assert one.status == 0
    sources = [reading["source"] for reading in one.of_type("reading")]
    assert list(dict.fromkeys(sources)) == ["noise-0", "demo", "noise-1", "noise-2", "noise-3"]
    several = run(*arguments, "--jobs", 3)
    assert (several.status, several.err) == (0, "")
    assert several.out == one.out


def test_files_of_one_name_in_different_folders_are_told_apart(call, tmp_path, write_audio, model):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = [write_audio(noise(3), "a/talk.wav"), write_audio(noise(3), "b/talk.wav")]
    result = call("analyze", *files, "--model", model)
    assert [reading["source"] for reading in result.of_type("reading")] == ["talk", "talk-2"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_fails_does_not_stop_the_others(call, run, tmp_path, write_audio, model, jobs):
    good = [write_audio(noise(3, seed), f"good-{seed}.wav") for seed in range(2)]
    start = call if jobs == 1 else run
    result = start("analyze", good[0], tmp_path / "missing.wav", good[1], "--model", model, "--jobs", jobs)
    result.refuses(1, "missing.wav", "does not exist")
    assert [reading["source"] for reading in result.of_type("reading")] == ["good-0", "good-1"]


def test_csv_has_a_column_for_each_field_of_a_reading(call, speech, model):
    rows = list(csv.DictReader(io.StringIO(call("analyze", speech, "--model", model, "--format", "csv").out)))
    readings = call("analyze", speech, "--model", model).of_type("reading")
    assert list(rows[0]) == [*(field.name for field in fields(Reading)), "file"]
    assert len(rows) == len(readings)
    for row, reading in zip(rows, readings, strict=True):
        assert row["id"] == reading["id"]
        assert row["stress"] == ("" if reading["stress"] is None else str(reading["stress"]))
        assert row["clipped"] == str(reading["clipped"]).lower()


def test_a_channel_can_be_chosen(call, write_audio, model):
    path = write_audio(np.stack([noise(3), np.zeros(48_000)], axis=1))
    levels = [
        call("analyze", path, "--model", model, *channel).of_type("reading")[0]["dbfs"]
        for channel in ([], ["--channel", 0], ["--channel", 1])
    ]
    assert levels[1] == pytest.approx(levels[0] + 6.0, abs=0.2)
    assert levels[2] == -120.0
    call("analyze", path, "--model", model, "--channel", 2).refuses(1, "no channel 2")


def test_a_plot_is_drawn_for_each_recording(call, tmp_path, speech, write_audio, model):
    require(importlib.util.find_spec("matplotlib") is not None, 'matplotlib not found: pip install "edge-sser[plot]"')
    picture = tmp_path / "out.png"
    result = call("analyze", speech, "--model", model, "--plot", picture)
    assert (result.status, result.err) == (0, f"edge-sser: plot: {picture}\n")
    assert (
        f"plot      {picture}" in call("analyze", speech, "--format", "text", "--model", model, "--plot", picture).out
    )
    assert picture.read_bytes().startswith(b"\x89PNG")
    several = [speech, write_audio(noise(4), "other.wav")]
    assert call("analyze", *several, "--model", model, "--plot", tmp_path / "all.png").status == 0
    assert (tmp_path / "all-demo.png").exists()
    assert (tmp_path / "all-other.png").exists()


def test_a_plot_that_cannot_be_drawn_is_refused_before_the_analysis(call, tmp_path, speech, model, monkeypatch):
    call("analyze", speech, "--model", model, "--plot", tmp_path / "out.txt").refuses(2, "out.txt", ".png")
    call("analyze", speech, "--model", model, "--plot", tmp_path / "no" / "out.png").refuses(1, "no folder")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    call("analyze", speech, "--model", model, "--plot", tmp_path / "out.png").refuses(
        1, 'pip install "edge-sser[plot]"'
    )


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_output_pipe_that_closes_ends_it_with_one_line(speech, model, jobs):
    process = subprocess.Popen(
        [*COMMAND, "analyze", *[speech] * 40, "--model", model, "--jobs", str(jobs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    (line,) = errors.splitlines()
    assert "standard output was closed by its reader" in line


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_it_quietly_and_leaves_no_process_behind(speech, model, jobs):
    process = subprocess.Popen(
        [*COMMAND, "analyze", *[speech] * 400, "--model", model, "--jobs", str(jobs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, b"")
    deadline = time.monotonic() + 30.0  # the helper of multiprocessing ends a moment after the last of its users
    while running := _running_in_session(process.pid):
        assert time.monotonic() < deadline, running
        time.sleep(0.05)


def test_ctrl_c_reaches_no_process_that_it_has_just_started(speech, model):
    process = subprocess.Popen(
        [*COMMAND, "analyze", *[speech] * 8, "--model", model, "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 30.0
    while not (workers := _workers(process.pid)):
        assert time.monotonic() < deadline
    for worker in workers:
        os.kill(worker, signal.SIGINT)  # in the midst of its imports
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, b"")
    assert b'"source":"demo-8"' in out


def _workers(parent: int) -> list[int]:
    """The processes of a run that analyse its recordings."""
    found = []
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        children: list[str] = []
        with contextlib.suppress(OSError):  # the thread has just ended
            children = path.read_text().split()
        for child in map(int, children):
            with contextlib.suppress(OSError):
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.append(child)
    return found


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_of_several_jobs_leaves_no_process_behind(speech, model, ending, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [*COMMAND, "analyze", *[speech] * 400, "--model", model, "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    process.stdout.readline()
    process.send_signal(ending)
    _, errors = process.communicate(timeout=60)
    if ending is signal.SIGTERM:
        assert (process.returncode, len(errors.splitlines())) == (1, 1)
        assert b"ended by SIGTERM" in errors
        assert list(temporary.iterdir()) == []
    deadline = time.monotonic() + 30.0
    while running := _running_in_session(process.pid):
        assert time.monotonic() < deadline, running
        time.sleep(0.05)


def _running_in_session(session: int) -> list[str]:
    """State and parent of each process of a session that still runs, from /proc/PID/stat."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields_after_name = path.read_text().rpartition(")")[2].split()
            if int(fields_after_name[3]) == session and fields_after_name[0] not in "ZX":
                found.append(f"{path}: {fields_after_name[:3]}")
    return found


def test_a_progress_bar_is_shown_on_a_terminal_and_nowhere_else(speech, model, call):
    mine, its = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "analyze", speech, "--model", model],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=its,
    )
    os.close(its)
    shown = b""
    try:
        while part := os.read(mine, 65_536):
            shown += part
    except OSError:  # Linux says EIO when the last writer has gone
        pass
    os.close(mine)
    assert process.wait(timeout=60) == 0
    assert b"100%" in shown
    assert call("analyze", speech, "--model", model).err == ""
