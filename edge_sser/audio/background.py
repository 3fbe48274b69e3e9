"""Work that takes milliseconds or for ever, as calls into sound libraries do when a sound server hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class BackgroundCall(Generic[T]):
    """A call in a thread of its own, which can be left behind. The thread does not keep the program from ending."""

    def __init__(self, work: Callable[[], T], *, name: str) -> None:
        """Starts it.

        Args:
            work: what to call.
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
        """Whether the call is back, with an error."""
        return self._error is not None

    def result(self, timeout_seconds: float) -> T | None:
        """What the call gave; None when it is not back within the timeout.

        Raises:
            Exception: what the call raised.
        """
        self._done.wait(timeout_seconds)
        if self._error is not None:
            raise self._error
        return self._result

    def leave(self, undo: Callable[[T], object]) -> None:
        """Nobody asks for the result any more.

        Args:
            undo: called with what the call gives, in its thread, should it ever come back; at once if it is back.
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
