"""ONNX Runtime as a backend, with one of its providers."""

from __future__ import annotations

import os
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import ModelError
from edge_sser.model.backend import Logits
from edge_sser.model.card import CARD_KEY, read_card
from edge_sser.model.graph_check import check_graph, read_metadata
from edge_sser.pipeline.features import FeatureParams
from edge_sser.settings.schema import Runtime

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = {
    Runtime.TENSORRT: "TensorrtExecutionProvider",
    Runtime.CUDA: "CUDAExecutionProvider",
    Runtime.CPU: "CPUExecutionProvider",
}  # best first


class OnnxBackend:
    """A model file in ONNX Runtime; see `Backend`.

    Attributes:
        provider: the provider that computes.
        card: of the model file.
    """

    def __init__(self, path: Path, data: bytes, *, runtime: Runtime, threads: int, features: FeatureParams) -> None:
        """Loads a graph.

        Args:
            path: for messages.
            data: content of the model file.
            runtime: a provider, or auto for the best that works.
            threads: of one inference.
            features: parameters of this program's features.

        Raises:
            ModelError: the provider is not in this ONNX Runtime, or the file has no card that fits.
            ValueError: the file holds more than a model needs; see `check_graph`.
            Exception: of several unrelated classes, when ONNX Runtime cannot load the graph.
        """
        self.card = read_card(read_metadata(data).get(CARD_KEY), path, features)  # it names a file for other programs
        check_graph(data)
        self._session = _session(data, runtime, threads)
        self.provider: str = self._session.get_providers()[0]
        self._check_shapes(path, features)
        self._outputs = list(self.card.outputs)

    def run(self, log_mel: NDArray[np.float32], *, limit_seconds: float | None = None) -> Logits:
        """Computes a batch; see `Backend.run`."""
        if limit_seconds is None:
            stress, emotions = self._session.run(self._outputs, {self.card.input: log_mel})
            return stress, emotions
        options = onnx_runtime().RunOptions()
        timer = threading.Timer(limit_seconds, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            stress, emotions = self._session.run(self._outputs, {self.card.input: log_mel}, options)
        finally:
            timer.cancel()
        return stress, emotions

    def close(self) -> None:
        """Does nothing: ONNX Runtime frees a session with its last reference."""

    def _check_shapes(self, path: Path, features: FeatureParams) -> None:
        card = self.card
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name for node in self._session.get_outputs()}
        shape = inputs[card.input].shape if card.input in inputs else None
        if shape is None or shape[1:] != [features.frames, features.bands] or not {*card.outputs} <= outputs:
            raise ModelError(f"model {path}: its inputs and outputs are not what its card says: export it again")


def onnx_runtime() -> Any:
    """Imports onnxruntime with its telemetry off.

    As of 1.31 its Linux builds keep a database of events below ~/.cache and upload it. That costs a thread, and breaks
    the promise that nothing but the broker is contacted. The library reads the variable while it loads, so no other
    code may import onnxruntime.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return import_module("onnxruntime")


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Returns the options of every session: a number of threads, quiet, exact in 8 bits.

    Processors without a dot product of 8-bit numbers (x86 without VNNI) add two products in 16 bits, which overflows:
    the logits of sser-plus moved by 0.15, all to one side. With the third entry ONNX Runtime keeps weights without a
    sign there, which cannot overflow, and takes 15 % more time; elsewhere it changes nothing.
    """
    options = onnx_runtime().SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A spinning thread pool costs 40 % of a core at ten inferences a second, at the same latency.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 4
    return options


def cpu_session(graph: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Loads a graph for the processor, as a device computes it; for export and training.

    Args:
        graph: serialised model.
        threads: of the CPU; 0: as many as it has.
    """
    return onnx_runtime().InferenceSession(graph, session_options(threads), providers=[PROVIDERS[Runtime.CPU]])


def present_providers() -> list[Runtime]:
    """Returns the providers in this ONNX Runtime, best first."""
    present = onnx_runtime().get_available_providers()
    return [runtime for runtime, name in PROVIDERS.items() if name in present]


def automatic_providers() -> list[Runtime]:
    """Returns the providers for `auto`, best first. TensorRT's would build an engine at every load."""
    return [runtime for runtime in present_providers() if runtime is not Runtime.TENSORRT]


def _session(data: bytes, runtime: Runtime, threads: int) -> onnxruntime.InferenceSession:
    """Loads a graph with a provider, or with the best one that works."""
    onnxruntime = onnx_runtime()
    present = present_providers()
    if runtime is not Runtime.AUTO and runtime not in present:
        raise ModelError(
            f"ONNX Runtime here has no {PROVIDERS[runtime]}, only "
            f"{', '.join(onnxruntime.get_available_providers())}: "
            "use --runtime auto, or install the onnxruntime build for this board"
        )
    # The processor always comes last. With it, a broken provider differs from a file that is no model.
    runtimes = automatic_providers() if runtime is Runtime.AUTO else [runtime, Runtime.CPU]
    providers = list(dict.fromkeys(PROVIDERS[each] for each in runtimes))
    options = session_options(threads)
    while True:
        try:
            # The fallback of ONNX Runtime prints to standard output, which is for events.
            session = onnxruntime.InferenceSession(data, options, providers=providers, enable_fallback=0)
            break
        except Exception:
            providers = providers[1:]
            if not providers:
                raise
    # ONNX Runtime leaves out a provider whose libraries cannot be loaded, without an error.
    if runtime is not Runtime.AUTO and session.get_providers()[0] != PROVIDERS[runtime]:
        raise ModelError(
            f"{PROVIDERS[runtime]} is in this ONNX Runtime and cannot be used here: use --runtime auto, or install the "
            "libraries of CUDA and TensorRT that this onnxruntime was built for"
        )
    return session
