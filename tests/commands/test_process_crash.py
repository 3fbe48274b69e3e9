"""Processes of `analyze --jobs` that crash: each costs one recording, never the batch."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edge_sser.commands.process_pool import process_pool, report
from edge_sser.commands.progress import Work


def noise(seconds: float, seed: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))


def double(number: int) -> int:
    return 2 * number


def end_process(number: int) -> None:
    os.kill(os.getpid(), number)


def test_only_the_calls_that_end_their_process_fail():
    with process_pool(2, "ended") as pool:
        calls = [
            pool.submit(partial(double, 1)),
            pool.submit(partial(end_process, signal.SIGSEGV)),
            pool.submit(partial(double, 2)),
            pool.submit(partial(end_process, signal.SIGKILL)),
            pool.submit(partial(double, 3)),
        ]
        results = []
        for call in calls:
            try:
                results.append(pool.result(call))
            except BrokenProcessPool:
                results.append(None)
        assert results == [2, None, 4, None, 6]
        assert pool.alone
        again = [pool.submit(partial(double, number)) for number in range(4)]
        assert not pool.alone
        assert [pool.result(call) for call in again] == [0, 2, 4, 6]


def reported(steps: int) -> int:
    for _ in range(steps):
        report(0.5)
        time.sleep(0.01)
    return steps


def test_the_owner_hears_of_work_before_a_call_is_done(monkeypatch):
    monkeypatch.setattr("edge_sser.commands.process_pool.WATCH_SECONDS", 0.02)
    heard: list[float] = []
    with process_pool(2, "ended", heard.append) as pool:
        calls = [pool.submit(partial(reported, steps)) for steps in (60, 40)]
        assert [pool.result(call) for call in calls] == [60, 40]
    assert sum(heard) == 50.0
    assert sum(part > 0.0 for part in heard) > 2  # not all at the end


def reported_then_killed(steps: int, before: Path | None = None) -> None:
    """Reports, and ends its process: at the first time, or at each where there is no file to remember it by."""
    reported(steps)
    time.sleep(0.2)
    if before is None or not before.exists():
        if before is not None:
            before.touch()
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("size", [10.0, None])
def test_work_that_a_crash_has_undone_is_not_counted_twice(monkeypatch, tmp_path, size):
    monkeypatch.setattr("edge_sser.commands.process_pool.WATCH_SECONDS", 0.02)
    heard: list[float] = []
    with process_pool(2, "ended", heard.append) as pool:
        calls = [pool.submit(partial(reported_then_killed, 20, tmp_path / "killed"), size)]
        calls += [pool.submit(partial(reported, 20), size) for _ in range(3)]
        for call in calls:
            pool.result(call)
    assert sum(heard) == 40.0
    assert max(itertools.accumulate(heard)) == 40.0


def test_a_call_counts_as_whole_when_its_result_is_in_and_as_nothing_when_it_crashes():
    heard: list[float] = []
    with process_pool(1, "ended", heard.append) as pool:
        assert pool.result(pool.submit(partial(reported, 1), 7.0)) == 1
        assert sum(heard) == 7.0
        with pytest.raises(BrokenProcessPool):
            pool.result(pool.submit(partial(reported_then_killed, 4), 3.0))
    assert sum(heard) == 7.0


def test_a_part_of_work_counts_as_whole_also_when_it_fails():
    class Sum(Work):
        total = 0.0

        def advance(self, done: float = 1.0) -> None:
            self.total += done

    work = Sum("test", 30.0)
    with contextlib.suppress(ValueError), work.part(20.0) as advance:
        advance(5.0)
        raise ValueError
    assert work.total == 20.0
    with work.part(10.0) as advance:
        advance(10.5)  # the header says a little less
    assert work.total == 30.0


@contextlib.contextmanager
def killed_when_opened(path: Path) -> Iterator[list[int]]:
    """Kills each other process that opens a file, as the kernel does when memory is short."""
    killed: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            for process in Path("/proc").glob("[0-9]*"):
                if int(process.name) not in {os.getpid(), *killed}:
                    with contextlib.suppress(OSError):
                        if any(link.readlink() == path for link in (process / "fd").iterdir()):
                            os.kill(int(process.name), signal.SIGKILL)
                            killed.append(int(process.name))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        done.set()
        thread.join()


@pytest.mark.timeout(120)
def test_a_recording_whose_process_is_killed_is_one_line_and_the_others_go_on(run, write_audio, model):
    bad = write_audio(noise(900, 0), "bad.wav")
    good = [write_audio(noise(4, seed), f"good-{seed}.wav") for seed in (1, 2, 3, 4, 5)]
    with killed_when_opened(bad) as killed:
        result = run("analyze", good[0], bad, *good[1:], "--model", model, "--jobs", 2)
    assert len(killed) == 2  # beside the others, and alone
    sources = [reading["source"] for reading in result.of_type("reading")]
    assert list(dict.fromkeys(sources)) == [f"good-{seed}" for seed in (1, 2, 3, 4, 5)]
    assert result.status == 1
    [line] = result.err.splitlines()
    assert line.startswith(f"edge-sser: error: {bad} cannot be analysed: the process that did was killed, or crashed")
