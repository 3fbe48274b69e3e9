"""TensorRT for tests: the real interface, over ONNX Runtime.

Only what edge-sser calls is here, and nothing else can be called: names, names of arguments, types and the values of
enumerations are those of the real bindings, and anything else raises what the bindings raise (TypeError for
arguments, AttributeError for names). STAND_IN_TENSORRT says which version it is, 10.3.0 or 11.4.0.106;
STAND_IN_TENSORRT_SLOW makes builds take a minute, STAND_IN_TENSORRT_WRONG is added to what engines compute.

Where the facts come from: the wheels tensorrt_cu12_bindings 10.3.0 and 11.4.0.106 for Python 3.11 were imported with
empty libraries in the place of libnvinfer, libnvonnxparser and libnvinfer_plugin, and asked for their members and the
signatures in their docstrings (scripts/tensorrt_signatures.py; the answers are in tests/stand_ins/signatures.json, and
a test holds this module against them). From the docstrings:

* `1 << flag` is a TypeError, `1 << int(flag)` is how flags are given; STRONGLY_TYPED is 1 in 10.3 and 0 in 11.4, where
  it is always on; EXPLICIT_BATCH, the FP16 and INT8 builder flags, `int8_calibrator`, `platform_has_fast_fp16` and
  IInt8Calibrator are gone in 11.4.
* A build or a deserialisation that fails gives None; setters of the execution context give False.
* An empty timing cache is made of b""; `set_timing_cache` gives False for one of another device.
* `step_complete` gives False to stop a build; `phase_start` has None for a parent that is not there.
* Objects take no attributes but their own; IHostMemory is a buffer and has `nbytes`.

From the source of the ONNX parser of 10.x (onnx-tensorrt, QuantDequantLinearHelper): zero points must be 0 and not
UINT8, and from opset 19 on the scale of QuantizeLinear must have the type of its input.

An engine here is the ONNX graph behind a line that says what built it; running it reads and writes the addresses that
it was given, as the real one does.
"""

from __future__ import annotations

import ctypes
import enum
import functools
import inspect
import json
import os
import threading
import time
from typing import Any

import numpy as np
import onnx

from edge_sser.model.onnx_backend import onnx_runtime

__version__ = os.environ.get("STAND_IN_TENSORRT", "10.3.0")
_ELEVEN = int(__version__.split(".")[0]) >= 11
_MAGIC = b"stand-in engine "


class _Flag(enum.Enum):
    """An enumeration of pybind11: `int()` works, arithmetic does not."""

    def __int__(self) -> int:
        return int(self.value)


def _strict(function: Any) -> Any:
    """Arguments as pybind11 checks them: by the annotations, without conversion between unrelated types."""
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{function.__qualname__}(): incompatible function arguments: {error}") from None
        for name, value in bound.arguments.items():
            wanted = signature.parameters[name].annotation
            if wanted in (inspect.Parameter.empty, Any):
                continue
            if wanted is int and isinstance(value, bool | enum.Enum):
                raise TypeError(f"{function.__qualname__}(): {name} is {value!r}, expected int")
            if wanted is memoryview:
                memoryview(value)  # any buffer
            elif wanted is tuple:
                if not isinstance(value, tuple | list) or not all(type(item) is int for item in value):
                    raise TypeError(f"{function.__qualname__}(): {name} is {value!r}, expected dimensions")
            elif not isinstance(value, wanted):
                raise TypeError(f"{function.__qualname__}(): {name} is {value!r}, expected {wanted}")
        return function(*args, **kwargs)

    return checked


def _no_constructor(self: Any) -> None:
    raise TypeError(f"{type(self).__name__}: No constructor defined!")


class _Severity(_Flag):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = _Severity

    def __init__(self) -> None:
        self.__dict__["_made"] = True

    def log(self, severity: _Severity, msg: str) -> None:
        raise NotImplementedError


class NetworkDefinitionCreationFlag(_Flag):
    if _ELEVEN:
        STRONGLY_TYPED = 0
        PREFER_JIT_PYTHON_PLUGINS = 1
        PREFER_AOT_PYTHON_PLUGINS = 2
    else:
        EXPLICIT_BATCH = 0
        STRONGLY_TYPED = 1


class BuilderFlag(_Flag):
    if not _ELEVEN:
        FP16 = 0
        INT8 = 1
    DEBUG = 2
    GPU_FALLBACK = 3
    REFIT = 4
    DISABLE_TIMING_CACHE = 5
    TF32 = 6


class MemoryPoolType(_Flag):
    WORKSPACE = 0
    DLA_MANAGED_SRAM = 1
    DLA_LOCAL_DRAM = 2
    DLA_GLOBAL_DRAM = 3
    TACTIC_DRAM = 4
    TACTIC_SHARED_MEMORY = 5


class DataType(_Flag):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3


class TensorIOMode(_Flag):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class IProgressMonitor:
    def __init__(self) -> None:
        self.__dict__["_made"] = True


class _HostMemory:
    nbytes = property(lambda self: ctypes.sizeof(self))


def _host_memory(data: bytes) -> Any:
    """A buffer with `nbytes`, and none of the methods that bytes have."""
    kind = type("IHostMemory", (_HostMemory, ctypes.c_ubyte * len(data)), {})
    return kind.from_buffer_copy(data)


class INetworkDefinition:
    __slots__ = ("_model", "_strong")
    __init__ = _no_constructor


class IOptimizationProfile:
    __slots__ = ("_shapes",)
    __init__ = _no_constructor

    @_strict
    def set_shape(self, input: str, min: tuple, opt: tuple, max: tuple) -> None:
        if not len(min) == len(opt) == len(max) or not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
            raise ValueError("inconsistent dimensions")
        self._shapes[input] = (tuple(min), tuple(opt), tuple(max))


class ITimingCache:
    __slots__ = ("_data",)
    __init__ = _no_constructor

    @_strict
    def serialize(self) -> Any:
        return _host_memory(self._data + b".")


class IBuilderConfig:
    __slots__ = ("_cache", "_limits", "_logger", "_profiles", "_progress_monitor")
    __init__ = _no_constructor

    @property
    def progress_monitor(self) -> IProgressMonitor:
        return self._progress_monitor

    @progress_monitor.setter
    def progress_monitor(self, value: IProgressMonitor) -> None:
        if not isinstance(value, IProgressMonitor) or "_made" not in value.__dict__:
            raise TypeError("progress_monitor: incompatible function arguments")
        self._progress_monitor = value

    @_strict
    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._limits[pool] = pool_size

    @_strict
    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    @_strict
    def create_timing_cache(self, serialized_timing_cache: memoryview) -> ITimingCache:
        return _made(ITimingCache, _data=bytes(serialized_timing_cache) or f"timings {__version__}".encode())

    @_strict
    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        if not ignore_mismatch and not cache._data.startswith(f"timings {__version__}".encode()):
            self._logger.log(ILogger.Severity.ERROR, "the timing cache is of another device")
            return False
        self._cache = cache
        return True

    if not _ELEVEN:

        @property
        def int8_calibrator(self) -> Any:
            return None


class Builder:
    __slots__ = ("_logger",)

    @_strict
    def __init__(self, logger: ILogger) -> None:
        _check_logger(logger)
        self._logger = logger

    @_strict
    def create_network(self, flags: int = 0) -> INetworkDefinition:
        strong = _ELEVEN or bool(flags & (1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)))
        return _made(INetworkDefinition, _model=None, _strong=strong)

    @_strict
    def create_builder_config(self) -> IBuilderConfig:
        return _made(
            IBuilderConfig, _cache=None, _limits={}, _logger=self._logger, _profiles=[], _progress_monitor=None
        )

    @_strict
    def create_optimization_profile(self) -> IOptimizationProfile:
        return _made(IOptimizationProfile, _shapes={})

    @_strict
    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
        if network._model is None or not network._strong or not config._profiles:
            return self._refuse("no graph, weak types, or no profile for dynamic shapes")
        limit = config._limits.get(MemoryPoolType.WORKSPACE, 1 << 30)
        if limit < 1 << 20:
            return self._refuse("a kernel needs more workspace")
        if not _went_through(config._progress_monitor):
            return self._refuse("the build was stopped")
        facts = {"tensorrt": __version__, "shapes": config._profiles[0]._shapes, "workspace": limit}
        return _host_memory(_MAGIC + json.dumps(facts).encode() + b"\n" + network._model)

    if not _ELEVEN:

        @property
        def platform_has_fast_fp16(self) -> bool:
            return True

    def _refuse(self, reason: str) -> None:
        self._logger.log(ILogger.Severity.ERROR, reason)


class _ParserError:
    __slots__ = ("_said",)
    __init__ = _no_constructor

    @_strict
    def desc(self) -> str:
        return self._said[2]

    @_strict
    def node_name(self) -> str:
        return self._said[0]

    @_strict
    def node_operator(self) -> str:
        return self._said[1]


class OnnxParser:
    __slots__ = ("_errors", "_logger", "_network")

    @_strict
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        _check_logger(logger)
        self._network, self._logger, self._errors = network, logger, []

    @_strict
    def parse(self, model: memoryview, path: str = "") -> bool:
        data = bytes(model)
        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(data), strict_mode=True)
        for node, complaint in _complaints(graph):
            self._errors.append(_made(_ParserError, _said=(node.name, node.op_type, complaint)))
        if not self._errors:
            self._network._model = data
        return not self._errors

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    @_strict
    def get_error(self, index: int) -> _ParserError:
        return self._errors[index]


class IExecutionContext:
    __slots__ = ("_addresses", "_engine", "_shape")
    __init__ = _no_constructor

    @_strict
    def set_input_shape(self, name: str, shape: tuple) -> bool:
        least, _, most = self._engine._facts["shapes"][name]
        if len(shape) != len(most) or not all(a <= b <= c for a, b, c in zip(least, shape, most, strict=True)):
            return False
        self._shape = tuple(shape)
        return True

    @_strict
    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in (*self._engine._inputs, *self._engine._outputs) or memory == 0:
            return False
        self._addresses[name] = memory
        return True

    @_strict
    def execute_async_v3(self, stream_handle: int) -> bool:
        names = {*self._engine._inputs, *self._engine._outputs}
        if self._shape is None or set(self._addresses) != names or stream_handle == 0:
            return False
        (name,) = self._engine._inputs
        values = _at(self._addresses[name], self._shape).copy()
        for output, result in zip(
            self._engine._outputs, self._engine._session.run(list(self._engine._outputs), {name: values}), strict=True
        ):
            wrong = np.float32(os.environ.get("STAND_IN_TENSORRT_WRONG", "0"))
            _at(self._addresses[output], result.shape)[...] = result + wrong
        return True


class ICudaEngine:
    __slots__ = ("_facts", "_inputs", "_outputs", "_session")
    __init__ = _no_constructor

    @property
    def num_io_tensors(self) -> int:
        return len(self._inputs) + len(self._outputs)

    @_strict
    def create_execution_context(self) -> IExecutionContext:
        return _made(IExecutionContext, _engine=self, _shape=None, _addresses={})

    @_strict
    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    @_strict
    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    @_strict
    def get_tensor_dtype(self, name: str) -> DataType:
        return {"tensor(float)": DataType.FLOAT, "tensor(float16)": DataType.HALF}[self._known(name).type]

    @_strict
    def get_tensor_shape(self, name: str) -> Any:
        return tuple(size if isinstance(size, int) else -1 for size in self._known(name).shape)

    @_strict
    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Any]:
        return [list(shape) for shape in self._facts["shapes"][name]]

    def _known(self, name: str) -> Any:
        return {**self._inputs, **self._outputs}[name]


class Runtime:
    __slots__ = ("_logger",)

    @_strict
    def __init__(self, logger: ILogger) -> None:
        _check_logger(logger)
        self._logger = logger

    @_strict
    def deserialize_cuda_engine(self, serialized_engine: memoryview) -> ICudaEngine | None:
        data = bytes(serialized_engine)
        head, _, graph = data.partition(b"\n")
        if not head.startswith(_MAGIC):
            self._logger.log(ILogger.Severity.ERROR, "this is no engine")
            return None
        facts = json.loads(head[len(_MAGIC) :])
        if facts["tensorrt"] != __version__:
            self._logger.log(ILogger.Severity.ERROR, "the engine is of another version")
            return None
        options = onnx_runtime().SessionOptions()
        options.log_severity_level = 4
        session = onnx_runtime().InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        return _made(
            ICudaEngine,
            _facts=facts,
            _session=session,
            _inputs={value.name: value for value in session.get_inputs()},
            _outputs={value.name: value for value in session.get_outputs()},
        )


if not _ELEVEN:

    class IInt8Calibrator:
        pass


def _made(kind: Any, **members: Any) -> Any:
    """An object that only the library makes."""
    made = object.__new__(kind)
    for name, value in members.items():
        setattr(made, name, value)
    return made


def _check_logger(logger: ILogger) -> None:
    if "_made" not in logger.__dict__:
        raise TypeError("ILogger.__init__() must be called when overriding __init__")


def _at(address: int, shape: Any) -> np.ndarray:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)


def _went_through(monitor: Any) -> bool:
    """Reports phases as a build does, from a thread of its own, and whether it may go on."""
    if monitor is None:
        return True
    answers: list[Any] = []

    def report() -> None:
        monitor.phase_start("Building", None, 3)
        monitor.phase_start("Timing", "Building", 2)
        for step in range(1200 if "STAND_IN_TENSORRT_SLOW" in os.environ else 2):
            answers.append(monitor.step_complete("Timing", step))
            if answers[-1] is not True:
                return
            time.sleep(0.05 if "STAND_IN_TENSORRT_SLOW" in os.environ else 0)
        monitor.phase_finish("Timing")
        answers.extend(monitor.step_complete("Building", step) for step in range(3))
        monitor.phase_finish("Building")

    thread = threading.Thread(target=report)
    thread.start()
    thread.join()
    return all(answer is True for answer in answers)


def _complaints(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, str]]:
    graph = model.graph
    opset = max(entry.version for entry in model.opset_import)
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    types |= {name: tensor.data_type for name, tensor in constants.items()}
    found = []
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            found.append((node, "No importer registered for op"))
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = onnx.numpy_helper.to_array(constants[node.input[2]])
            if zero.dtype != np.int8 or zero.any():
                found.append((node, "TensorRT only supports symmetric quantization"))
        if node.op_type == "QuantizeLinear" and opset >= 19 and types[node.input[0]] != types[node.input[1]]:
            found.append((node, "the scale has another type than the input"))
    return found
