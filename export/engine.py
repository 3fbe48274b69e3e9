"""Builds the TensorRT engine of a model file, on the machine that will run it. Needs TensorRT and a GPU, no torch."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.commands.bench import demo_samples
from edge_sser.errors import EdgeSserError, ModelError, missing_extra, short
from edge_sser.files import make_folder, move_into_place, sigterm_as_interrupt
from edge_sser.model.cuda import Cuda, CudaError
from edge_sser.model.engine_file import (
    FOLDER_MODE,
    EngineFile,
    EngineKey,
    engine_path,
    engines_folder,
    write_cache_file,
    write_engine,
)
from edge_sser.model.model import Model, load_engine
from edge_sser.model.tensorrt_backend import MAX_BATCH, has_tensorrt, import_tensorrt, make_logger
from edge_sser.pipeline.features import FEATURES, log_mel

OLDEST_VERSION, NEWEST_VERSION = (10, 3), (11, 99)  # of TensorRT: this code was written against their interfaces
TIMINGS = "timings.cache"  # timings of kernels on this machine: makes the next build quicker
# Largest difference of a logit from ONNX Runtime's, by precision: rounding to 8 bits may differ, TF32 has 10 bits.
MAX_DIFFERENCE = {"int8": 0.5, "fp32": 0.05}
PROGRESS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine that was built.

    Attributes:
        key: model, TensorRT version and GPU that the engine is for.
        difference: largest difference of a logit from ONNX Runtime's, over the windows of the demo recording.
    """

    path: Path
    key: EngineKey
    difference: float
    seconds: float


def need_tensorrt() -> None:
    """Checks that TensorRT is installed.

    Raises:
        MissingComponentError: TensorRT is not installed.
    """
    if not has_tensorrt():
        hint = "10.3 or newer; JetPack 6 and newer bring it; --target all writes the graph for TensorRT without it"
        raise missing_extra("tensorrt", "tensorrt", "--target tensorrt", hint)


def check_board() -> None:
    """Checks that an engine can be built on this machine, before anything takes minutes.

    Raises:
        ModelError: the version of TensorRT is not supported, or there is no GPU that it can use.
    """
    _open_board()[1].close()


def _open_board() -> tuple[Any, Cuda]:
    try:
        trt = import_tensorrt()
        _check_version(trt.__version__)
        return trt, Cuda()
    except (ImportError, OSError, CudaError) as error:
        raise ModelError(f"TensorRT cannot be used here ({short(error)}): edge-sser export needs its GPU") from None


def build_engine(
    model: Path, *, engines: Path | None, workspace_mib: int | None, progress: Callable[[str], None]
) -> BuiltEngine:
    """Builds the engine of a model file, compares it with ONNX Runtime, and moves it where `listen` finds it.

    Args:
        model: an .onnx file with a card.
        engines: folder of engines; None for the one of `listen`.
        workspace_mib: most memory that a kernel may use for itself, MiB; None for TensorRT's own limit.
        progress: callback with a line of text on each step.

    Raises:
        MissingComponentError: TensorRT is not installed.
        ModelError: the file is not a model, TensorRT or the GPU fails, the engine computes something else, or it cannot
            be written. An older engine stays.
    """
    started = time.monotonic()
    need_tensorrt()
    reference = Model.load(model, runtime="cpu")  # refuses a file that is not a model, before minutes are spent
    path = engine_path(engines_folder(engines), reference.sha256)
    data = model.read_bytes()
    trt, cuda = _open_board()
    key = EngineKey(
        model_sha256=reference.sha256,
        tensorrt=trt.__version__,
        gpu=cuda.name,
        compute_capability=cuda.capability,
        precision=reference.card.precision,
        batch=MAX_BATCH,
    )
    try:
        with sigterm_as_interrupt(), _trial_folder(path.parent) as trial, _tensorrt_errors(reference):
            progress(
                f"building for {key.gpu} ({key.compute_capability}) with TensorRT {key.tensorrt}: this takes minutes"
            )
            engine = _Build(trt, progress, path.with_name(TIMINGS), workspace_mib).run(data, reference)
            # Loaded from the disk, as `listen` will do, from a folder where no `listen` finds it yet.
            candidate = engine_path(trial, reference.sha256)
            write_engine(candidate, EngineFile(key=key, card=reference.card.to_json(), data=engine))
            difference = _difference(reference, load_engine(model, trial))
            limit = MAX_DIFFERENCE.get(key.precision, MAX_DIFFERENCE["fp32"])
            if not difference <= limit:
                raise ModelError(
                    f"the engine's logits differ from ONNX Runtime's by {difference:.2g}, expected at most "
                    f"{limit}: it was not kept; please report it with the versions above"
                )
            move_into_place(candidate, path)
    finally:
        cuda.close()
    return BuiltEngine(path, key, difference, time.monotonic() - started)


@contextmanager
def _trial_folder(folder: Path) -> Iterator[Path]:
    """Temporary folder beside the engines, made before anything takes minutes."""
    trial = folder / f".trial-{os.getpid()}"
    try:
        make_folder(folder, FOLDER_MODE)
        trial.mkdir()
        try:
            yield trial
        finally:
            shutil.rmtree(trial, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"{folder}: cannot be written ({error.strerror or error}): give --engines a folder that can"
        ) from None


@contextmanager
def _tensorrt_errors(reference: Model) -> Iterator[None]:
    """Turns any exception of the bindings into a ModelError: with an old driver, `Builder` raises TypeError."""
    try:
        yield
    except (EdgeSserError, OSError):
        raise
    except Exception as error:
        raise ModelError(
            f"model {reference.path}: TensorRT failed ({short(error)}): does it fit the driver? See nvidia-smi, or "
            "dpkg -l on a Jetson"
        ) from error


class _Build:
    """One build, with calls that TensorRT 10.3 to 11 have in common."""

    def __init__(self, trt: Any, progress: Callable[[str], None], timings: Path, workspace_mib: int | None) -> None:
        self._trt = trt
        self._progress = progress
        self._timings = timings
        self._workspace_mib = workspace_mib
        self._logger = make_logger(trt)
        self._stopped = threading.Event()

    def run(self, model: bytes, reference: Model) -> bytes:
        """Builds the engine, and returns it serialised."""
        trt = self._trt
        builder = trt.Builder(self._logger)
        # All types come from the graph. From version 11 on this is the only mode, and the flag is ignored.
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(model):
            raise ModelError(f"model {reference.path}: TensorRT cannot read it ({self._parser_error(parser)})")
        config = builder.create_builder_config()
        if self._workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._workspace_mib << 20)
        profile = builder.create_optimization_profile()
        one, most = ((batch, FEATURES.frames, FEATURES.bands) for batch in (1, MAX_BATCH))
        profile.set_shape(reference.card.input, one, one, most)
        if config.add_optimization_profile(profile) < 0:
            raise ModelError(f"model {reference.path}: TensorRT does not take windows of {list(one)}")
        cache = self._read_timings(config)
        monitor = _make_monitor(trt, self._progress, self._stopped)
        config.progress_monitor = monitor
        engine = self._build(builder, network, config)
        if engine is None:
            raise ModelError(
                f"model {reference.path}: TensorRT could not build an engine "
                f"({short(self._logger.last_error or 'no reason given')}): with little memory, try --workspace-mib 256"
            )
        self._write_timings(cache)
        return bytes(engine)

    def _build(self, builder: Any, network: Any, config: Any) -> Any:
        """Builds in a thread of its own, so that Ctrl-C can stop the build at its next step."""
        results: list[Any] = []

        def build() -> None:
            try:
                results.append(builder.build_serialized_network(network, config))
            except Exception as error:
                results.append(error)

        thread = threading.Thread(target=build, name="build")
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.2)
        except KeyboardInterrupt:
            self._stopped.set()
            self._progress("stopping at the next step")
            thread.join()
            raise
        if isinstance(results[0], Exception):
            raise ModelError(f"TensorRT failed ({short(results[0])})") from results[0]
        return results[0]

    def _parser_error(self, parser: Any) -> str:
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            return short(f"node {error.node_name()} ({error.node_operator()}): {error.desc()}")
        return short(self._logger.last_error or "no reason given")

    def _read_timings(self, config: Any) -> Any:
        try:
            data = self._timings.read_bytes()
        except OSError:
            data = b""
        cache = config.create_timing_cache(data)
        if cache is None or not config.set_timing_cache(cache, False):  # of another GPU or version, or damaged
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return cache

    def _write_timings(self, cache: Any) -> None:
        try:
            write_cache_file(self._timings, bytes(cache.serialize()))
        except ModelError as error:
            self._progress(f"{error}; the next build starts without timings")


def _make_monitor(trt: Any, progress: Callable[[str], None], stopped: threading.Event) -> Any:
    """Returns a monitor that reports progress every few seconds, and ends the build once `stopped` is set."""
    started = time.monotonic()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Progress monitor; TensorRT calls it from any of its threads."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}
            self._reported = started

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps
            if parent_phase is None:
                self._report(phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if time.monotonic() - self._reported >= PROGRESS_SECONDS:
                self._report(f"{phase_name}, step {step + 1} of {self._steps.get(phase_name, 0)}")
            return not stopped.is_set()

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

        def _report(self, step: str) -> None:
            self._reported = time.monotonic()
            progress(f"{self._reported - started:6.1f} s  {step}")

    return Monitor()


def _check_version(version: str) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if not OLDEST_VERSION <= numbers <= NEWEST_VERSION:
        raise ModelError(f"TensorRT {version} is here, expected 10.3 to 11: update JetPack, or edge-sser")


def _difference(reference: Model, engine: Model) -> float:
    """Returns the largest difference of a logit over the demo recording, one window and several at a time."""
    mel = log_mel(demo_samples())
    starts = range(0, len(mel) - FEATURES.frames + 1, FEATURES.frames // 6)
    windows = np.stack([mel[start : start + FEATURES.frames] for start in starts])
    expected = np.column_stack(reference.logits(windows))
    together: NDArray[np.float32] = np.column_stack(engine.logits(windows))
    alone = np.concatenate([np.column_stack(engine.logits(window[np.newaxis])) for window in windows])
    return float(max(np.abs(together - expected).max(), np.abs(alone - expected).max()))


def describe_engine(built: BuiltEngine) -> str:
    """Describes an engine in one line."""
    return (
        f"{built.path}: {built.path.stat().st_size / 1000:.0f} kB, {built.key.gpu}, TensorRT {built.key.tensorrt}, "
        f"{built.key.precision}, logits within {built.difference:.1e} of ONNX Runtime's, {built.seconds:.0f} s"
    )
