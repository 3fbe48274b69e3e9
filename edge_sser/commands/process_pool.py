"""Pool of processes that end with the command that started them, and outlives the crash of one."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Generic, NoReturn, TypeVar

from edge_sser.errors import EdgeSserError

PR_SET_PDEATHSIG = 1  # linux/prctl.h

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """A call that a process of the pool makes."""

    run: Callable[[], Result]
    future: Future[Result]


class ProcessPool:
    """Processes that make calls. A call that ends its process (segmentation fault, out of memory) fails alone.

    An executor of the standard library fails all its calls when one process ends, and does not say which call was to
    blame. Those calls are made again, one at a time in a process of its own, and the one to blame fails again.

    Attributes:
        alone: True after a crash, while unfinished calls are made one at a time. The next `submit` ends it.
    """

    def __init__(self, processes: int) -> None:
        """Starts no process yet."""
        self.alone = False
        self._processes = processes
        self._executor = _executor(processes)

    def submit(self, run: Callable[[], Result]) -> Call[Result]:
        """Starts a call. While `alone`, take the results of all earlier calls first."""
        if self.alone:
            self._replace(self._processes)
            self.alone = False
        return Call(run, self._start(run))

    def result(self, call: Call[Result]) -> Result:
        """Returns the result of a call, in the order of `submit`; raises the error of the call.

        Raises:
            BrokenProcessPool: the call ends its process.
        """
        try:
            return call.future.result()
        except BrokenProcessPool:
            self.alone = True
        self._replace(1)
        return self._start(call.run).result()

    def close(self) -> None:
        """Ends all processes, whatever they do."""
        for process in multiprocessing.active_children():
            process.terminate()
        # With wait=False, the interpreter sometimes prints a traceback of the pool at its own end.
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _replace(self, processes: int) -> None:
        self.close()
        self._executor = _executor(processes)

    def _start(self, run: Callable[[], Result]) -> Future[Result]:
        with interrupts_blocked():
            try:
                return self._executor.submit(run)
            except BrokenProcessPool as error:  # an earlier call ended its process a moment ago
                failed: Future[Result] = Future()
                failed.set_exception(error)
                return failed


def has_shared_memory() -> bool:
    """Returns True when processes can share locks; a pool needs them. False in containers without /dev/shm."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError):  # ImportError: the system has no semaphores at all
        return False
    return True


@contextmanager
def process_pool(processes: int, sigterm_message: str) -> Iterator[ProcessPool]:
    """Yields a pool whose processes end with the block, and with this process.

    Raises:
        EdgeSserError: this process received SIGTERM; with `sigterm_message`.
    """
    pool = ProcessPool(processes)
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield pool
    except SystemExit:
        raise EdgeSserError(sigterm_message) from None
    finally:
        signal.signal(signal.SIGTERM, before)
        pool.close()


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Blocks SIGINT, also in processes that the block starts: Ctrl-C in a terminal reaches all, and is for the parent.

    A process could ignore SIGINT only after its imports, and would print a traceback when interrupted in them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _executor(processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # a fork would share running threads of ONNX Runtime
    return ProcessPoolExecutor(processes, context, initializer=_end_with_parent, initargs=(os.getpid(),))


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    """Handles SIGTERM: SystemExit passes all handlers of errors, so that files and processes are removed."""
    raise SystemExit


def _end_with_parent(parent: int) -> None:
    """Ends this process when its parent is killed, by PR_SET_PDEATHSIG (prctl(2)); it would wait for work for ever."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the line above
        os._exit(1)
