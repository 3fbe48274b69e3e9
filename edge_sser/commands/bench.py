"""`edge-sser bench`: CPU time and latency of a model and of a hop on this machine, as medians and ratios.

Everything is measured inside this process. benchmarks/ measures the commands from outside.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import typer
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE, AudioBlock
from edge_sser.commands.progress import Work, progress
from edge_sser.errors import UsageError
from edge_sser.events import Reading, to_json
from edge_sser.model.model import Model
from edge_sser.monitor.monitor import Monitor
from edge_sser.pipeline.features import FEATURES, LogMel
from edge_sser.pipeline.gate import speech_detector
from edge_sser.pipeline.highpass import HighPass
from edge_sser.pipeline.level import LevelMeter
from edge_sser.settings.schema import Runtime, Settings

INFERENCES = 300
WARM_UP_INFERENCES = 20
BLOCK_SAMPLES = SAMPLE_RATE // 10  # size of a microphone's blocks
THREADS = (1, 2)
BATCH_INFERENCES = {1: 200, 8: 60, 32: 30}  # timed inferences by batch size
WARM_UP_BATCHES = 5
PACKAGES = ("edge-sser", "numpy", "onnxruntime")
DOT_PRODUCT_FLAGS = {"avx512_vnni", "avx_vnni", "asimddp"}  # of CPUs with dot products of 8-bit numbers


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        value: the value; None when it could not be measured.
        remark: reason why there is no value.
    """

    name: str
    value: float | None
    unit: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Wall time of one inference.

    Attributes:
        batch: windows at once.
        median_ms: median, milliseconds a batch.
        p95_ms: 95th percentile, milliseconds a batch.
    """

    threads: int
    batch: int
    median_ms: float
    p95_ms: float


def print_bench(models: Sequence[Path], *, as_json: bool, runtime: str = "auto") -> None:
    """Measures models and prints the figures.

    Args:
        models: model files; empty for the one that ships.
        as_json: True for one JSON object instead of a table.
        runtime: name of a `Runtime`.

    Raises:
        UsageError: `runtime` is not a Runtime.
    """
    try:
        chosen = Runtime(runtime)
    except ValueError:
        raise UsageError(f"--runtime {runtime}: expected one of {', '.join(Runtime)}") from None
    samples = demo_samples()
    files: Sequence[Path | None] = models or [None]
    loaded = [Model.load(path, runtime=chosen) for path in files]
    with progress("bench: single windows", len(loaded) * (WARM_UP_INFERENCES + INFERENCES)) as work:
        figures = [figure for model in loaded for figure in _model_figures(model, samples, work)]
    by_path = measure_latencies([model.path for model in loaded], runtime=chosen)
    figures.append(Figure("memory of this process, peak", _peak_mb(), "MB"))
    providers = {model.label: model.provider for model in loaded}
    latencies = {model.label: by_path[model.path] for model in loaded}
    machine = this_machine()
    if as_json:
        report = {
            "machine": machine,
            "computed_by": providers,
            "figures": [asdict(figure) for figure in figures],
            "latencies": {label: [asdict(latency) for latency in each] for label, each in latencies.items()},
        }
        typer.echo(json.dumps(report, indent=2))
        return
    for name, text in machine.items():
        typer.echo(f"{name}: {text}")
    for label, provider in providers.items():
        typer.echo(f"{label}: computed by {provider}")
    typer.echo(f"\n{figure_table(figures)}\n\n{latency_table(latencies)}")


def figure_table(figures: Sequence[Figure]) -> str:
    """Formats figures as aligned lines."""
    width = max(len(figure.name) for figure in figures)
    lines = []
    for figure in figures:
        value = f"not measured: {figure.remark}" if figure.value is None else f"{figure.value:10.4g} {figure.unit}"
        lines.append(f"{figure.name:{width}}  {value}")
    return "\n".join(lines)


def demo_samples() -> NDArray[np.float32]:
    """Returns the demo recording, float32 [n], 16 kHz mono."""
    samples, _ = soundfile.read(str(resources.files("edge_sser") / "data" / "demo.flac"), dtype="float32")
    return np.asarray(samples, dtype=np.float32)


def _model_figures(model: Model, samples: NDArray[np.float32], work: Work) -> list[Figure]:
    windows = np.random.default_rng(0).normal(-60.0, 20.0, (8, FEATURES.frames, FEATURES.bands)).astype(np.float32)
    wall, cpu = [], []
    for index in range(WARM_UP_INFERENCES + INFERENCES):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        model.score(windows[index % len(windows)])
        cpu.append(time.process_time() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
        work.advance()
    wall, cpu = wall[WARM_UP_INFERENCES:], cpu[WARM_UP_INFERENCES:]
    settings = Settings()
    hop_ms = measure_hop_ms(model, settings, samples)
    detector = speech_detector(settings.gate)
    stages_ms = {
        "high-pass": _stage_ms(HighPass().push, settings, samples),
        "speech gate": _stage_ms(lambda hop: detector.ratio(hop, windows[0], 0.0), settings, samples),
        "log-mel": _stage_ms(LogMel().push, settings, samples),
        "level meter": _stage_ms(LevelMeter().push, settings, samples),
        "model": 1000.0 * statistics.median(cpu),
    }
    rest_ms = hop_ms - sum(stages_ms.values())
    figures = [
        Figure("one inference, median", 1000.0 * statistics.median(wall), "ms"),
        Figure("one inference, 95th percentile", 1000.0 * statistics.quantiles(wall, n=20)[-1], "ms"),
        Figure("one whole hop of speech", hop_ms, "ms of CPU"),
        *(Figure(f"  {stage}", cost_ms, "ms of CPU") for stage, cost_ms in stages_ms.items()),
        Figure("  windows, rolling, events", rest_ms, "ms of CPU"),
        Figure("streams per core, all speaking", 1000.0 * settings.window.hop_seconds / hop_ms, ""),
    ]
    return [replace(figure, name=f"{model.label}: {figure.name}") for figure in figures]


def _hops(samples: NDArray[np.float32], settings: Settings) -> Iterator[NDArray[np.float32]]:
    """Yields the samples of each hop."""
    hop = round(settings.window.hop_seconds * SAMPLE_RATE)
    for start in range(0, samples.size - hop + 1, hop):
        yield samples[start : start + hop]


def _stage_ms(push: Callable[[NDArray[np.float32]], Any], settings: Settings, samples: NDArray[np.float32]) -> float:
    """Returns the CPU time of one stage for a hop, milliseconds, as a median."""
    seconds = []
    for hop in _hops(samples, settings):
        start = time.process_time()
        push(hop)
        seconds.append(time.process_time() - start)
    return 1000.0 * statistics.median(seconds)


def measure_hop_ms(model: Model, settings: Settings, samples: NDArray[np.float32]) -> float:
    """Returns the CPU time of a hop that completes a scored window, milliseconds, as a median.

    The samples are speech, float32 [n], 16 kHz mono.
    """
    monitor = Monitor(node="bench", source_name="demo", started_at=0.0, live=True, model=model, settings=settings)
    seconds = []
    for hop in _hops(samples, settings):
        blocks = [AudioBlock(hop[at : at + BLOCK_SAMPLES]) for at in range(0, hop.size, BLOCK_SAMPLES)]
        start = time.process_time()
        events = [event for block in blocks for event in monitor.push(block)]
        for event in events:
            to_json(event)
        duration = time.process_time() - start
        if any(isinstance(event, Reading) and event.stress is not None for event in events):
            seconds.append(duration)
    return 1000.0 * statistics.median(seconds)


def measure_latencies(
    paths: Sequence[Path],
    *,
    runtime: Runtime = Runtime.CPU,
    threads: Sequence[int] = THREADS,
    inferences: Mapping[int, int] | None = None,
) -> dict[Path, list[Latency]]:
    """Times model files in turn, so that other work of the machine affects all of them alike.

    Args:
        paths: model files.
        runtime: runtime that computes them.
        threads: numbers of threads to time with.
        inferences: inferences by batch size; None for BATCH_INFERENCES.
    """
    counts = BATCH_INFERENCES if inferences is None else inferences
    out: dict[Path, list[Latency]] = {path: [] for path in paths}
    total = len(threads) * sum(batch * (WARM_UP_BATCHES + repetitions) for batch, repetitions in counts.items())
    with progress("bench: whole batches", total) as work:
        _time_batches(out, threads, counts, runtime, work)
    return out


def _time_batches(
    out: dict[Path, list[Latency]], threads: Sequence[int], counts: Mapping[int, int], runtime: Runtime, work: Work
) -> None:
    """Adds the latencies of all files in `out`; one step of the work is a window of each."""
    random = np.random.default_rng(0)
    for count in threads:
        models = {path: Model.load(path, runtime=runtime, threads=count) for path in out}
        for batch, repetitions in counts.items():
            windows = random.normal(-60.0, 20.0, (batch, FEATURES.frames, FEATURES.bands)).astype(np.float32)
            durations_ms: dict[Path, list[float]] = {path: [] for path in out}
            for _ in range(WARM_UP_BATCHES + repetitions):
                for path, model in models.items():
                    start = time.perf_counter()
                    model.logits(windows)
                    durations_ms[path].append(1000.0 * (time.perf_counter() - start))
                work.advance(batch)
            for path, times in durations_ms.items():
                kept = times[WARM_UP_BATCHES:]
                median_ms, p95_ms = statistics.median(kept), statistics.quantiles(kept, n=20)[-1]
                out[path].append(
                    Latency(threads=count, batch=batch, median_ms=round(median_ms, 4), p95_ms=round(p95_ms, 4))
                )


def latency_table(latencies: Mapping[str, Sequence[Latency]]) -> str:
    """Formats the latencies of one or more files as Markdown, a column a file."""
    lines = ["| ms a batch: median (p95) | " + " | ".join(latencies) + " |", "|---|" + "---|" * len(latencies)]
    for row in zip(*latencies.values(), strict=True):
        threads = f"{row[0].threads} thread{'s' if row[0].threads > 1 else ''}"
        cells = [f"{item.median_ms:.3f} ({item.p95_ms:.3f})" for item in row]
        lines.append(f"| {threads}, batch {row[0].batch} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def this_machine() -> dict[str, str]:
    """Describes the machine, the date and the versions of a measurement."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return {
        "machine": f"{_cpu_value('model name') or platform.machine()}, {os.cpu_count()} cores, "
        f"Linux {platform.release()}",
        "date": datetime.now(tz=timezone.utc).date().isoformat(),
        "versions": f"Python {platform.python_version()}, {versions}",
    }


def describe_cpu() -> str:
    """Describes the processor, and its instructions for dot products of 8-bit numbers."""
    flags = DOT_PRODUCT_FLAGS & set(_cpu_value("flags", "features").split())
    name = _cpu_value("model name") or platform.machine()
    return f"{name}, {', '.join(sorted(flags)) or 'no 8-bit dot products'}"


def _cpu_value(*names: str) -> str:
    """Returns the first value of these names in /proc/cpuinfo; an empty string if there is none."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.lower().startswith(names)), "")


def _peak_mb() -> float:
    """Returns the peak of resident memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
