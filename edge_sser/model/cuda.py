"""The few functions of the CUDA driver that running an engine needs.

They are called through ctypes, because every machine with a working GPU has the driver's library, a fresh Jetson too:
one name (libcuda.so.1), and functions that are the same since CUDA 4. The package cuda-python is not part of JetPack,
moved its modules between versions and depends on the version of the toolkit. libcudart changes its name with each major
version and may be missing from the loader's path.

TensorRT uses CUDA's runtime, which works in the device's primary context. So does this module, and both share addresses
and streams.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.errors import EdgeSserError, short

LIBRARY = "libcuda.so.1"
_STREAM_NON_BLOCKING = 1  # does not wait for work on the default stream
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # of CUdevice_attribute
_NAME_BYTES = 256

# cuda.h: functions with an address or a size of 64 bits have _v2 in their name.
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (POINTER(c_void_p), c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
}


class CudaError(EdgeSserError):
    """No GPU can be used, or the GPU failed."""


class Cuda:
    """The first GPU: memory and a stream of its own.

    Attributes:
        name: of the GPU.
        capability: compute capability, as `8.7`.
        stream: handle of the stream for copies; TensorRT queues its work there too.
    """

    def __init__(self) -> None:
        """Opens the first GPU.

        Raises:
            CudaError: no driver, or no GPU.
        """
        try:
            library = ctypes.CDLL(LIBRARY)
            self._functions = {name: getattr(library, name) for name in _SIGNATURES}
        except (OSError, AttributeError) as error:
            raise CudaError(f"no NVIDIA driver can be loaded ({short(error)})") from None
        for name, function in self._functions.items():
            function.argtypes = _SIGNATURES[name]
            function.restype = c_int
        self._addresses: list[int] = []
        self._closed = False
        device, context, stream = c_int(), c_void_p(), c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", byref(device), 0)
        self._device = device.value
        text = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGetName", text, _NAME_BYTES, self._device)
        self.name = text.value.decode(errors="replace")
        self.capability = f"{self._attribute(_CAPABILITY_MAJOR)}.{self._attribute(_CAPABILITY_MINOR)}"
        self._call("cuDevicePrimaryCtxRetain", byref(context), self._device)
        self._context = context
        self.use()
        self._call("cuStreamCreate", byref(stream), _STREAM_NON_BLOCKING)
        self._stream = stream
        self.stream = stream.value or 0

    def use(self) -> None:
        """Makes the GPU current in the calling thread. Every thread must call it before any other method."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Allocates memory on the GPU and returns its address.

        Args:
            size: bytes.
        """
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), size)
        self._addresses.append(address.value)
        return address.value

    def upload(self, address: int, values: NDArray[np.float32]) -> None:
        """Queues a copy to the GPU. Memory that is not pinned is read before the method returns.

        Args:
            address: destination on the GPU.
            values: source, contiguous.
        """
        self._call("cuMemcpyHtoDAsync_v2", address, values.ctypes.data, values.nbytes, self._stream)

    def download(self, values: NDArray[np.float32], address: int) -> None:
        """Queues a copy from the GPU, which is complete after `synchronize`.

        Args:
            values: destination, contiguous; must live until then.
            address: source on the GPU.
        """
        self._call("cuMemcpyDtoHAsync_v2", values.ctypes.data, address, values.nbytes, self._stream)

    def synchronize(self) -> None:
        """Waits for all queued work."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Frees memory, stream and context. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.use()
        while self._addresses:
            self._call("cuMemFree_v2", self._addresses.pop())
        self._call("cuStreamDestroy_v2", self._stream)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _attribute(self, number: int) -> int:
        value = c_int()
        self._call("cuDeviceGetAttribute", byref(value), number, self._device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        status = self._functions[name](*arguments)
        if status != 0:
            text = c_char_p()
            self._functions["cuGetErrorName"](status, byref(text))
            raise CudaError(f"{name}: {(text.value or b'error').decode(errors='replace')} ({status})")
