"""An output folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_sser.errors import ModelError, UsageError
from edge_sser.files import move_into_place, sync


@contextmanager
def tidied_on_sigterm() -> Iterator[None]:
    """SIGTERM ends what is inside as Ctrl-C does, so that it can remove what it made. For the main thread."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` to write into, which becomes `out` when all went well and is removed when not.

    Raises:
        UsageError: something stands at `out` already.
        ModelError: the folder cannot be written.
    """
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"--out {out}: the folder is not empty: choose another, or remove it first")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: a file of that name stands there: choose another folder")
    whole = out.resolve()  # a link would not be replaced by a folder
    if os.path.ismount(whole) or whole == Path.cwd():
        raise UsageError(f"--out {out}: this folder cannot be replaced: name a new one in it, as {out / 'models'}")
    aside = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    try:
        with tidied_on_sigterm():
            try:
                aside.mkdir(parents=True)
                yield aside
                for path in aside.rglob("*"):
                    sync(path)
                move_into_place(aside, whole)  # over an empty folder, too
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise ModelError(f"--out {out}: cannot be written ({error.strerror or error}): choose another folder") from None
