"""TensorRT engines on disk: a cache, keyed by everything that an engine depends on.

An engine is machine code for one GPU, or one compute capability, and one version of TensorRT. Its file begins with a
line of JSON, which holds the key, the model's card and the sha256 of the rest. `edge-sser export` writes the file; all
other commands read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edge_sser.errors import ModelError, SettingsError, short
from edge_sser.files import cache_directory, write_file

FORMAT = 1  # of the file
FOLDER_MODE, _FILE_MODE = 0o755, 0o644  # root builds for a service that runs as somebody else


class EngineMissError(ModelError):
    """No engine can be used. The message gives the reason.

    Attributes:
        refused: True when a file is present but cannot be used, which deserves a warning.
    """

    def __init__(self, reason: str, *, refused: bool = True) -> None:
        super().__init__(reason)
        self.refused = refused


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """Cache key of an engine: all its dependencies.

    Attributes:
        model_sha256: of the engine's model file.
        tensorrt: version of TensorRT; of TensorRT for RTX as `RTX 1.7.1.116`.
        gpu: name of the GPU; `any` for an engine of TensorRT for RTX.
        compute_capability: of the GPU.
        precision: of the model, from its card.
        batch: largest number of windows at once.
    """

    model_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    precision: str
    batch: int

    def difference(self, other: EngineKey) -> str:
        """Describes the first field that differs; empty when the keys are equal."""
        for field in fields(self):
            ours, theirs = getattr(self, field.name), getattr(other, field.name)
            if ours != theirs:
                return f"its {field.name} is {short(ours)}, here {short(theirs)}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """An engine with its header.

    Attributes:
        key: everything that the engine depends on.
        card: of the model, as JSON from the model file.
        data: the engine as TensorRT serialised it.
    """

    key: EngineKey
    card: str
    data: bytes


def engines_folder(given: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder of engines: from the settings, else the cache from systemd, else the user's (XDG).

    Raises:
        EngineMissError: none of them is known.
    """
    if given is not None:
        return Path(os.path.expanduser(given))
    try:
        return cache_directory(environ) / "engines"
    except SettingsError:
        raise EngineMissError("there is no place for engines: set model.engines or HOME", refused=False) from None


def engine_path(folder: Path, model_sha256: str, capability: str = "") -> Path:
    """Returns the path of a model's engine: one of TensorRT for this GPU, and one of RTX a capability, as `sm86`."""
    return folder / f"{model_sha256[:16]}{capability and '.'}{capability}.engine"


def read_engine(path: Path, model_sha256: str) -> EngineFile:
    """Reads the engine of a model and checks that it is whole.

    Raises:
        EngineMissError: the file is missing, unreadable, damaged or of another model, or another user could have
            written it.
    """
    header, _, data = read_trusted(path).partition(b"\n")
    try:
        values = json.loads(header)
        if values["edge_sser_engine"] != FORMAT:
            raise ValueError("of another version")
        key = EngineKey(**values["key"])
        sha256, card = values["sha256"], values["card"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise EngineMissError(f"{path}: it is damaged, or no engine of this version") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise EngineMissError(f"{path}: it is damaged: its sha256 is not what its header says")
    if key.model_sha256 != model_sha256:
        raise EngineMissError(f"{path}: it was built from another model file")
    return EngineFile(key=key, card=str(card), data=data)


def read_trusted(path: Path) -> bytes:
    """Reads machine code that will be run.

    Raises:
        EngineMissError: the file is missing or unreadable, or another user could have written it.
    """
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise EngineMissError(f"{path}: it is no file: remove it, and build the engine again")
            if status.st_mode & 0o022 or status.st_uid not in (0, os.geteuid()):  # root's are trusted as the program is
                raise EngineMissError(f"{path}: another user could have written it: chmod go-w, or build it again")
            return file.read()
    except FileNotFoundError:
        raise EngineMissError(f"there is no {path}", refused=False) from None
    except OSError as error:
        raise EngineMissError(f"{path}: {error.strerror or error}") from None


def _open_nonblocking(path: str, flags: int) -> int:
    """Opens a file without waiting for a writer, in case a pipe has its name."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_engine(path: Path, engine: EngineFile) -> None:
    """Writes an engine atomically.

    Raises:
        ModelError: the file cannot be written; nothing half-written remains.
    """
    header: dict[str, Any] = {
        "edge_sser_engine": FORMAT,
        "key": asdict(engine.key),
        "sha256": hashlib.sha256(engine.data).hexdigest(),
        "card": engine.card,
    }
    write_cache_file(path, json.dumps(header).encode() + b"\n" + engine.data)


def write_cache_file(path: Path, content: bytes) -> None:
    """Writes a file of the cache atomically.

    Raises:
        ModelError: the file cannot be written.
    """
    remedy = "give --engines a folder that can"
    write_file(path, content, ModelError, remedy, mode=_FILE_MODE, folder_mode=FOLDER_MODE)
