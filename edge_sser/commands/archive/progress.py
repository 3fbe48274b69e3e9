"""Progress of an archive, by bytes: a bar on a terminal, else a line a minute."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Any, Final

import typer

from edge_sser.commands.archive.find import Item

LINE_SECONDS: Final = 60.0
_STEPS: Final = 10_000  # of the bar


class Progress:
    """Shows on standard error which share of the bytes is done, and the time left.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self._total = max(1, total)
        self._done = 0
        self._analyzed = 0.0
        self._drawn = 0
        self._began = self._told = time.monotonic()
        self._stack = ExitStack()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            bar: Any = typer.progressbar(length=_STEPS, label="analyze", file=sys.stderr)
            self._bar = self._stack.enter_context(bar)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def advance(self, done: float) -> None:
        """Adds bytes that were analysed, of batches that may not be done."""
        self._analyzed += done
        self._show()

    def finish(self, batch: tuple[Item, ...]) -> None:
        """Adds a batch that is done."""
        self._done += sum(item.size for item in batch)
        self._show()

    def _show(self) -> None:
        share = min(1.0, max(self._done, self._analyzed) / self._total)  # a cluster tells of whole batches only
        now = time.monotonic()
        if self._bar is not None:
            step = int(share * _STEPS)
            self._bar.update(step - self._drawn)
            self._drawn = step
        elif now - self._told >= LINE_SECONDS and share > 0.0:
            self._told = now
            left = (now - self._began) * (1.0 - share) / share
            print(f"edge-sser: {100 * share:.0f} % done, about {left / 60:.0f} min left", file=sys.stderr)
