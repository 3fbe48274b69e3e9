"""TensorRT as a backend: an engine with buffers on the GPU that are allocated once."""

from __future__ import annotations

import logging
import math
import weakref
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import ModelError, short
from edge_sser.model.backend import Logits
from edge_sser.model.card import Card, read_card
from edge_sser.model.cuda import Cuda, CudaError
from edge_sser.model.engine_file import EngineFile, EngineKey, EngineMissError, read_engine
from edge_sser.pipeline.features import FEATURES, FeatureParams

PROVIDER = "TensorRT engine"
MAX_BATCH = 8  # windows at once; larger batches are split

log = logging.getLogger("edge_sser.tensorrt")


class TensorrtBackend:
    """An engine and its context; see `Backend`."""

    provider = PROVIDER

    def __init__(self, trt: Any, cuda: Cuda, data: bytes, card: Card, features: FeatureParams) -> None:
        """Deserialises the engine and allocates its buffers.

        Args:
            trt: the package tensorrt.
            cuda: the GPU; the backend closes it from then on.
            data: the engine as TensorRT serialised it.
            card: of the model.
            features: parameters of this program's features.

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
        self._runtime = trt.Runtime(logger)  # both must outlive the engine
        self._engine = self._runtime.deserialize_cuda_engine(data)
        if self._engine is None:
            raise EngineMissError(f"TensorRT does not take it ({short(logger.last_error or 'no reason given')})")
        self._context = self._engine.create_execution_context()
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

    def close(self) -> None:
        """Frees the engine and its memory. The backend must not be run afterwards."""
        self._context = self._engine = self._runtime = None
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


def open_engine(path: Path, model: Path, model_sha256: str) -> TensorrtBackend:
    """Opens the engine of a model.

    Args:
        path: of the engine.
        model: model file of the engine, for messages.
        model_sha256: of the model file.

    Raises:
        EngineMissError: the engine is missing, damaged, stale, or of another machine.
    """
    file = read_engine(path, model_sha256)
    try:
        trt = import_tensorrt()
    except Exception as error:  # a missing or broken library can raise anything
        raise EngineMissError(f"{path}: TensorRT cannot be imported ({short(error)})") from None
    try:
        return _open(trt, file, model, model_sha256)
    except EngineMissError as miss:
        raise EngineMissError(f"{path}: {miss}") from None
    except Exception as error:  # of the card, of CUDA, and of the bindings
        raise EngineMissError(f"{path}: {short(error)}") from None


def _open(trt: Any, file: EngineFile, model: Path, model_sha256: str) -> TensorrtBackend:
    card = read_card(file.card, model, FEATURES)
    cuda = Cuda()
    try:
        here = EngineKey(
            model_sha256=model_sha256,
            tensorrt=trt.__version__,
            gpu=cuda.name,
            compute_capability=cuda.capability,
            precision=card.precision,
            batch=MAX_BATCH,
        )
        difference = file.key.difference(here)
        if difference:
            raise EngineMissError(f"{difference}: build it again with edge-sser export")
        return TensorrtBackend(trt, cuda, file.data, card, FEATURES)
    except BaseException:
        _close(cuda)
        raise


def _close(cuda: Cuda) -> None:
    with suppress(CudaError):  # an earlier error matters more
        cuda.close()


def has_tensorrt() -> bool:
    """Returns True when the package tensorrt is installed, without importing it."""
    return find_spec("tensorrt") is not None


def import_tensorrt() -> Any:
    """Imports the package tensorrt. It has no stubs, and comes with JetPack or with pip.

    Raises:
        ImportError: the package or its libraries are not installed.
    """
    return import_module("tensorrt")


def make_logger(trt: Any) -> Any:
    """Makes an `ILogger` that writes to the program's log and keeps the last error.

    Args:
        trt: the package.

    Returns:
        The logger; its attribute `last_error` is a line for a person, empty without an error.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""

        def log(self, severity: Any, msg: str) -> None:
            """Logs a message. TensorRT calls it from any thread; it must not raise."""
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.last_error = msg
                log.info("%s", msg)  # the caller raises with an explanation
            else:
                log.debug("%s", msg)

    return Logger()
