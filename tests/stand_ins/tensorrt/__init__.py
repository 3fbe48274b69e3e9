"""TensorRT for tests: NVIDIA's own parser and builder, of TensorRT for RTX, and execution over ONNX Runtime.

Only what cannot be done without a GPU is a stand-in: engines that run, and timings of kernels. STAND_IN_TENSORRT says
which version it is, 10.3.0, 11.4.0.106 or one of TensorRT for RTX; STAND_IN_TENSORRT_SLOW makes builds take a minute,
STAND_IN_TENSORRT_WRONG is added to what engines compute. tests/model/test_stand_in.py holds names and arguments of
this module, and the calls of edge-sser, against the bindings of all three.

From the docstrings of the bindings: a deserialisation that fails gives None, setters of the execution context give
False, an empty timing cache is made of b"", and `set_timing_cache` gives False for one of another device.

An engine here is the ONNX graph behind a line that says what built it; running it reads and writes the addresses that
it was given, as the real one does.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from typing import Any

import numpy as np
import tensorrt_rtx_bindings as _real
from tensorrt_rtx_bindings import (
    ComputeCapability,
    DataType,
    ILogger,
    INetworkDefinition,
    IOptimizationProfile,
    IProgressMonitor,
    LayerType,
    MemoryPoolType,
    NetworkDefinitionCreationFlag,
    ProfilingVerbosity,
    TensorIOMode,
    float32,
)

from edge_sser.model.onnx_backend import onnx_runtime

__all__ = [
    "ComputeCapability",
    "DataType",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "LayerType",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "ProfilingVerbosity",
    "TensorIOMode",
    "float32",
]
__version__ = os.environ.get("STAND_IN_TENSORRT", "10.3.0")
_MAGIC = b"stand-in engine "
_graphs: dict[int, bytes] = {}  # what was parsed, by the id of its network


class OnnxParser(_real.OnnxParser):
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        super().__init__(network, logger)
        self._network = network

    def parse(self, model: bytes, path: str = "") -> bool:
        _graphs[id(self._network)] = bytes(model)
        return bool(super().parse(model))


class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> bytes:
        return self._data + b"."


class IBuilderConfig:
    """The real one, with timings, which the builder of TensorRT for RTX has none of."""

    def __init__(self, real: Any, logger: Any) -> None:
        self.__dict__.update(_real=real, _logger=logger)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache or f"timings {__version__}".encode())

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        return ignore_mismatch or cache._data.startswith(f"timings {__version__}".encode())


class Builder(_real.Builder):
    def __init__(self, logger: ILogger) -> None:
        super().__init__(logger)
        self._logger = logger

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(super().create_builder_config(), self._logger)

    def create_optimization_profile(self) -> IOptimizationProfile:
        self._profile = super().create_optimization_profile()
        return self._profile

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        if config.num_compute_capabilities == 0:  # TensorRT builds for the GPU that is here, which is none
            config.num_compute_capabilities = 1
            config.set_compute_capability(ComputeCapability.SM86, 0)
        if "STAND_IN_TENSORRT_SLOW" in os.environ:
            config.progress_monitor.phase_start("Building", None, 1200)
            for step in range(1200):
                time.sleep(0.05)
                if not config.progress_monitor.step_complete("Building", step):
                    return None
        if super().build_serialized_network(network, config._real) is None:
            return None
        facts = {
            "tensorrt": __version__,
            "shapes": {"log_mel": [list(shape) for shape in self._profile.get_shape("log_mel")]},
            "workspace": config.get_memory_pool_limit(MemoryPoolType.WORKSPACE),
        }
        return _MAGIC + json.dumps(facts).encode() + b"\n" + _graphs.pop(id(network))


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine, self._shape = engine, ()
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine._facts["shapes"][name]
        if len(shape) != len(most) or not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            return False
        self._shape = tuple(shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return name in (*self._engine._inputs, *self._engine._outputs) and memory != 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        names = {*self._engine._inputs, *self._engine._outputs}
        if not self._shape or set(self._addresses) != names or stream_handle == 0:
            return False
        (name,) = self._engine._inputs
        values = _at(self._addresses[name], self._shape).copy()
        outputs = list(self._engine._outputs)
        for output, result in zip(outputs, self._engine._session.run(outputs, {name: values}), strict=True):
            wrong = np.float32(os.environ.get("STAND_IN_TENSORRT_WRONG", "0"))
            _at(self._addresses[output], result.shape)[...] = result + wrong
        return True


class IRuntimeCache:
    """Kernels that were compiled: named by the version, and more of them after each run."""

    def __init__(self) -> None:
        self._kernels = b""

    def deserialize(self, blob: bytes) -> bool:
        fits = bytes(blob) == f"kernels {__version__}".encode()
        self._kernels = bytes(blob) if fits else b""
        return fits

    def serialize(self) -> bytes:
        return f"kernels {__version__}".encode()


class IRuntimeConfig:
    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache()

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        return isinstance(cache, IRuntimeCache)


class ICudaEngine:
    def __init__(self, facts: dict[str, Any], session: Any) -> None:
        self._facts, self._session = facts, session
        self._inputs = {value.name: value for value in session.get_inputs()}
        self._outputs = {value.name: value for value in session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._inputs) + len(self._outputs)

    def create_runtime_config(self) -> IRuntimeConfig:
        return IRuntimeConfig()

    def create_execution_context(self, runtime_config: IRuntimeConfig | None = None) -> IExecutionContext:
        return IExecutionContext(self)

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF}[self._known(name).type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._known(name).shape)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[list[int]]:
        return self._facts["shapes"][name]

    def _known(self, name: str) -> Any:
        return {**self._inputs, **self._outputs}[name]


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        head, _, graph = serialized_engine.partition(b"\n")
        if not head.startswith(_MAGIC):
            self._logger.log(ILogger.Severity.ERROR, "this is no engine")
            return None
        options = onnx_runtime().SessionOptions()
        options.log_severity_level = 4
        session = onnx_runtime().InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return ICudaEngine(json.loads(head[len(_MAGIC) :]), session)


def _at(address: int, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)
