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
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import typer
from numpy.typing import NDArray

import edge_sser
from edge_sser.audio.source import SAMPLE_RATE, AudioBlock
from edge_sser.commands.bench_daemon import SOURCES, BrokerCost, broker_cost, crowd_cost
from edge_sser.commands.bench_processes import listen_cost, median_wall_s, run_cost
from edge_sser.commands.latency import latency_table, measure_latencies
from edge_sser.errors import MissingComponentError, UsageError
from edge_sser.events import Reading, to_json
from edge_sser.model.model import Model
from edge_sser.monitor import Monitor
from edge_sser.pipeline.features import FEATURES, LogMel
from edge_sser.pipeline.gate import SpeechGate
from edge_sser.pipeline.level import LevelMeter
from edge_sser.settings.load import variable
from edge_sser.settings.schema import Runtime, Settings

INFERENCES = 300
WARM_UP_INFERENCES = 20
BLOCK_SAMPLES = SAMPLE_RATE // 10  # as a microphone brings them
LISTEN_SECONDS = 30.0
CROWD_SECONDS = 20.0
HELP_RUNS = 7
HUBERT = Path(edge_sser.__file__).parent.parent / "benchmarks" / "hubert_base.py"  # in a checkout only
PACKAGES = ("edge-sser", "numpy", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    Attributes:
        value: None when it could not be measured.
        remark: why not.
    """

    name: str
    value: float | None
    unit: str
    remark: str = ""


def print_bench(models: Sequence[Path], *, quick: bool, as_json: bool, runtime: str = "auto") -> None:
    """Measures and prints.

    Args:
        models: model files; the one that ships when empty. What whole processes cost is measured with the first.
        quick: leave out what takes minutes.
        as_json: one JSON object instead of a table.
        runtime: what computes them; see `Runtime`.

    Raises:
        UsageError: the runtime is none.
    """
    try:
        computed_by = Runtime(runtime)
    except ValueError:
        raise UsageError(f"--runtime {runtime}: expected one of {', '.join(Runtime)}") from None
    samples = _demo()
    files: Sequence[Path | None] = models or [None]
    loaded = [Model.load(path, runtime=computed_by) for path in files]
    hubert = _hubert()
    figures = [figure for model in loaded for figure in _model_figures(model, samples, hubert.value)]
    with _in_processes(computed_by):
        figures += [hubert, *_process_figures(loaded[0].path, samples, quick=quick)]
    latencies = measure_latencies([model.path for model in loaded], runtime=computed_by)
    providers = {model.label: model.provider for model in loaded}
    timed = {model.label: latencies[model.path] for model in loaded}
    machine = this_machine()
    if as_json:
        report = {
            "machine": machine,
            "computed_by": providers,
            "figures": [asdict(figure) for figure in figures],
            "latencies": {label: [asdict(latency) for latency in each] for label, each in timed.items()},
        }
        typer.echo(json.dumps(report, indent=2))
        return
    for name, text in machine.items():
        typer.echo(f"{name}: {text}")
    for label, provider in providers.items():
        typer.echo(f"{label}: computed by {provider}")
    typer.echo()
    width = max(len(figure.name) for figure in figures)
    for figure in figures:
        value = f"not measured: {figure.remark}" if figure.value is None else f"{figure.value:10.4g} {figure.unit}"
        typer.echo(f"{figure.name:{width}}  {value}")
    typer.echo(f"\n{latency_table(timed)}")


@contextmanager
def _in_processes(runtime: Runtime) -> Iterator[None]:
    """Has the commands that are run as processes compute the model likewise."""
    name = variable("model.runtime")
    before = os.environ.get(name)
    os.environ[name] = runtime.value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _demo() -> NDArray[np.float32]:
    samples, _ = soundfile.read(str(resources.files("edge_sser") / "data" / "demo.flac"), dtype="float32")
    return np.asarray(samples, dtype=np.float32)


def _model_figures(model: Model, samples: NDArray[np.float32], hubert_ms: float | None) -> list[Figure]:
    windows = np.random.default_rng(0).normal(-60.0, 20.0, (8, FEATURES.frames, FEATURES.bands)).astype(np.float32)
    wall, cpu = [], []
    for index in range(WARM_UP_INFERENCES + INFERENCES):
        begun, begun_cpu = time.perf_counter(), time.process_time()
        model.score(windows[index % len(windows)])
        cpu.append(time.process_time() - begun_cpu)
        wall.append(time.perf_counter() - begun)
    wall, cpu = wall[WARM_UP_INFERENCES:], cpu[WARM_UP_INFERENCES:]
    settings = Settings()
    whole_ms = _whole_hop_ms(model, settings, samples)
    parts_ms = {
        "speech gate": _part_ms(SpeechGate(settings.gate).push, settings, samples),
        "log-mel": _part_ms(LogMel().push, settings, samples),
        "level meter": _part_ms(LevelMeter().push, settings, samples),
        "model": 1000.0 * statistics.median(cpu),
    }
    rest_ms = whole_ms - sum(parts_ms.values())
    figures = [
        Figure("one inference, median", 1000.0 * statistics.median(wall), "ms"),
        Figure("one inference, 95th percentile", 1000.0 * statistics.quantiles(wall, n=20)[-1], "ms"),
        Figure("one whole hop of speech", whole_ms, "ms of CPU"),
        *(Figure(f"  {part}", cost_ms, "ms of CPU") for part, cost_ms in parts_ms.items()),
        Figure("  windows, rolling, events", rest_ms, "ms of CPU"),
        Figure("streams per core, all speaking", 1000.0 * settings.window.hop_seconds / whole_ms, ""),
    ]
    if hubert_ms is not None:
        figures.append(Figure("cheaper than HuBERT-base, per hop", hubert_ms / whole_ms, "times"))
    return [replace(figure, name=f"{model.label}: {figure.name}") for figure in figures]


def _hops(samples: NDArray[np.float32], settings: Settings) -> Iterator[NDArray[np.float32]]:
    """The samples of each hop."""
    hop = round(settings.window.hop_seconds * SAMPLE_RATE)
    for start in range(0, samples.size - hop + 1, hop):
        yield samples[start : start + hop]


def _part_ms(push: Callable[[NDArray[np.float32]], Any], settings: Settings, samples: NDArray[np.float32]) -> float:
    seconds = []
    for hop in _hops(samples, settings):
        begun = time.process_time()
        push(hop)
        seconds.append(time.process_time() - begun)
    return 1000.0 * statistics.median(seconds)


def _whole_hop_ms(model: Model, settings: Settings, samples: NDArray[np.float32]) -> float:
    monitor = Monitor(node="bench", source_name="demo", started_at=0.0, live=True, model=model, settings=settings)
    seconds = []
    for hop in _hops(samples, settings):
        blocks = [AudioBlock(hop[at : at + BLOCK_SAMPLES]) for at in range(0, hop.size, BLOCK_SAMPLES)]
        begun = time.process_time()
        events = [event for block in blocks for event in monitor.push(block)]
        for event in events:
            to_json(event)
        taken = time.process_time() - begun
        if any(isinstance(event, Reading) and event.stress is not None for event in events):
            seconds.append(taken)
    return 1000.0 * statistics.median(seconds)


def _hubert() -> Figure:
    name, unit = "HuBERT-base, one pass over 3 s", "ms of CPU"
    if not HUBERT.exists():
        return Figure(name, None, unit, "run bench from a checkout")
    done = subprocess.run([sys.executable, str(HUBERT)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return Figure(name, None, unit, 'it needs torch: pip install "edge-sser[train]"')
    return Figure(name, 1000.0 * float(json.loads(done.stdout)["cpu_seconds"]), unit)


def _process_figures(model: Path, samples: NDArray[np.float32], *, quick: bool) -> list[Figure]:
    figures = [Figure("edge-sser --help", median_wall_s("--help", runs=HELP_RUNS), "s")]
    lengths = {"4 s": 4.0, "1 minute": 60.0} if quick else {"4 s": 4.0, "10 minutes": 600.0, "1 hour": 3600.0}
    with tempfile.TemporaryDirectory() as folder:
        for name, seconds in lengths.items():
            recording = Path(folder) / "recording.flac"
            _write_repeated(recording, samples, seconds=seconds)
            cost = run_cost("analyze", str(recording), "--model", str(model))
            figures += [
                Figure(f"{name} through analyze", cost.wall_s, "s"),
                Figure(f"{name} through analyze", cost.cpu_s, "s of CPU"),
                Figure(f"{name} through analyze, memory", cost.peak_mb, "MB"),
            ]
    if quick:
        return figures
    silence = np.zeros(SAMPLE_RATE, dtype=np.float32)
    for name, heard in {"silence": silence, "speech": samples}.items():
        listened = listen_cost(heard, model=model, seconds=LISTEN_SECONDS)
        figures += [
            Figure(f"listen on {name}", 100.0 * listened.cpu_share, "% of a core"),
            Figure(f"listen on {name}, memory", listened.peak_mb, "MB"),
            Figure(f"listen on {name}, first reading after the third second", listened.first_reading_s, "s"),
        ]
    return [*figures, *_daemon_figures(model, samples)]


def _daemon_figures(model: Path, samples: NDArray[np.float32]) -> list[Figure]:
    silence = np.zeros(SAMPLE_RATE, dtype=np.float32)
    figures = []
    for source, microphone in {"a pipe": False, "a microphone": True}.items():

        def with_broker(heard: NDArray[np.float32], folder: Path, microphone: bool = microphone) -> BrokerCost:
            return broker_cost(heard, model=model, seconds=LISTEN_SECONDS, microphone=microphone, folder=folder)

        def on_silence(folder: Path, listen: Callable[..., BrokerCost] = with_broker) -> list[float]:
            return [100.0 * listen(silence, folder).cpu_share]

        def on_speech(folder: Path, listen: Callable[..., BrokerCost] = with_broker) -> list[float]:
            cost = listen(samples, folder)
            return [1000.0 * cost.median_s, 1000.0 * cost.percentile_95_s]

        delivery = f"a window's last sample in {source} to an MQTT subscriber"
        figures += _measured(on_silence, (f"listen to {source} on silence with a broker", "% of a core"))
        figures += _measured(on_speech, (f"{delivery}, median", "ms"), (f"{delivery}, 95th percentile", "ms"))

    def with_a_crowd(folder: Path) -> list[float]:
        cost = crowd_cost(samples, model=model, seconds=CROWD_SECONDS, folder=folder)
        return [cost.dropped, cost.overruns, 100.0 * cost.cpu_share, cost.peak_mb]

    crowd = f"listen to {SOURCES} microphones on speech"
    return [
        *figures,
        *_measured(
            with_a_crowd,
            (f"{crowd}, dropped", "samples"),
            (f"{crowd}, losses in the devices", ""),
            (crowd, "% of a core"),
            (f"{crowd}, memory", "MB"),
        ),
    ]


def _measured(measure: Callable[[Path], list[float]], *named: tuple[str, str]) -> list[Figure]:
    """The figures, given their names and units; without values when something that they need is missing here."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            values = measure(Path(folder))
        except MissingComponentError as error:
            return [Figure(name, None, unit, str(error)) for name, unit in named]
    return [Figure(name, value, unit) for (name, unit), value in zip(named, values, strict=True)]


def _write_repeated(path: Path, samples: NDArray[np.float32], *, seconds: float) -> None:
    """Writes the recording again and again, piece by piece."""
    left = round(seconds * SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE, channels=1, format="FLAC") as file:
        while left > 0:
            file.write(samples[:left])
            left -= samples.size


def this_machine() -> dict[str, str]:
    """What figures were measured on: machine, date and versions, in words."""
    known = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line.partition(":")[2].strip() for line in known if line.lower().startswith("model name")), "")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    return {
        "machine": f"{model or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "date": datetime.now(tz=timezone.utc).date().isoformat(),
        "versions": f"Python {platform.python_version()}, {versions}",
    }
