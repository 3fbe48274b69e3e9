"""The libraries that build and run engines: TensorRT, and TensorRT for RTX with the same classes.

| | TensorRT | TensorRT for RTX |
|---|---|---|
| comes with | JetPack, or pip | pip, x86-64 |
| engine | kernels of one GPU, chosen by timing them | code for one compute capability; the driver finishes it |
| built | on the machine that runs it | anywhere, without a GPU |
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from typing import Any

from edge_sser.errors import short

log = logging.getLogger("edge_sser.tensorrt")


@dataclass(frozen=True, slots=True)
class Library:
    """A library for engines.

    Attributes:
        name: for messages.
        package: of its Python bindings, which have no stubs.
        target: its name as an extra, and for `edge-sser export --target`.
        oldest, newest: versions whose interface this code was written against.
        origin: where it comes from.
    """

    name: str
    package: str
    target: str
    oldest: tuple[int, int]
    newest: tuple[int, int]
    origin: str

    @property
    def is_installed(self) -> bool:
        """True when the bindings are installed; nothing is imported."""
        return find_spec(self.package) is not None

    def load(self) -> Any:
        """Imports the bindings.

        Raises:
            ImportError: the bindings or their libraries are not installed, or twice, for two versions of CUDA; or
                this code was written against other versions.
            Exception: of several unrelated classes, when they are broken.
        """
        if self is RTX:
            names = {str(each.metadata["Name"]).replace("_", "-") for each in distributions()}
            wheels = sorted(name for name in names if name.startswith("tensorrt-rtx-cu") and name.endswith("-libs"))
            if len(wheels) > 1:  # their files overwrite each other's
                raise ImportError(f"{' and '.join(wheels)} are both installed: pip uninstall all tensorrt-rtx-cu*")
        package = import_module(self.package)
        if not self.oldest <= tuple(int(part) for part in package.__version__.split(".")[:2]) <= self.newest:
            expected = f"expected {self.oldest[0]}.{self.oldest[1]} to {self.newest[0]}"
            raise ImportError(f"{self.name} {package.__version__} is here, {expected}: update it, or edge-sser")
        return package

    def why_unusable(self) -> str:
        """Returns the reason why the bindings cannot be used; empty when they can."""
        if not self.is_installed:
            return "not installed"
        try:
            self.load()
        except Exception as error:  # a broken library can raise anything
            return short(error)
        return ""


TENSORRT = Library("TensorRT", "tensorrt", "tensorrt", (10, 3), (11, 99), "JetPack 6 and newer bring it")
RTX = Library("TensorRT for RTX", "tensorrt_rtx_bindings", "tensorrt-rtx", (1, 7), (1, 99), "x86-64 Linux only")
LIBRARIES = (TENSORRT, RTX)  # best first


@cache
def make_logger(trt: Any) -> Any:
    """Makes the `ILogger` of a package, which writes to the program's log. The package takes one a process.

    Args:
        trt: the package.

    Returns:
        The logger. Its attribute `last_error` is a line for a person, empty without an error; `messages` is None,
        or a list that takes severity and text of all messages.
    """

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error = ""
            self.messages: list[tuple[int, str]] | None = None

        def log(self, severity: Any, msg: str) -> None:
            """Logs a message. TensorRT calls it from any thread; it must not raise."""
            if self.messages is not None:
                self.messages.append((int(severity), msg))
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.last_error = msg
                log.info("%s", msg)  # the caller raises with an explanation
            else:
                log.debug("%s", msg)

    return Logger()
