"""Wall time, CPU time and memory of whole commands, measured from outside. Linux only (/proc).

usage: python benchmarks/processes.py [MODEL] [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.bench import Figure, demo_samples, figure_table, measure_hop_ms, this_machine
from edge_sser.errors import EdgeSserError
from edge_sser.model.model import Model
from edge_sser.settings.schema import Settings

COMMAND = (sys.executable, "-m", "edge_sser.cli")
HUBERT = Path(__file__).with_name("hubert_base.py")
CHUNK_SECONDS = 0.1  # of audio, as a capture program writes it into a pipe
WARM_UP_SECONDS = 6.0  # start, first window, first inference
WINDOW_SECONDS = 3.0
LISTEN_SECONDS = 30.0
HELP_RUNS = 7
_POLL_SECONDS = 0.02
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class RunCost:
    """Cost of one run of a command.

    Attributes:
        wall_s: seconds from start to end.
        cpu_s: seconds of CPU, all threads.
        peak_mb: peak of resident memory, MB.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


@dataclass(frozen=True, slots=True)
class ListenCost:
    """Cost of `listen` while audio comes in real time.

    Attributes:
        cpu_share: share of one core, after the warm-up.
        peak_mb: peak of resident memory, MB.
        first_reading_s: from the third second of audio to the first reading, the program's start included.
        written_at: times at which each `CHUNK_SECONDS` of audio were written, monotonic seconds.
    """

    cpu_share: float
    peak_mb: float
    first_reading_s: float
    written_at: tuple[float, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = benchmark_parser("Cost of whole commands, measured from outside.")
    parser.add_argument("--quick", action="store_true", help="leave out the figures that take minutes")
    options = parser.parse_args(arguments)
    write_figures(process_figures(Model.load(options.model), quick=options.quick), options.json)


def benchmark_parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser with the options of all benchmarks of a model."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", type=Path, nargs="?", help="model file; the one that ships")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and figures here, too")
    return parser


def write_figures(figures: Sequence[Figure], path: Path | None) -> None:
    """Prints figures, and writes them as JSON when a path is given."""
    print(figure_table(figures))
    if path is not None:
        report = {"machine": this_machine(), "figures": [asdict(figure) for figure in figures]}
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def process_figures(model: Model, *, quick: bool) -> list[Figure]:
    """Measures the commands with a model; `quick` leaves out the figures that take minutes.

    Raises:
        EdgeSserError: a command failed.
    """
    samples = demo_samples()
    hop_ms = measure_hop_ms(model, Settings(), samples)
    figures = [*hubert_figures(hop_ms), Figure("edge-sser --help", median_wall_s("--help", runs=HELP_RUNS), "s")]
    lengths = {"4 s": 4.0, "1 minute": 60.0} if quick else {"4 s": 4.0, "10 minutes": 600.0, "1 hour": 3600.0}
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in lengths.items():
            recording = Path(folder) / "recording.flac"
            _write_repeated(recording, samples, seconds=seconds)
            cost = run_cost("analyze", str(recording), "--model", str(model.path))
            figures += [
                Figure(f"{name} through analyze", cost.wall_s, "s"),
                Figure(f"{name} through analyze", cost.cpu_s, "s of CPU"),
                Figure(f"{name} through analyze, memory", cost.peak_mb, "MB"),
            ]
    if quick:
        return figures
    silence = np.zeros(SAMPLE_RATE, dtype=np.float32)
    for name, sound in {"silence": silence, "speech": samples}.items():
        listening = listen_cost(sound, model=model.path, seconds=LISTEN_SECONDS)
        figures += [
            Figure(f"listen on {name}", 100.0 * listening.cpu_share, "% of a core"),
            Figure(f"listen on {name}, memory", listening.peak_mb, "MB"),
            Figure(f"listen on {name}, first reading after the third second", listening.first_reading_s, "s"),
        ]
    return figures


def hubert_figures(hop_ms: float) -> list[Figure]:
    """Compares a hop with one pass of HuBERT-base."""
    name, unit = "HuBERT-base, one pass over 3 s", "ms of CPU"
    done = subprocess.run([sys.executable, str(HUBERT)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [Figure(name, None, unit, 'it needs transformers: pip install ".[train,teacher]"')]
    hubert_ms = 1000.0 * float(json.loads(done.stdout)["cpu_seconds"])
    return [Figure(name, hubert_ms, unit), Figure("a hop is cheaper than HuBERT-base", hubert_ms / hop_ms, "times")]


def run_cost(*arguments: str) -> RunCost:
    """Runs a command to its end.

    Raises:
        EdgeSserError: the command failed.
    """
    start = time.monotonic()
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak_mb = 0.0
    # WNOWAIT does not reap the process, so that its CPU time can be read after its end.
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        peak_mb = max(peak_mb, _peak_mb(process.pid))
        time.sleep(_POLL_SECONDS)
    wall_s, cpu_s = time.monotonic() - start, cpu_seconds(process.pid)
    _, stderr = process.communicate()
    _raise_on_failure(process, arguments, stderr)
    return RunCost(wall_s, cpu_s, peak_mb)


def median_wall_s(*arguments: str, runs: int) -> float:
    """Returns the seconds from start to end, the median of several runs."""
    return statistics.median(run_cost(*arguments).wall_s for _ in range(runs))


class ListenProcess:
    """Process of `listen`, with the times of its output.

    Attributes:
        lines: arrival of each line of its standard output, monotonic seconds, and the line.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Starts the process. `environment` has all its variables; None for those of this process."""
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
        """Lines that are readings."""
        return [(moment, line) for moment, line in self.lines if b'"type":"reading"' in line]

    def wait_until_open(self) -> None:
        """Waits until the sources are open, or the process has ended."""
        while not self.lines and self._process.poll() is None:
            time.sleep(_POLL_SECONDS)

    def cost(
        self, samples: NDArray[np.float32], *, seconds: float, write: Callable[[bytes], object] | None = None
    ) -> ListenCost:
        """Feeds audio in real time, and then ends the process.

        Args:
            samples: float32 [n], 16 kHz mono; repeated as often as needed.
            seconds: seconds of audio to measure over, after the warm-up.
            write: takes 16-bit PCM for a microphone; None to write to standard input.

        Raises:
            EdgeSserError: the process failed, or gave no reading.
        """
        written_at: list[float] = []
        warm: tuple[float, float] | None = None
        with contextlib.suppress(BrokenPipeError):
            for moment in _feed(samples, WARM_UP_SECONDS + seconds, write or self._write):
                written_at.append(moment)
                if warm is None and len(written_at) * CHUNK_SECONDS >= WARM_UP_SECONDS:
                    warm = time.monotonic(), cpu_seconds(self._process.pid)
        cpu_s, peak_mb, now = cpu_seconds(self._process.pid), _peak_mb(self._process.pid), time.monotonic()
        self._end(by_signal=write is not None)
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
        stderr = self._process.stderr.read()
        self._process.wait()
        self._reader.join()
        _raise_on_failure(self._process, self._arguments, stderr)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append((time.monotonic(), line))


def listen_cost(samples: NDArray[np.float32], *, model: Path, seconds: float) -> ListenCost:
    """Runs `listen` on audio that is piped in in real time; see `ListenProcess.cost`."""
    return ListenProcess("--source", "-", "--model", str(model)).cost(samples, seconds=seconds)


def _feed(samples: NDArray[np.float32], seconds: float, write: Callable[[bytes], object]) -> Iterator[float]:
    """Writes each chunk of audio when its last sample is due, as a capture program does. Yields the times."""
    start = time.monotonic()
    for index, chunk in enumerate(_chunks(samples, seconds)):
        time.sleep(max(0.0, start + (index + 1) * CHUNK_SECONDS - time.monotonic()))
        moment = time.monotonic()
        write(chunk)
        yield moment


def _chunks(samples: NDArray[np.float32], seconds: float) -> Iterator[bytes]:
    size = round(CHUNK_SECONDS * SAMPLE_RATE)
    pcm = np.clip(samples * 32_768.0, -32_768, 32_767).astype("<i2")
    for index in range(round(seconds / CHUNK_SECONDS)):
        yield np.take(pcm, range(index * size, (index + 1) * size), mode="wrap").tobytes()


def _write_repeated(path: Path, samples: NDArray[np.float32], *, seconds: float) -> None:
    """Writes a recording that repeats the samples."""
    left = round(seconds * SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE, channels=1, format="FLAC") as file:
        while left > 0:
            file.write(samples[:left])
            left -= samples.size


def _raise_on_failure(process: subprocess.Popen[bytes], arguments: tuple[str, ...], stderr: bytes) -> None:
    if process.returncode != 0:
        last = stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise EdgeSserError(f"edge-sser {' '.join(arguments)} failed: {last[0]}")


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process so far, user and system, with a resolution of one clock tick (10 ms)."""
    after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_PER_SECOND


def _peak_mb(pid: int) -> float:
    """Returns the peak of resident memory, MB; 0 once the process has ended. That of `wait` counts the parent's too."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


if __name__ == "__main__":
    main()
