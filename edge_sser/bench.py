"""`edge-sser bench`: what this machine does with a model, as medians and ratios."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import typer
from numpy.typing import NDArray

import edge_sser
from edge_sser.audio.block import SAMPLE_RATE, AudioBlock
from edge_sser.bench_processes import listen_cost, median_wall_s, run_cost
from edge_sser.events import Reading, to_json
from edge_sser.features import FEATURES, LogMel
from edge_sser.level import LevelMeter
from edge_sser.model import Model, load_model
from edge_sser.monitor import Monitor
from edge_sser.settings import Settings
from edge_sser.speech import SpeechGate

INFERENCES = 300
WARM_UP_INFERENCES = 20
BLOCK_SAMPLES = SAMPLE_RATE // 10  # as a microphone brings them
LISTEN_SECONDS = 30.0
HELP_RUNS = 7
HUBERT = Path(edge_sser.__file__).parent.parent / "benchmarks" / "hubert_base.py"  # in a checkout only
PACKAGES = ("edge-sser", "numpy", "onnxruntime")


@dataclass(frozen=True, slots=True)
class HopCost:
    """CPU time of one hop in which the model was asked, and of its parts; medians, ms on one core."""

    whole_ms: float
    gate_ms: float
    features_ms: float
    level_ms: float
    model_ms: float

    @property
    def rest_ms(self) -> float:
        """Windows, rolling level, events: what is left."""
        return self.whole_ms - self.gate_ms - self.features_ms - self.level_ms - self.model_ms


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """What one model costs here.

    Attributes:
        inference_ms: median of one inference, wall clock, one thread.
        inference_p95_ms: 95th percentile.
        streams_per_core: sources that one core could serve if all of them spoke all the time.
    """

    model: str
    inference_ms: float
    inference_p95_ms: float
    hop: HopCost
    streams_per_core: float


def print_bench(models: Sequence[Path], *, quick: bool, as_json: bool) -> None:
    """Measures and prints.

    Args:
        models: model files; the one that ships when empty.
        quick: leave out what takes minutes.
        as_json: one JSON object instead of a table.
    """
    samples = _demo()
    loaded = [load_model(path, provider="cpu") for path in models] or [load_model(provider="cpu")]
    figures = [_model_figures(model, samples) for model in loaded]
    rows = {f"{figure.model}: {name}": value for figure in figures for name, value in _model_rows(figure).items()}
    rows |= _hubert_rows(figures)
    rows |= _process_rows(loaded[0].path, samples, quick=quick)
    machine = _machine()
    if as_json:
        models_json = [asdict(figure) | {"hop": asdict(figure.hop)} for figure in figures]
        typer.echo(json.dumps({"machine": machine, "models": models_json, "figures": rows}, indent=2))
        return
    for name, value in machine.items():
        typer.echo(f"{name}: {value}")
    typer.echo()
    width = max(map(len, rows))
    for name, value in rows.items():
        typer.echo(f"{name:{width}}  {value}")


def _demo() -> NDArray[np.float32]:
    samples, _ = soundfile.read(str(resources.files("edge_sser") / "samples" / "demo.flac"), dtype="float32")
    return np.asarray(samples, dtype=np.float32)


def _model_figures(model: Model, samples: NDArray[np.float32]) -> ModelFigures:
    windows = np.random.default_rng(0).normal(-60.0, 20.0, (8, FEATURES.frames, FEATURES.bands)).astype(np.float32)
    wall, cpu = [], []
    for index in range(WARM_UP_INFERENCES + INFERENCES):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        model.score(windows[index % len(windows)])
        cpu.append(time.process_time() - begun_cpu)
        wall.append(time.perf_counter() - begun)
    wall, cpu = wall[WARM_UP_INFERENCES:], cpu[WARM_UP_INFERENCES:]
    settings = Settings()
    hop = HopCost(
        whole_ms=_whole_hop_ms(model, settings, samples),
        gate_ms=_part_ms(SpeechGate(settings.gate).push, settings, samples),
        features_ms=_part_ms(LogMel().push, settings, samples),
        level_ms=_part_ms(LevelMeter().push, settings, samples),
        model_ms=1000.0 * statistics.median(cpu),
    )
    return ModelFigures(
        model=model.label,
        inference_ms=1000.0 * statistics.median(wall),
        inference_p95_ms=1000.0 * statistics.quantiles(wall, n=20)[-1],
        hop=hop,
        streams_per_core=1000.0 * settings.window.hop_seconds / hop.whole_ms,
    )


def _hops(samples: NDArray[np.float32], settings: Settings) -> Iterator[list[NDArray[np.float32]]]:
    """The blocks of each hop."""
    hop = round(settings.window.hop_seconds * SAMPLE_RATE)
    for start in range(0, samples.size - hop + 1, hop):
        yield [samples[at : at + BLOCK_SAMPLES] for at in range(start, start + hop, BLOCK_SAMPLES)]


def _part_ms(push: Callable[[NDArray[np.float32]], Any], settings: Settings, samples: NDArray[np.float32]) -> float:
    seconds = []
    for blocks in _hops(samples, settings):
        begun = time.process_time()
        for block in blocks:
            push(block)
        seconds.append(time.process_time() - begun)
    return 1000.0 * statistics.median(seconds)


def _whole_hop_ms(model: Model, settings: Settings, samples: NDArray[np.float32]) -> float:
    monitor = Monitor(node="bench", source_name="demo", started_at=0.0, live=True, model=model, settings=settings)
    seconds = []
    for blocks in _hops(samples, settings):
        begun = time.process_time()
        events = [event for block in blocks for event in monitor.push(AudioBlock(block))]
        for event in events:
            to_json(event)
        taken = time.process_time() - begun
        if any(isinstance(event, Reading) and event.stress is not None for event in events):
            seconds.append(taken)
    return 1000.0 * statistics.median(seconds)


def _model_rows(figure: ModelFigures) -> dict[str, str]:
    hop = figure.hop
    return {
        "one inference, 1 thread": f"{figure.inference_ms:.3f} ms median, {figure.inference_p95_ms:.3f} ms p95",
        "one whole hop with speech": f"{hop.whole_ms:.3f} ms of CPU",
        "  speech gate": f"{hop.gate_ms:.3f} ms",
        "  log-mel": f"{hop.features_ms:.3f} ms",
        "  level meter": f"{hop.level_ms:.3f} ms",
        "  model": f"{hop.model_ms:.3f} ms",
        "  windows, rolling, events": f"{hop.rest_ms:.3f} ms",
        "streams per core, all speaking": f"{figure.streams_per_core:.0f}",
    }


def _hubert_rows(figures: Sequence[ModelFigures]) -> dict[str, str]:
    name = "HuBERT-base, one pass over the same 3 s"
    if not HUBERT.exists():
        return {name: "not measured: run bench from a checkout"}
    done = subprocess.run([sys.executable, str(HUBERT)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return {name: 'not measured: it needs torch, pip install "edge-sser[train]"'}
    seconds = json.loads(done.stdout)["cpu_seconds"]
    rows = {name: f"{1000.0 * seconds:.0f} ms of CPU"}
    for figure in figures:
        rows[f"{figure.model}: HuBERT-base over one whole hop"] = f"{1000.0 * seconds / figure.hop.whole_ms:.0f} times"
    return rows


def _process_rows(model: Path, samples: NDArray[np.float32], *, quick: bool) -> dict[str, str]:
    rows = {"edge-sser --help": f"{median_wall_s('--help', runs=HELP_RUNS):.2f} s"}
    with tempfile.TemporaryDirectory() as folder:
        minutes = Path(folder) / "minutes.flac"
        _write_repeated(minutes, samples, seconds=60.0 if quick else 600.0)
        short = run_cost("analyze", str(minutes), "--model", str(model))
        if quick:
            return rows | {"a minute through analyze": f"{short.cpu_s:.2f} s of CPU, peak {short.peak_mb:.0f} MB"}
        hour = Path(folder) / "hour.flac"
        _write_repeated(hour, samples, seconds=3600.0)
        long = run_cost("analyze", str(hour), "--model", str(model))
    silence = listen_cost(np.zeros(SAMPLE_RATE, dtype=np.float32), model=model, seconds=LISTEN_SECONDS)
    speech = listen_cost(samples, model=model, seconds=LISTEN_SECONDS)
    return rows | {
        "10 minutes through analyze": f"{short.wall_s:.1f} s, {short.cpu_s:.1f} s of CPU, peak {short.peak_mb:.0f} MB",
        "an hour through analyze": f"{long.wall_s:.1f} s, {long.cpu_s:.1f} s of CPU, peak {long.peak_mb:.0f} MB",
        "listen on silence": f"{silence.cpu_share:.2%} of a core, peak {silence.peak_mb:.0f} MB",
        "listen on speech": f"{speech.cpu_share:.2%} of a core, peak {speech.peak_mb:.0f} MB",
        "first reading after the third second of audio, start included": f"{speech.first_reading_s:.2f} s",
    }


def _write_repeated(path: Path, samples: NDArray[np.float32], *, seconds: float) -> None:
    """Writes the recording again and again, piece by piece."""
    left = round(seconds * SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE, channels=1, format="FLAC") as file:
        while left > 0:
            file.write(samples[:left])
            left -= samples.size


def _machine() -> dict[str, str]:
    known = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line.partition(":")[2].strip() for line in known if line.lower().startswith("model name")), "")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return {
        "machine": f"{model or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "date": datetime.now(tz=timezone.utc).date().isoformat(),
        "versions": f"Python {platform.python_version()}, {versions}",
    }
