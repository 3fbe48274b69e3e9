"""A TensorRT engine as what computes a model: buffers on the GPU that are allocated once."""

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
MAX_BATCH = 8  # windows at once; more go through in turn

log = logging.getLogger("edge_sser.tensorrt")


class Engine:
    """An engine and its context. See `Backend`."""

    provider = PROVIDER

    def __init__(self, trt: Any, cuda: Cuda, data: bytes, card: Card, features: FeatureParams) -> None:
        """Prepares everything that running it takes.

        Args:
            trt: the package tensorrt.
            cuda: the GPU, which from then on is the engine's to close.
            data: what TensorRT serialised.
            card: of the model.
            features: that this program computes.

        Raises:
            EngineMissError: TensorRT does not take it, or its inputs and outputs are not what the card says.
            CudaError: the GPU has no memory left for it.
        """
        self.card = card
        self._cuda = cuda
        # A model that is dropped gives its memory back. When the process ends, the driver sees to it.
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
        self._batch = 0  # that the context is set to

    def run(self, log_mel: NDArray[np.float32], *, limit_seconds: float | None = None) -> Logits:
        """Computes a batch; see `Backend.run`. An engine has no loops that need not end."""
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
        """Gives back what it holds; it must not be run any more."""
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
        for name, into in zip(self.card.outputs, (stress, emotions), strict=True):
            self._cuda.download(into, self._addresses[name])
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


def open_engine(path: Path, model: Path, model_sha256: str) -> Engine:
    """The engine of a model, if there is one that can be used here.

    Args:
        path: of the engine.
        model: the file that it was built from, for messages.
        model_sha256: of that file.

    Raises:
        EngineMissError: there is none, or it is damaged, stale, or of another machine.
    """
    file = read_engine(path, model_sha256)
    try:
        trt = import_tensorrt()
    except Exception as error:  # a library that is missing or broken can raise anything
        raise EngineMissError(f"{path}: TensorRT cannot be imported ({short(error)})") from None
    try:
        return _open(trt, file, model, model_sha256)
    except EngineMissError as miss:
        raise EngineMissError(f"{path}: {miss}") from None
    except Exception as error:  # of the card, of CUDA, and whatever the bindings raise
        raise EngineMissError(f"{path}: {short(error)}") from None


def _open(trt: Any, file: EngineFile, model: Path, model_sha256: str) -> Engine:
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
        return Engine(trt, cuda, file.data, card, FEATURES)
    except BaseException:
        _close(cuda)
        raise


def _close(cuda: Cuda) -> None:
    with suppress(CudaError):  # what went wrong before is what matters
        cuda.close()


def has_tensorrt() -> bool:
    """Whether the package is installed; it is not imported."""
    return find_spec("tensorrt") is not None


def import_tensorrt() -> Any:
    """The package. It has no stubs, and comes with JetPack or with pip.

    Raises:
        ImportError: it is not installed, or its libraries are not.
    """
    return import_module("tensorrt")


def make_logger(trt: Any) -> Any:
    """An `ILogger` that writes to the program's log, and remembers the last error.

    Args:
        trt: the package.

    Returns:
        The logger; its attribute `last_error` is a line for a person, empty when there was none.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""

        def log(self, severity: Any, msg: str) -> None:
            """Called from any thread; must not raise."""
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.last_error = msg
                log.info("%s", msg)  # whoever asked for it says what it means
            else:
                log.debug("%s", msg)

    return Logger()
