"""What the commands cost as a user meets them: whole processes, measured from outside. Linux only (/proc)."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
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
        written_at: when each `CHUNK_SECONDS` of audio were written, monotonic seconds.
    """

    cpu_share: float
    peak_mb: float
    first_reading_s: float
    written_at: tuple[float, ...]


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


class ListenProcess:
    """`listen` as a process of its own, and the moments at which it said something.

    Attributes:
        lines: when each line of its standard output came, monotonic seconds, and the line.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Starts it.

        Args:
            arguments: of `listen`.
            environment: all its variables; those of this process when not given.
        """
        self.lines: list[tuple[float, bytes]] = []
        self._arguments = ("listen", "--format", "jsonl", *arguments)
        self._process = subprocess.Popen(
            [*COMMAND, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def readings(self) -> list[tuple[float, bytes]]:
        """The lines that are readings."""
        return [(moment, line) for moment, line in self.lines if b'"type":"reading"' in line]

    def wait_until_open(self) -> None:
        """Waits until its sources are open, or it has ended."""
        while not self.lines and self._process.poll() is None:
            time.sleep(_POLL_SECONDS)

    def cost(
        self, samples: NDArray[np.float32], *, seconds: float, into: Callable[[bytes], object] | None = None
    ) -> ListenCost:
        """Speaks to it as time passes, and then ends it.

        Args:
            samples: float32 [n], 16 kHz mono; repeated as often as needed.
            seconds: of audio to measure over, after the warm-up.
            into: takes 16 bit PCM, of a microphone that it listens to; its standard input when not given.

        Raises:
            EdgeSserError: it failed, or gave no reading.
        """
        written_at: list[float] = []
        warm: tuple[float, float] | None = None
        with contextlib.suppress(BrokenPipeError):
            for moment in _feed(samples, WARM_UP_SECONDS + seconds, into or self._write):
                written_at.append(moment)
                if warm is None and len(written_at) * CHUNK_SECONDS >= WARM_UP_SECONDS:
                    warm = time.monotonic(), cpu_seconds(self._process.pid)
        cpu_s, peak_mb, now = cpu_seconds(self._process.pid), _peak_mb(self._process.pid), time.monotonic()
        self._end(by_signal=into is not None)
        if warm is None or not self.readings:
            raise EdgeSserError("listen gave no reading: run the benchmark again on an idle machine")
        share = (cpu_s - warm[1]) / (now - warm[0])
        third_second = written_at[round(WINDOW_SECONDS / CHUNK_SECONDS) - 1]
        return ListenCost(share, peak_mb, self.readings[0][0] - third_second, tuple(written_at))

    def _write(self, pcm: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(pcm)
        self._process.stdin.flush()

    def _end(self, *, by_signal: bool) -> None:
        if by_signal:
            self._process.terminate()
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        assert self._process.stderr is not None
        said = self._process.stderr.read()
        self._process.wait()
        self._reader.join()
        _refuse_failure(self._process, self._arguments, said)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line))


def listen_cost(samples: NDArray[np.float32], *, model: Path, seconds: float) -> ListenCost:
    """Runs `listen` on audio that is piped in as time passes.

    Args:
        samples: float32 [n], 16 kHz mono; repeated as often as needed.
        model: the model file.
        seconds: of audio to measure over, after the warm-up.
    """
    return ListenProcess("--source", "-", "--model", str(model)).cost(samples, seconds=seconds)


def _feed(samples: NDArray[np.float32], seconds: float, write: Callable[[bytes], object]) -> Iterator[float]:
    """Writes audio as a capture program does: a chunk once its last sample has been spoken. Yields when that was."""
    begun = time.monotonic()
    for index, chunk in enumerate(_chunks(samples, seconds)):
        time.sleep(max(0.0, begun + (index + 1) * CHUNK_SECONDS - time.monotonic()))
        moment = time.monotonic()
        write(chunk)
        yield moment


def _chunks(samples: NDArray[np.float32], seconds: float) -> Iterator[bytes]:
    size = round(CHUNK_SECONDS * SAMPLE_RATE)
    pcm = np.clip(samples * 32_768.0, -32_768, 32_767).astype("<i2")
    for index in range(round(seconds / CHUNK_SECONDS)):
        yield np.take(pcm, range(index * size, (index + 1) * size), mode="wrap").tobytes()


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
