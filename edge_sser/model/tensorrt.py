"""The package tensorrt, where it is installed, and its messages in the program's log."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from typing import Any

log = logging.getLogger("edge_sser.tensorrt")


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
