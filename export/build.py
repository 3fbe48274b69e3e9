"""Builds an engine from a graph with TensorRT's parser and builder."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edge_sser.errors import ModelError, short
from edge_sser.model.engine_file import write_cache_file
from edge_sser.model.model import Model
from edge_sser.model.rtx import prepare_build
from edge_sser.model.tensorrt_backend import MAX_BATCH
from edge_sser.model.tensorrt_library import Library, make_logger
from edge_sser.pipeline.features import FEATURES

TIMINGS = "timings.cache"  # timings of kernels on this machine: makes the next build quicker
PROGRESS_SECONDS = 5.0
_LAYER = re.compile(r"^Name: .*?, LayerType: (\w+), Inputs: \[ \{.*?Datatype: (\w+)", re.MULTILINE)
_KINDS = {"correlation": "convolutions", "gemm": "matrix products", "runtime_fusion": "matrix products"}
_TYPES = {"Float": "FP32", "Half": "FP16", "Int8": "INT8"}


class EngineBuilder:
    """Builds engines, with calls that TensorRT 10.3 to 11 and TensorRT for RTX have in common."""

    def __init__(
        self, trt: Any, library: Library, progress: Callable[[str], None], timings: Path, workspace_mib: int | None
    ) -> None:
        self.trt = trt
        self.library = library
        self.progress = progress
        self._timings = timings
        self._workspace_mib = workspace_mib
        self._logger = make_logger(trt)
        self._stopped = threading.Event()
        self.messages: list[tuple[int, str]] = []  # severity and text, of the last build

    def run(self, reference: Model, capability: str) -> tuple[bytes, str]:
        """Builds an engine.

        Args:
            reference: the model.
            capability: as `sm86`, for TensorRT for RTX.

        Returns:
            The engine as the library serialised it, and its layers as `describe_layers` gives them.
        """
        trt, name = self.trt, self.library.name
        self._logger.last_error = ""
        self.messages = self._logger.messages = []
        builder = trt.Builder(self._logger)
        # All types come from the graph. From version 11 on this is the only mode, and the flag is ignored.
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(reference.path.read_bytes()):
            raise ModelError(f"model {reference.path}: {name} cannot read it ({self._parser_error(parser)})")
        config = builder.create_builder_config()
        if self._workspace_mib is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, self._workspace_mib << 20)
        profile = builder.create_optimization_profile()
        one, most = ((batch, FEATURES.frames, FEATURES.bands) for batch in (1, MAX_BATCH))
        profile.set_shape(reference.card.input, one, one, most)
        if config.add_optimization_profile(profile) < 0:
            raise ModelError(f"model {reference.path}: {name} does not take windows of {list(one)}")
        if capability:
            prepare_build(trt, network, config, capability)
        cache = None if capability else self._read_timings(config)  # TensorRT for RTX times nothing
        monitor = _make_monitor(trt, self.progress, self._stopped)
        config.progress_monitor = monitor
        try:
            engine = self._build(builder, network, config)
        finally:
            self._logger.messages = None
        if engine is None:
            raise ModelError(
                f"model {reference.path}: {name} could not build an engine{capability and ' for '}{capability} "
                f"({self._last_error()}): with little memory, try --workspace-mib 256"
            )
        if cache is not None:
            self._write_timings(cache)
        return bytes(engine), describe_layers(self.messages)

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
            self.progress("stopping at the next step")
            thread.join()
            raise
        if isinstance(results[0], Exception):
            raise ModelError(f"{self.library.name} failed ({short(results[0])})") from results[0]
        return results[0]

    def _parser_error(self, parser: Any) -> str:
        for index in range(parser.num_errors):
            error = parser.get_error(index)
            lines = error.desc().splitlines()
            reason = next((line for line in lines if line and not line.startswith("Invalid Node")), error.desc())
            return short(f"node {error.node_name()} ({error.node_operator()}): {_without_codes(reason)}")
        return self._last_error()

    def _last_error(self) -> str:
        return short(_without_codes(self._logger.last_error) or "no reason given")

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
            self.progress(f"{error}; the next build starts without timings")


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


def _without_codes(message: str) -> str:
    """Leaves out where in the library an error arose, which would be all that fits into a line."""
    return re.sub(r"^.*?Error Code \d+: [^(]*\((\[[^]]*\] )?", "", message)


def describe_layers(messages: Sequence[tuple[int, str]]) -> str:
    """Counts the types that convolutions and matrix products compute in, from TensorRT for RTX's list of layers.

    Returns:
        `convolutions: 9 in INT8; matrix products: 1 in INT8`; empty where there is no such list.
    """
    counts: dict[str, Counter[str]] = {}
    for _, message in messages:
        for kind, number in _LAYER.findall(message):
            if kind in _KINDS:
                counts.setdefault(_KINDS[kind], Counter())[_TYPES.get(number, number)] += 1
    return "; ".join(
        f"{kind}: {', '.join(f'{count} in {number}' for number, count in types.most_common())}"
        for kind, types in counts.items()
    )
