"""Builds engines of a model file. Needs no torch.

TensorRT builds for the GPU of this machine; TensorRT for RTX for any compute capability, without a GPU.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.commands.bench import demo_samples
from edge_sser.errors import EdgeSserError, ModelError, missing_extra, short
from edge_sser.export.build import TIMINGS, EngineBuilder
from edge_sser.files import make_folder, move_into_place, sigterm_as_interrupt
from edge_sser.model.cuda import Cuda, CudaError
from edge_sser.model.engine_file import (
    FOLDER_MODE,
    EngineFile,
    EngineKey,
    engine_path,
    engines_folder,
    write_engine,
)
from edge_sser.model.model import Model, load_engine
from edge_sser.model.rtx import CAPABILITIES, dotted, sm_name
from edge_sser.model.tensorrt_backend import engine_key
from edge_sser.model.tensorrt_library import RTX, TENSORRT, Library
from edge_sser.pipeline.features import FEATURES, log_mel

ALL, CURRENT = "all", "current"  # besides the names of compute capabilities
INSPECTED = "sm86"  # capability of engines that are built for their list of layers
# Largest difference of a logit from ONNX Runtime's, by precision: rounding to 8 bits may differ, TF32 has 10 bits.
MAX_DIFFERENCE = {"int8": 0.5, "fp32": 0.05}


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine that was built.

    Attributes:
        key: everything that the engine is for.
        difference: largest difference of a logit from ONNX Runtime's, over the windows of the demo recording; None for
            an engine that this machine cannot run.
        layers: types of the convolutions and matrix products, as `describe_layers` gives them.
    """

    path: Path
    key: EngineKey
    difference: float | None
    layers: str
    seconds: float


def need_library(library: Library) -> None:
    """Checks that a library is installed.

    Raises:
        MissingComponentError: it is not.
    """
    if not library.is_installed:
        hint = f"{library.oldest[0]}.{library.oldest[1]} or newer; {library.origin}"
        raise missing_extra(library.package, library.target, f"--target {library.target}", hint)


def check_board() -> None:
    """Checks that TensorRT can build an engine on this machine, before anything takes minutes.

    Raises:
        ModelError: the version of TensorRT is not supported, or there is no GPU that it can use.
    """
    cuda = _open_board(TENSORRT)[1]
    assert cuda is not None
    cuda.close()


def _open_board(library: Library) -> tuple[Any, Cuda | None]:
    """Returns the package, and the GPU; TensorRT for RTX can do without one."""
    try:
        trt = library.load()
    except (ImportError, OSError) as error:
        raise ModelError(f"{library.name} cannot be used here ({short(error)})") from None
    try:
        return trt, Cuda()
    except CudaError as error:
        if library is RTX:
            return trt, None
        raise ModelError(f"TensorRT cannot be used here ({error}): edge-sser export needs its GPU") from None


def build_engines(
    model: Path,
    *,
    library: Library = TENSORRT,
    capabilities: Sequence[str] = (ALL,),
    engines: Path | None,
    workspace_mib: int | None,
    progress: Callable[[str], None],
) -> list[BuiltEngine]:
    """Builds the engines of a model file, compares them with ONNX Runtime, and moves them where `listen` finds them.

    Args:
        model: an .onnx file with a card.
        library: TensorRT builds one engine, TensorRT for RTX one for each capability.
        capabilities: for TensorRT for RTX, as `sm86`; or `all`, or `current` for this machine's.
        engines: folder of engines; None for the one of `listen`.
        workspace_mib: most memory that a kernel may use for itself, MiB; None for the library's own limit.
        progress: callback with a line of text on each step.

    Raises:
        MissingComponentError: the library is not installed.
        ModelError: the file is not a model, the library or the GPU fails, an engine computes something else, or it
            cannot be written. Older engines stay.
    """
    need_library(library)
    reference = Model.load(model, runtime="cpu")  # refuses a file that is not a model, before minutes are spent
    folder = engines_folder(engines)
    trt, cuda = _open_board(library)
    try:
        names = _capabilities(capabilities, cuda) if library is RTX else [""]
        with sigterm_as_interrupt(), _trial_folder(folder) as trial, _library_errors(reference, library):
            build = EngineBuilder(trt, library, progress, folder / TIMINGS, workspace_mib)
            built = [_build_one(build, reference, name, cuda, trial) for name in names]
            for file in trial.iterdir():
                move_into_place(file, folder / file.name)
    finally:
        if cuda is not None:
            cuda.close()
    return [replace(each, path=folder / each.path.name) for each in built]


def inspect_layers(model: Path, capability: str = INSPECTED) -> str:
    """Builds an engine with TensorRT for RTX and throws it away.

    Args:
        model: an .onnx file with a card.
        capability: to build for.

    Returns:
        A sentence on the types that convolutions and matrix products compute in, or on the reason why the library
        cannot build it; empty where the library is not installed.
    """
    if not RTX.is_installed:
        return ""
    reference = Model.load(model, runtime="cpu")
    try:
        with _library_errors(reference, RTX):
            trt = RTX.load()
            layers = EngineBuilder(trt, RTX, lambda line: None, Path(TIMINGS), None).run(reference, capability)[1]
    except ModelError as error:
        return f"{error}."
    return f"TensorRT for RTX {trt.__version__} builds it for {capability} with {layers}."


def _capabilities(given: Sequence[str], cuda: Cuda | None) -> list[str]:
    """Returns the names of compute capabilities, each one once."""
    if CURRENT in given and cuda is None:
        raise ModelError("--compute-capability current needs a GPU with its driver: name one, or take all")
    here = [sm_name(cuda.capability)] if cuda is not None else []
    names = [name for each in given for name in (CAPABILITIES if each == ALL else here if each == CURRENT else [each])]
    for name in names:
        if name not in CAPABILITIES:
            raise ModelError(f"TensorRT for RTX does not build for {name}, only for {', '.join(CAPABILITIES)}")
    return list(dict.fromkeys(names))


def _build_one(build: EngineBuilder, reference: Model, capability: str, cuda: Cuda | None, trial: Path) -> BuiltEngine:
    """Builds an engine into the trial folder, and runs it where this machine can."""
    started = time.monotonic()
    precision = reference.card.precision
    gpu, number = (cuda.name, cuda.capability) if cuda is not None else ("", "")
    key = engine_key(build.trt, reference.sha256, precision, gpu, dotted(capability) if capability else number)
    build.progress(
        f"building for {capability or f'{key.gpu} ({number})'} with TensorRT {key.tensorrt}"
        + ("" if capability else ": this takes minutes")
    )
    data, layers = build.run(reference, capability)
    # Loaded from the disk, as `listen` will do, from a folder where no `listen` finds it yet.
    path = engine_path(trial, reference.sha256, capability)
    write_engine(path, EngineFile(key=key, card=reference.card.to_json(), data=data))
    difference = None
    if not capability or key.compute_capability == number:
        difference = _difference(reference, load_engine(reference.path, trial, build.library))
        limit = MAX_DIFFERENCE.get(precision, MAX_DIFFERENCE["fp32"])
        if not difference <= limit:
            raise ModelError(
                f"the engine's logits differ from ONNX Runtime's by {difference:.2g}, expected at most "
                f"{limit}: it was not kept; please report it with the versions above"
            )
    return BuiltEngine(path, key, difference, layers, time.monotonic() - started)


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
def _library_errors(reference: Model, library: Library) -> Iterator[None]:
    """Turns any exception of the bindings into a ModelError: with an old driver, `Builder` raises TypeError."""
    try:
        yield
    except (EdgeSserError, OSError):
        raise
    except Exception as error:
        raise ModelError(
            f"model {reference.path}: {library.name} failed ({short(error)}): does it fit the driver? See nvidia-smi, "
            "or dpkg -l on a Jetson"
        ) from error


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
    key, difference = built.key, built.difference
    parts = [
        f"{built.path}: {built.path.stat().st_size / 1000:.0f} kB",
        key.gpu if key.gpu != "any" else sm_name(key.compute_capability),
        f"TensorRT {key.tensorrt}",
        key.precision,
        *([built.layers] if built.layers else []),
        "not run: for another GPU" if difference is None else f"logits within {difference:.1e} of ONNX Runtime's",
        f"{built.seconds:.0f} s",
    ]
    return ", ".join(parts)
