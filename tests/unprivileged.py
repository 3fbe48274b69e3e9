"""An ordinary user, for tests that root would pass whatever the permissions are."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65_534


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Goes on as nobody where the tests run as root. What is imported or opened meanwhile, nobody must reach."""
    if os.getuid() != 0:
        yield
        return
    groups, group = os.getgroups(), os.getgid()
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, group)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(group, group, group)
        os.setgroups(groups)


@contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder that everybody may look into, as those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="open-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
