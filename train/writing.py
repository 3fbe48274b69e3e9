"""Files under whose name there is always something whole: they are written aside, and then take their place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_sser.errors import TrainingError


@contextmanager
def written(path: Path, errors: tuple[type[Exception], ...] = (OSError,)) -> Iterator[Path]:
    """Gives the place to write to, in a folder that is made if need be; what is there in the end becomes `path`.

    Args:
        path: of the file. What stood there before stays when anything goes wrong.
        errors: that mean that it cannot be written.

    Raises:
        TrainingError: the disk is full, or the folder cannot be written.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except errors as error:
        reason = getattr(error, "strerror", None) or error
        raise TrainingError(
            f"{path}: cannot be written ({reason}): make room or choose another place; what stood there stays"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Writes a file of text in UTF-8; errors as for `written`."""
    with written(path) as aside:
        aside.write_text(text, encoding="utf-8")
