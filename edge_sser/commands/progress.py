"""Progress of long work, on standard error: a bar with the time left on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress

LINE_SECONDS: Final = 60.0  # between two lines where there is no terminal


class Work:
    """Work that goes on unseen.

    Args:
        label: in a word or two.
        total: all of the work, in any unit; None when it is not known.
    """

    def __init__(self, label: str, total: float | None) -> None:
        self._label, self._total = label, total
        self._done = 0.0
        self._begun = self._told = time.monotonic()

    def expect(self, total: float) -> None:
        """Sets the total, when it is known only later."""
        self._total = total

    def advance(self, done: float = 1.0) -> None:
        """Adds finished work; prints a line when a minute has passed."""
        self._done += done
        now = time.monotonic()
        if now - self._told < LINE_SECONDS or sys.stderr is None:
            return
        self._told = now
        text = f"{(now - self._begun) / 60.0:.0f} min so far"
        if self._total and self._done:
            left = (now - self._begun) * max(0.0, self._total / self._done - 1.0)
            text = f"{min(1.0, self._done / self._total):.0%}, about {max(1.0, left / 60.0):.0f} min left"
        print(f"edge-sser: {self._label}: {text}", file=sys.stderr)

    @contextmanager
    def part(self, size: float) -> Iterator[Callable[[float], None]]:
        """Yields the `advance` of a part of the work, which counts as whole at the end, also after an error."""
        left = size

        def advance(done: float) -> None:
            nonlocal left
            self.advance(min(done, left))
            left -= min(done, left)

        try:
            yield advance
        finally:
            advance(left)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Leaves the terminal to other output meanwhile."""
        yield


class _Bar(Work):
    """Work with a bar on a terminal."""

    def __init__(self, label: str, total: float | None, bar: Progress) -> None:
        super().__init__(label, total)
        self._bar = bar
        self._task = bar.add_task(label, total=total or None)

    def expect(self, total: float) -> None:
        """Sets the total."""
        self._bar.update(self._task, total=total)

    def advance(self, done: float = 1.0) -> None:
        """Moves the bar."""
        self._bar.advance(self._task, done)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Takes the bar away meanwhile."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


@contextmanager
def progress(label: str, total: float | None = None) -> Iterator[Work]:
    """Yields work to advance; arguments as for `Work`."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield Work(label, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # Standard output stays as it is: rich would send it to standard error.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, refresh_per_second=2) as bar:
        yield _Bar(label, total, bar)
