"""Atomic replacement of files, text in spreadsheets, and the folders for state and cache."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edge_sser.errors import EdgeSserError, SettingsError, UsageError

_FORMULA = re.compile(r"'*[=+\-@\t\r]")  # beginning of a cell that a spreadsheet runs, or of one made safe
REMEDY = "make room or choose another place; the old file is unchanged"


@contextmanager
def atomic_replace(
    path: Path,
    error: type[EdgeSserError],
    remedy: str = REMEDY,
    *,
    mode: int | None = None,
    folder_mode: int | None = None,
) -> Iterator[Path]:
    """Yields a temporary file beside `path`, which replaces `path` when the block ends and is removed when it fails.

    The content is on the disk before the name changes. A symbolic link at `path` is replaced, not its target.

    Args:
        path: file to replace or create. A missing folder is created.
        error: class of the error when the file cannot be written.
        remedy: advice that ends the message.
        mode: permissions, independent of the umask; None for those of the file at `path`, or of the umask.
        folder_mode: permissions of the folder if it is created.

    Raises:
        EdgeSserError: the file cannot be written; of the class `error`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        make_folder(path.parent, folder_mode)
        mode = _file_mode(path) if mode is None else mode
        try:
            temporary.unlink(missing_ok=True)  # of a killed process with the same id
            # Private at first: a program that opens the file early could read content written later.
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600))
            yield temporary
            if mode is not None:
                temporary.chmod(mode)
            move_into_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
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
    with atomic_replace(path, error, remedy, mode=mode, folder_mode=folder_mode) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_folder(out: Path, error: type[EdgeSserError]) -> Iterator[Path]:
    """Yields a temporary folder beside `out`, which becomes `out` when the block ends and is removed when it fails.

    Args:
        out: folder to create, from the option --out; may exist if it is empty.
        error: class of the error when the folder cannot be written.

    Raises:
        UsageError: `out` is a file, a folder with files, or a folder that cannot be replaced.
        EdgeSserError: the folder cannot be written; of the class `error`.
    """
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"--out {out}: the folder is not empty: choose another, or remove it first")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: a file of that name stands there: choose another folder")
    target = out.resolve()  # a link would not be replaced by a folder
    if os.path.ismount(target) or target == Path.cwd():
        raise UsageError(f"--out {out}: this folder cannot be replaced: name a new one in it, as {out / 'models'}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with sigterm_as_interrupt():
            try:
                temporary.mkdir(parents=True)
                yield temporary
                for path in temporary.rglob("*"):
                    sync(path)
                move_into_place(temporary, target)  # over an empty folder, too
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as failure:
        raise error(f"--out {out}: cannot be written ({failure.strerror or failure}): choose another folder") from None


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Turns SIGTERM into KeyboardInterrupt within the block, so that temporary files are removed. Main thread only."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def move_into_place(temporary: Path, path: Path) -> None:
    """Replaces `path` by a file or folder on the same file system, so that a power cut leaves either of them whole.

    Raises:
        OSError: the file cannot be written or moved.
    """
    sync(temporary)
    os.replace(temporary, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk.

    Raises:
        OSError: the disk failed, or is full.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems have no fsync for folders
            raise
    finally:
        os.close(descriptor)


def make_folder(folder: Path, mode: int | None = None) -> None:
    """Creates a folder and its parents unless it exists.

    Args:
        folder: to create.
        mode: permissions, independent of the umask; None for those of the umask.

    Raises:
        OSError: the folder cannot be created.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent, mode)
    folder.mkdir(0o777 if mode is None else mode, exist_ok=True)
    if mode is not None:
        folder.chmod(mode)


def make_private_below_state(folder: Path) -> None:
    """Creates a folder and its parents unless it exists; for its owner only in and below the state directory.

    Raises:
        OSError: the folder cannot be created.
    """
    state = None
    with suppress(SettingsError):
        state = state_directory()
    make_folder(folder, 0o700 if state is not None and state in (folder, *folder.parents) else None)


def as_cell(value: Any) -> Any:
    """Returns a value for CSV: text that a spreadsheet would run as a formula gets an apostrophe in front.

    Examples:
        >>> as_cell("=1+1"), as_cell("plain"), as_cell(-3.5)
        ("'=1+1", 'plain', -3.5)
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def from_cell(text: str) -> str:
    """Returns the text that `as_cell` made a cell of.

    Examples:
        >>> from_cell("'=1+1"), from_cell("'quoted'")
        ('=1+1', "'quoted'")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder for state: from systemd, else the user's (XDG base directories).

    Raises:
        SettingsError: neither is known.
    """
    return _own_directory(environ, "STATE", ".local/state", "outbox and baselines")


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the folder for caches: from systemd, else the user's (XDG base directories).

    Raises:
        SettingsError: neither is known.
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
