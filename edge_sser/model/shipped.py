"""The model files that ship: the default network in three forms, and the larger one for processors."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edge_sser.errors import is_bare, unknown_name
from edge_sser.settings.schema import Runtime

DEFAULT_MODEL = "sser-cnn.onnx"  # FP32, which every runtime takes
INT8_MODEL = "sser-cnn.int8.onnx"  # for ONNX Runtime on a CPU
TENSORRT_MODEL = "sser-cnn.int8-tensorrt.onnx"  # to build engines from
PLUS_MODEL = "sser-plus.int8.onnx"
NAMES = {"sser-cnn": None, "sser-plus": PLUS_MODEL}
"""File of each model that can be given by name; None: the form of the default that suits the backend."""


def models_folder() -> Path:
    """Returns the folder of the shipped model files."""
    return Path(str(resources.files("edge_sser") / "data" / "models"))


def named_model(path: Path | None) -> Path | None:
    """Returns the file of a model that ships for its name; any other path as it is. None: the default."""
    if path is None or str(path) not in NAMES:
        return path
    name = NAMES[str(path)]
    return models_folder() / name if name else None


def unreadable_text(path: Path, error: OSError | ValueError) -> str:
    """Returns the message on a model file that cannot be read, or on a name that no model has.

    Args:
        path: the file or name.
        error: of reading it.
    """
    if is_bare(str(path)) and isinstance(error, FileNotFoundError):
        return unknown_name("model", str(path), list(NAMES), "an .onnx file")
    reason = getattr(error, "strerror", None) or error
    return f"model {path}: {reason}: give an .onnx file made by edge-sser export, or {' or '.join(NAMES)}"


def default_model_path() -> Path:
    """Returns the path of the FP32 file."""
    return models_folder() / DEFAULT_MODEL


def trainable_model(path: Path) -> Path:
    """Returns an existing path as it is; else as `named_model`, with the FP32 file for the default's name."""
    return path if path.exists() else named_model(path) or default_model_path()


def shipped_for_engines() -> list[Path]:
    """Returns the files that an engine could have been built from, best first."""
    folder = models_folder()
    return [folder / name for name in (TENSORRT_MODEL, DEFAULT_MODEL) if (folder / name).exists()]


def shipped_for(provider: Runtime) -> Path:
    """Returns the file for a provider of ONNX Runtime: INT8 for the processor, FP32 for the others."""
    int8 = models_folder() / INT8_MODEL
    return int8 if provider is Runtime.CPU and int8.exists() else default_model_path()
