"""Number of CPU threads for training, chosen by a measurement at the start."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch.nn import functional as F

STEPS: Final = 3
GAIN: Final = 0.9  # of the time with fewer threads: more threads must be worth what they take from other programs


def choose_threads(asked: int | None, warn: Callable[[str], None]) -> None:
    """Sets torch's number of threads: the number asked for, or the fastest one now.

    On a machine whose cores are busy, two threads can take three times as long as one: each waits for the other.

    Args:
        asked: `--threads`; None: measure.
        warn: prints a line for a person.
    """
    threads = asked or fastest(_step_seconds(number) for number in candidates(len(os.sched_getaffinity(0))))
    torch.set_num_threads(threads)
    if asked is None:
        warn(f"threads: {threads}, the fastest here and now; --threads {threads} repeats this run")


def candidates(cores: int) -> range:
    """Returns the numbers of threads to try: 1 to the number of cores, at most 8."""
    return range(1, min(cores, 8) + 1)


def fastest(seconds: Iterator[float]) -> int:
    """Returns the number of threads to use, from 1; stops at the first number that gains less than a tenth.

    Args:
        seconds: of a step with 1, 2, 3 ... threads.
    """
    best = next(seconds)
    threads = 1
    for number, found in enumerate(seconds, start=2):
        if found > GAIN * best:
            break
        best, threads = found, number
    return threads


def _step_seconds(threads: int) -> float:
    """Returns the time of a training step of two convolutions with some threads, seconds: the best of a few."""
    torch.set_num_threads(threads)
    sound = torch.randn(64, 24, 32, 150)
    kernel = torch.randn(24, 24, 3, 3, requires_grad=True)
    best = float("inf")
    for _ in range(STEPS + 1):  # the first one warms up
        start = time.perf_counter()
        F.conv2d(F.conv2d(sound, kernel, padding=1).relu(), kernel, padding=1).sum().backward()  # type: ignore[no-untyped-call]
        best = min(best, time.perf_counter() - start)
    return best
