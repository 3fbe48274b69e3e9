"""TensorRT engines on disk: a cache, keyed by everything that an engine depends on.

An engine is machine code for one GPU and one version of TensorRT. Its file begins with a line of JSON, which holds the
key, the model's card and the sha256 of the rest. `edge-sser export` writes it; what runs a model only reads it.
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
MAX_HEADER_BYTES = 1 << 20
FOLDER_MODE, _FILE_MODE = 0o755, 0o644  # root builds for a service that runs as somebody else


class EngineMissError(ModelError):
    """There is no engine that can be used. The message says why.

    Attributes:
        refused: a file is there, but cannot be used: worth a warning.
    """

    def __init__(self, reason: str, *, refused: bool = True) -> None:
        super().__init__(reason)
        self.refused = refused


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKey:
    """What an engine is for.

    Attributes:
        model_sha256: of the model file it was built from.
        tensorrt: version of TensorRT.
        gpu: name of the GPU.
        compute_capability: of the GPU.
        precision: of the model, as its card says.
        batch: most windows at once.
    """

    model_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    precision: str
    batch: int

    def difference(self, other: EngineKey) -> str:
        """The first thing that is not the same, in words; empty when all is."""
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if mine != theirs:
                return f"its {field.name} is {short(mine)}, here {short(theirs)}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFile:
    """An engine with its header.

    Attributes:
        key: what it is for.
        card: of the model, as it stands in the model file.
        data: what TensorRT serialised.
    """

    key: EngineKey
    card: str
    data: bytes


def engines_folder(given: Path | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """Where engines are: what the settings name, else the cache that systemd gives, else the user's (XDG).

    Raises:
        EngineMissError: there is none of them.
    """
    if given is not None:
        return Path(os.path.expanduser(given))
    try:
        return cache_directory(environ) / "engines"
    except SettingsError:
        raise EngineMissError("there is no place for engines: set model.engines or HOME", refused=False) from None


def engine_path(folder: Path, model_sha256: str) -> Path:
    """Where the engine of a model is. There is one a model: a board has one GPU and one TensorRT."""
    return folder / f"{model_sha256[:16]}.engine"


def read_engine(path: Path, model_sha256: str) -> EngineFile:
    """Reads an engine, if it is whole and of a model.

    Raises:
        EngineMissError: there is none, it cannot be read, it is damaged or of another model, or somebody else could
            have written it.
    """
    try:
        with open(path, "rb", opener=_at_once) as file:
            status = os.fstat(file.fileno())
            # Machine code that will be run. (Root's files are trusted as the program itself is.)
            if not stat.S_ISREG(status.st_mode):
                raise EngineMissError(f"{path}: it is no file: remove it, and build the engine again")
            if status.st_mode & 0o022 or status.st_uid not in (0, os.geteuid()):
                raise EngineMissError(f"{path}: another user could have written it: chmod go-w, or build it again")
            header = file.readline(MAX_HEADER_BYTES)
            data = file.read()
    except FileNotFoundError:
        raise EngineMissError(f"there is no {path}", refused=False) from None
    except OSError as error:
        raise EngineMissError(f"{path}: {error.strerror or error}") from None
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


def _at_once(path: str, flags: int) -> int:
    """Opens a file without waiting: a pipe in its place would have no end."""
    return os.open(path, flags | os.O_NONBLOCK)


def write_engine(path: Path, engine: EngineFile) -> None:
    """Writes an engine aside, and then in place.

    Raises:
        ModelError: it cannot be written; nothing half-written remains.
    """
    header: dict[str, Any] = {
        "edge_sser_engine": FORMAT,
        "key": asdict(engine.key),
        "sha256": hashlib.sha256(engine.data).hexdigest(),
        "card": engine.card,
    }
    write_aside(path, json.dumps(header).encode() + b"\n" + engine.data)


def write_aside(path: Path, content: bytes) -> None:
    """Writes a file of the cache whole or not at all.

    Raises:
        ModelError: it cannot be written.
    """
    remedy = "give --engines a folder that can"
    write_file(path, content, ModelError, remedy, mode=_FILE_MODE, folder_mode=FOLDER_MODE)
