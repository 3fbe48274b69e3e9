"""Calls that take milliseconds or for ever, as into sound libraries when a sound server hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """A call in a daemon thread, which can be abandoned."""

    def __init__(self, work: Callable[[], T], *, name: str) -> None:
        """Starts the thread.

        Args:
            work: the function to call.
            name: of the thread, after the program's.
        """
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None
        self._undo: Callable[[T], object] | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        threading.Thread(target=self._run, name=f"edge-sser-{name}", daemon=True).start()

    @property
    def failed(self) -> bool:
        """True when the call has raised an error."""
        return self._error is not None

    def result(self, timeout_seconds: float) -> T | None:
        """Returns the call's result; None when the call has not returned within the timeout.

        Raises:
            Exception: the call's own.
        """
        self._done.wait(timeout_seconds)
        if self._error is not None:
            raise self._error
        return self._result

    def abandon(self, undo: Callable[[T], object]) -> None:
        """Gives up the result.

        Args:
            undo: called with the result when the call returns, in the call's thread; at once if it has returned.
        """
        with self._lock:
            if not self._done.is_set():
                self._undo = undo
                return
        if self._result is not None:
            undo(self._result)

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._done.set()
        if self._undo is not None and self._result is not None:
            self._undo(self._result)
