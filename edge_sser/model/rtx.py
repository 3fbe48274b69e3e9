"""Differences of TensorRT for RTX: engines for a compute capability, and kernels that are compiled when they run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from edge_sser.errors import EdgeSserError, ModelError
from edge_sser.model.engine_file import read_trusted, write_cache_file

CAPABILITIES = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")  # Turing to Blackwell; an engine is for one
TURING = "sm75"  # has no INT8 convolutions here, and no FP32 matrix products

log = logging.getLogger("edge_sser.tensorrt")


def sm_name(capability: str) -> str:
    """Returns the name of a compute capability: `sm86` of `8.6`."""
    return "sm" + capability.replace(".", "")


def dotted(name: str) -> str:
    """Returns the number of a compute capability: `8.6` of `sm86`."""
    return f"{name[2:-1]}.{name[-1]}"


def prepare_build(trt: Any, network: Any, config: Any, capability: str) -> None:
    """Sets the capability of an engine, and asks for the list of its layers.

    Args:
        trt: the package.
        network: the parsed network; changed for Turing.
        config: of the build.
        capability: as `sm86`.
    """
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, capability.upper()), 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if capability == TURING:
        _replace_matrix_products(trt, network)


def _replace_matrix_products(trt: Any, network: Any) -> None:
    """Replaces FP32 products of two matrices by sums of products, which is exact and slow only for large ones."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type != trt.LayerType.MATRIX_MULTIPLY or layer.get_input(0).dtype != trt.float32:
            continue
        left, right, product = layer.get_input(0), layer.get_input(1), layer.get_output(0)
        if len(left.shape) != 2 or len(right.shape) != 2 or product.is_network_output:
            continue
        layer.__class__ = trt.IMatrixMultiplyLayer  # `get_layer` gives the base class
        # [rows, 1, shared] times [1, columns, shared]
        left = _turned(trt, network, left, layer.op0 == trt.MatrixOperation.TRANSPOSE, axis=1)
        right = _turned(trt, network, right, layer.op1 == trt.MatrixOperation.NONE, axis=0)
        products = network.add_elementwise(left, right, trt.ElementWiseOperation.PROD).get_output(0)
        total = network.add_reduce(products, trt.ReduceOperation.SUM, 1 << 2, False).get_output(0)
        for consumer in map(network.get_layer, range(network.num_layers)):
            for place in range(consumer.num_inputs):
                given = consumer.get_input(place)
                if given is not None and given.name == product.name:
                    consumer.set_input(place, total)


def _turned(trt: Any, network: Any, tensor: Any, transpose: bool, *, axis: int) -> Any:
    """Adds an axis to a matrix, after transposing it where asked."""
    if transpose:
        shuffle = network.add_shuffle(tensor)
        shuffle.first_transpose = (1, 0)
        tensor = shuffle.get_output(0)
    axes = network.add_constant((1,), np.array([axis], dtype=np.int64)).get_output(0)
    return network.add_unsqueeze(tensor, axes).get_output(0)


class JitCache:
    """Kernels of an engine, compiled for this GPU at the first run and kept beside the engine."""

    def __init__(self, engine: Any, path: Path) -> None:
        """Reads the cache. One that is missing, damaged, or of another GPU or driver is made again.

        Args:
            engine: of the package.
            path: of the cache.
        """
        self._path = path
        self._config = engine.create_runtime_config()
        self._cache = self._config.create_runtime_cache()
        try:
            self._stored = read_trusted(path)
        except EdgeSserError as miss:
            self._stored = b""
            log.debug("%s", miss)
        if self._stored and not self._cache.deserialize(self._stored):
            log.info("%s: damaged, or of another GPU or driver: the kernels are compiled again", path)
        self._config.set_runtime_cache(self._cache)

    def create_context(self, engine: Any) -> Any:
        """Creates an execution context that takes its kernels from the cache."""
        return engine.create_execution_context(runtime_config=self._config)

    def save(self) -> None:
        """Writes the cache if kernels were compiled. A folder that cannot be written costs time at the next start."""
        content = bytes(self._cache.serialize())
        if content != self._stored:
            try:
                write_cache_file(self._path, content)
                self._stored = content
            except ModelError as error:
                log.info("%s; the next start compiles the kernels again", error)
