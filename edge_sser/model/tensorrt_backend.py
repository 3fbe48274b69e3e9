"""TensorRT as a backend: an engine with buffers on the GPU that are allocated once."""

from __future__ import annotations

import math
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import ModelError, short
from edge_sser.model.backend import Logits
from edge_sser.model.card import Card, read_card
from edge_sser.model.cuda import Cuda, CudaError
from edge_sser.model.engine_file import EngineFile, EngineKey, EngineMissError, engine_path, read_engine
from edge_sser.model.rtx import JitCache, sm_name
from edge_sser.model.tensorrt_library import RTX, Library, make_logger
from edge_sser.pipeline.features import FEATURES, FeatureParams

PROVIDER = "TensorRT engine"
MAX_BATCH = 8  # windows at once; larger batches are split


class TensorrtBackend:
    """An engine and its context; see `Backend`."""

    provider = PROVIDER

    def __init__(
        self, trt: Any, cuda: Cuda, data: bytes, card: Card, features: FeatureParams, jit_cache: Path | None = None
    ) -> None:
        """Deserialises the engine and allocates its buffers.

        Args:
            trt: the package of the library.
            cuda: the GPU; the backend closes it from then on.
            data: the engine as TensorRT serialised it.
            card: of the model.
            features: parameters of this program's features.
            jit_cache: file for compiled kernels, for TensorRT for RTX.

        Raises:
            EngineMissError: TensorRT refuses the engine, or its inputs and outputs differ from the card's.
            CudaError: the GPU has not enough free memory.
        """
        self.card = card
        self._cuda = cuda
        # Frees the GPU's memory with the model. At the end of the process the driver does so.
        self._release = weakref.finalize(self, _close, cuda)
        self._release.atexit = False
        self._logger = logger = make_logger(trt)
        logger.last_error = ""
        self._runtime = trt.Runtime(logger)  # both must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise EngineMissError(f"TensorRT does not take it ({short(logger.last_error or 'no reason given')})")
        self._jit_cache = None if jit_cache is None else JitCache(self._engine, jit_cache)
        make_context = (
            self._jit_cache.create_context if self._jit_cache else type(self._engine).create_execution_context
        )
        self._context = make_context(self._engine)
        if self._context is None:
            raise EngineMissError(f"TensorRT cannot run it ({short(logger.last_error or 'no reason given')})")
        stress, emotions = card.outputs
        self._window = (features.frames, features.bands)
        self._check_tensors(trt, {card.input: (-1, *self._window), stress: (-1,), emotions: (-1, len(card.emotions))})
        self.max_batch = int(self._engine.get_tensor_profile_shape(card.input, 0)[2][0])
        self._addresses = {
            name: cuda.allocate(4 * self.max_batch * math.prod(shape))
            for name, shape in ((card.input, self._window), (stress, (1,)), (emotions, (len(card.emotions),)))
        }
        for name, address in self._addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineMissError(f"TensorRT does not take the address of {name}")
        self._batch = 0  # batch size of the context

    def run(self, log_mel: NDArray[np.float32], *, limit_seconds: float | None = None) -> Logits:
        """Computes a batch; see `Backend.run`. An engine has no endless loops, so the timeout is not used."""
        self._cuda.use()
        values = np.ascontiguousarray(log_mel, dtype=np.float32)
        if values.shape[1:] != self._window:
            raise ModelError(f"windows are {list(values.shape[1:])}, expected {list(self._window)}")
        stress = np.empty(len(values), dtype=np.float32)
        emotions = np.empty((len(values), len(self.card.emotions)), dtype=np.float32)
        for start in range(0, len(values), self.max_batch):
            part = slice(start, start + self.max_batch)
            self._run(values[part], stress[part], emotions[part])
        return stress, emotions

    def save_kernels(self) -> None:
        """Keeps kernels that were compiled for the engine, where the library compiles them at run time."""
        if self._jit_cache:
            self._jit_cache.save()

    def close(self) -> None:
        """Frees the engine and its memory. The backend must not be run afterwards."""
        self._context = self._jit_cache = self._engine = self._runtime = None
        self._release()

    def _run(self, values: NDArray[np.float32], stress: NDArray[np.float32], emotions: NDArray[np.float32]) -> None:
        if len(values) != self._batch:
            if not self._context.set_input_shape(self.card.input, values.shape):
                raise ModelError(f"TensorRT does not take a batch of {len(values)}")
            self._batch = len(values)
        self._cuda.upload(self._addresses[self.card.input], values)
        if not self._context.execute_async_v3(self._cuda.stream):
            raise ModelError("TensorRT could not run the engine")
        for name, values in zip(self.card.outputs, (stress, emotions), strict=True):
            self._cuda.download(values, self._addresses[name])
        self._cuda.synchronize()

    def _check_tensors(self, trt: Any, expected: dict[str, tuple[int, ...]]) -> None:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        if sorted(names) != sorted(expected):
            raise EngineMissError(f"its inputs and outputs are {', '.join(names)}, expected {', '.join(expected)}")
        for name, shape in expected.items():
            found = tuple(self._engine.get_tensor_shape(name))
            mode = trt.TensorIOMode.INPUT if name == self.card.input else trt.TensorIOMode.OUTPUT
            if self._engine.get_tensor_mode(name) != mode or found != shape:
                raise EngineMissError(f"its {name} has the shape {list(found)}, expected {list(shape)}")
            if self._engine.get_tensor_dtype(name) != trt.DataType.FLOAT:
                raise EngineMissError(f"its {name} is not float32")


def open_engine(folder: Path, model: Path, model_sha256: str, library: Library) -> TensorrtBackend:
    """Opens the engine of a model.

    Args:
        folder: of engines.
        model: model file of the engine, for messages.
        model_sha256: of the model file.
        library: that built the engine.

    Raises:
        EngineMissError: the engine is missing, damaged, stale, or of another machine.
    """
    path = _rtx_path(folder, model_sha256) if library is RTX else engine_path(folder, model_sha256)
    file = read_engine(path, model_sha256)
    try:
        trt = library.load()
    except Exception as error:  # a missing or broken library can raise anything
        raise EngineMissError(f"{path}: {library.name} cannot be imported ({short(error)})") from None
    try:
        return _open(trt, file, model, model_sha256, path.with_suffix(".jit") if library is RTX else None)
    except EngineMissError as miss:
        raise EngineMissError(f"{path}: {miss}") from None
    except Exception as error:  # of the card, of CUDA, and of the bindings
        raise EngineMissError(f"{path}: {short(error)}") from None


def _rtx_path(folder: Path, model_sha256: str) -> Path:
    """Returns the path of the engine for this GPU's compute capability."""
    pattern = engine_path(folder, model_sha256, "sm*")
    present = sorted(path.suffixes[-2][1:] for path in folder.glob(pattern.name))
    if not present:
        raise EngineMissError(f"there is no {pattern}", refused=False)
    try:
        cuda = Cuda()
        cuda.close()
    except CudaError as error:
        raise EngineMissError(f"{pattern}: {error}") from None
    if sm_name(cuda.capability) not in present:
        raise EngineMissError(f"{pattern}: engines for {', '.join(present)}, here is {sm_name(cuda.capability)}")
    return engine_path(folder, model_sha256, sm_name(cuda.capability))


def engine_key(trt: Any, model_sha256: str, precision: str, gpu: str, capability: str) -> EngineKey:
    """Returns the key of an engine that a package makes or runs.

    Args:
        trt: the package.
        model_sha256: of the model file.
        precision: of the model, from its card.
        gpu: name of the GPU; not used for TensorRT for RTX, whose engines are for a capability.
        capability: compute capability, as `8.6`.
    """
    rtx = trt.__name__ == RTX.package
    return EngineKey(
        model_sha256=model_sha256,
        tensorrt=f"RTX {trt.__version__}" if rtx else trt.__version__,
        gpu="any" if rtx else gpu,
        compute_capability=capability,
        precision=precision,
        batch=MAX_BATCH,
    )


def _open(trt: Any, file: EngineFile, model: Path, model_sha256: str, jit_cache: Path | None) -> TensorrtBackend:
    card = read_card(file.card, model, FEATURES)
    cuda = Cuda()
    try:
        difference = file.key.difference(engine_key(trt, model_sha256, card.precision, cuda.name, cuda.capability))
        if difference:
            raise EngineMissError(f"{difference}: build it again with edge-sser export")
        return TensorrtBackend(trt, cuda, file.data, card, FEATURES, jit_cache)
    except BaseException:
        _close(cuda)
        raise


def _close(cuda: Cuda) -> None:
    with suppress(CudaError):  # an earlier error matters more
        cuda.close()
