"""ONNX Runtime, kept from talking to anybody."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any


def onnx_runtime() -> Any:
    """The module onnxruntime, imported with its telemetry off.

    As of 1.31 its Linux builds keep a database of events below ~/.cache, and carry what uploads it. That costs
    a thread, and breaks the promise that nothing but the broker is contacted. The switch is read when the library is
    loaded, so nothing else in the project may import it.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    return import_module("onnxruntime")
