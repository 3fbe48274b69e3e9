"""What the commands cost as a user meets them: whole processes, measured from outside. Linux only (/proc)."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.block import SAMPLE_RATE
from edge_sser.errors import EdgeSserError

COMMAND = (sys.executable, "-m", "edge_sser.cli")
CHUNK_SECONDS = 0.1  # of audio, as a capture program writes it into a pipe
WARM_UP_SECONDS = 6.0  # start, first window, first inference
WINDOW_SECONDS = 3.0
_POLL_SECONDS = 0.02
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class RunCost:
    """What one run of a command took.

    Attributes:
        wall_s: seconds from start to end.
        cpu_s: seconds of CPU, all threads.
        peak_mb: most resident memory, MB.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class ListenCost:
    """What `listen` takes while audio comes in real time.

    Attributes:
        cpu_share: of one core, after the warm-up.
        peak_mb: most resident memory, MB.
        first_reading_s: from the third second of audio to the first reading, the program's start included.
    """

    cpu_share: float
    peak_mb: float
    first_reading_s: float


def run_cost(*arguments: str) -> RunCost:
    """Runs a command to its end.

    Raises:
        EdgeSserError: it failed.
    """
    begun = time.monotonic()
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak_mb = 0.0
    # Its end is waited for without reaping it, so that its CPU time can still be read.
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        peak_mb = max(peak_mb, _peak_mb(process.pid))
        time.sleep(_POLL_SECONDS)
    wall_s, cpu_s = time.monotonic() - begun, cpu_seconds(process.pid)
    _, said = process.communicate()
    _refuse_failure(process, arguments, said)
    return RunCost(wall_s, cpu_s, peak_mb)


def median_wall_s(*arguments: str, runs: int) -> float:
    """Seconds from start to end, the median of several runs."""
    return statistics.median(run_cost(*arguments).wall_s for _ in range(runs))


def listen_cost(samples: NDArray[np.float32], *, model: Path, seconds: float) -> ListenCost:
    """Runs `listen` on audio that is piped in as time passes.

    Args:
        samples: float32 [n], 16 kHz mono; repeated as often as needed.
        model: the model file.
        seconds: of audio to measure over, after the warm-up.
    """
    arguments = ("listen", "--source", "-", "--format", "jsonl", "--model", str(model))
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    begun = time.monotonic()
    first_reading: list[float] = []
    reader = threading.Thread(target=_note_first_reading, args=(process, first_reading), daemon=True)
    reader.start()
    assert process.stdin is not None
    warm: tuple[float, float] | None = None
    for index, chunk in enumerate(_chunks(samples, WARM_UP_SECONDS + seconds)):
        # A capture program hands on a chunk when its last sample has been spoken.
        time.sleep(max(0.0, begun + (index + 1) * CHUNK_SECONDS - time.monotonic()))
        if warm is None and index * CHUNK_SECONDS >= WARM_UP_SECONDS:
            warm = time.monotonic(), cpu_seconds(process.pid)
        try:
            process.stdin.write(chunk)
            process.stdin.flush()
        except BrokenPipeError:
            break
    cpu_s, peak_mb, now = cpu_seconds(process.pid), _peak_mb(process.pid), time.monotonic()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.wait()
    reader.join()
    _refuse_failure(process, arguments, said)
    if warm is None or not first_reading:
        raise EdgeSserError("listen gave no reading: run the benchmark again on an idle machine")
    share = (cpu_s - warm[1]) / (now - warm[0])
    return ListenCost(share, peak_mb, first_reading[0] - (begun + WINDOW_SECONDS))


def _chunks(samples: NDArray[np.float32], seconds: float) -> Iterator[bytes]:
    size = round(CHUNK_SECONDS * SAMPLE_RATE)
    pcm = np.clip(samples * 32_768.0, -32_768, 32_767).astype("<i2")
    for index in range(round(seconds / CHUNK_SECONDS)):
        yield np.take(pcm, range(index * size, (index + 1) * size), mode="wrap").tobytes()


def _note_first_reading(process: subprocess.Popen[bytes], found: list[float]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if not found and b'"type":"reading"' in line:
            found.append(time.monotonic())


def _refuse_failure(process: subprocess.Popen[bytes], arguments: tuple[str, ...], said: bytes) -> None:
    if process.returncode != 0:
        last = said.decode(errors="replace").strip().splitlines()[-1:] or ["nothing was said"]
        raise EdgeSserError(f"edge-sser {' '.join(arguments)} failed: {last[0]}")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system, with a resolution of one clock tick (10 ms)."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_PER_SECOND


def _peak_mb(pid: int) -> float:
    """Most resident memory so far, MB; 0 once the process has ended. What `wait` reports counts the parent's too."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
