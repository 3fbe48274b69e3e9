"""Atomic replacement of files, and the folders for state and cache."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge_sser.errors import EdgeSserError, SettingsError

REMEDY = "make room or choose another place; what stood there stays"


@contextmanager
def atomic_replace(
    path: Path,
    error: type[EdgeSserError],
    remedy: str = REMEDY,
    *,
    mode: int | None = None,
    folder_mode: int | None = None,
) -> Iterator[Path]:
    """Yields an empty file beside `path`, which replaces `path` when the block ends, and is removed when it fails.

    The content is on the disk before the name changes. A symbolic link at `path` is replaced, its target left alone.

    Args:
        path: file to replace or create, in a folder that is made when missing.
        error: raised when the file cannot be written.
        remedy: advice that ends the message.
        mode: permissions, whatever the umask; by default those of the file at `path`, or what the umask allows.
        folder_mode: permissions of the folder if it is made.

    Raises:
        EdgeSserError: the file cannot be written; as `error` says.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        make_folder(path.parent, folder_mode)
        mode = _file_mode(path) if mode is None else mode
        try:
            aside.unlink(missing_ok=True)  # left behind by a killed process that had the same id
            # Private at first: whoever opens the file early could read what is written later.
            os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600))
            yield aside
            if mode is not None:
                aside.chmod(mode)
            move_into_place(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as failure:
        raise error(f"{path}: cannot be written ({failure.strerror or failure}): {remedy}") from None


def write_file(
    path: Path,
    content: str | bytes,
    error: type[EdgeSserError],
    remedy: str = REMEDY,
    *,
    mode: int | None = None,
    folder_mode: int | None = None,
) -> None:
    """Writes text in UTF-8, or bytes; arguments and errors as for `atomic_replace`."""
    with atomic_replace(path, error, remedy, mode=mode, folder_mode=folder_mode) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


def move_into_place(aside: Path, path: Path) -> None:
    """Replaces `path` by a file or folder on the same file system, so that a power cut leaves either of them whole.

    Raises:
        OSError: it cannot be written or moved.
    """
    sync(aside)
    os.replace(aside, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk.

    Raises:
        OSError: the disk failed, or is full.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system without fsync for folders, as some on a network
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int | None = None) -> None:
    """Makes a folder and its parents where it is missing.

    Args:
        folder: to make.
        mode: its permissions, whatever the umask; by default what the umask allows.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    folder.mkdir(0o777 if mode is None else mode, parents=True, exist_ok=True)
    if mode is not None:
        folder.chmod(mode)


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder for state: from systemd, else the user's (XDG base directories).

    Raises:
        SettingsError: there is neither.
    """
    return _own_directory(environ, "STATE", ".local/state", "the outbox")


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder for caches: from systemd, else the user's (XDG base directories).

    Raises:
        SettingsError: there is neither.
    """
    return _own_directory(environ, "CACHE", ".cache", "the cache")


def resolve_path(path: Path) -> Path:
    """Resolves a path of the settings: `~` is the home folder, and a relative path is below the state directory.

    Raises:
        SettingsError: the path is relative, and there is no state directory.
    """
    path = Path(os.path.expanduser(path))  # Path.expanduser fails for an unknown ~user
    return path if path.is_absolute() else state_directory() / path


def _own_directory(environ: Mapping[str, str], kind: str, below_home: str, purpose: str) -> Path:
    service = environ.get(f"{kind}_DIRECTORY", "").split(":")[0]
    if service:
        return Path(service)
    base = environ.get(f"XDG_{kind}_HOME", "")
    try:
        return (Path(base) if os.path.isabs(base) else Path.home() / below_home) / "edge-sser"
    except RuntimeError:
        raise SettingsError(f"no place for {purpose}: set {kind}_DIRECTORY or HOME") from None


def _file_mode(path: Path) -> int | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return stat.S_IMODE(status.st_mode) if stat.S_ISREG(status.st_mode) else None
