"""Components of tests beyond Python packages: without one the test is skipped with the remedy, or failed where told."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
from typing import Any

import pytest


def require(present: bool, remedy: str) -> None:
    """Skips the test with the remedy unless the component is present; fails it when EDGE_SSER_REQUIRE_ALL=1."""
    if present:
        return
    if os.environ.get("EDGE_SSER_REQUIRE_ALL") == "1":
        pytest.fail(remedy, pytrace=False)
    pytest.skip(remedy)


def require_programs(*programs: str, packages: str) -> None:
    """Requires programs on the path; `packages` are the Debian packages that bring them."""
    missing = [program for program in programs if shutil.which(program) is None]
    require(not missing, f"{', '.join(missing)} not found: apt install {packages}")


def require_package(package: str, extra: str) -> Any:
    """Imports a Python package; skips or fails as `require` without it."""
    require(importlib.util.find_spec(package.partition(".")[0]) is not None, f'pip install "edge-sser[{extra}]"')
    return importlib.import_module(package)


def require_transformers() -> None:
    """Requires transformers, and mends torchvision first, which transformers imports where it is installed."""
    require(importlib.util.find_spec("transformers") is not None, 'pip install "edge-sser[teacher]"')
    if importlib.util.find_spec("torchvision") is not None:
        from edge_sser.train.students.references.images import import_torchvision

        import_torchvision()


def require_pyaudio() -> None:
    """Requires the package that records."""
    require(
        importlib.util.find_spec("pyaudio") is not None,
        'PyAudio not found: apt install portaudio19-dev gcc python3-dev, then pip install "edge-sser[mic]"',
    )


def require_tensorrt_rtx() -> None:
    """Requires NVIDIA's parser and builder."""
    present = importlib.util.find_spec("tensorrt_rtx_bindings") is not None
    require(present, 'TensorRT for RTX not found: pip install "edge-sser[tensorrt-rtx]" (x86-64 Linux)')


def require_strace() -> None:
    """Requires strace, and the right to trace."""
    require_programs("strace", packages="strace")
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    require(tried.returncode == 0, "strace may not trace here: allow ptrace (in Docker: --cap-add=SYS_PTRACE)")
