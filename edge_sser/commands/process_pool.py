"""Pool of processes that end with the command that started them, and outlives the crash of one."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Generic, NoReturn, TypeVar

from edge_sser.errors import EdgeSserError

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WATCH_SECONDS = 0.5  # between two looks at what the calls have reported
_SLOTS = 4096  # of reported work, one for each call in flight: a lock could be left behind by a killed process
_reported: ctypes.Array[ctypes.c_double] | None = None  # in a process of a pool
_slot = 0  # of the call that a process of a pool makes

_CONTEXT = multiprocessing.get_context("spawn")  # a fork would share running threads of ONNX Runtime

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Call(Generic[Result]):
    """A call that a process of the pool makes."""

    run: Callable[[], Result]
    future: Future[Result]
    slot: int
    size: float | None


class ProcessPool:
    """Processes that make calls. A call that ends its process (segmentation fault, out of memory) fails alone.

    An executor of the standard library fails all its calls when one process ends, and does not say which call was to
    blame. Those calls are made again, one at a time in a process of its own, and the one to blame fails again.

    Args:
        processes: number of processes.
        advance: told of the work of the calls, while `result` waits for them: of those in flight what they have
            told `report`, of each that has a result all of it. Less than 0 takes back what a crash has undone.

    Attributes:
        alone: True after a crash, while unfinished calls are made one at a time. The next `submit` ends it.
    """

    def __init__(self, processes: int, advance: Callable[[float], None] = lambda done: None) -> None:
        """Starts no process yet."""
        self.alone = False
        self._processes = processes
        self._advance = advance
        self._finished = self._told = 0.0
        self._submitted = 0
        self._in_flight: dict[int, float | None] = {}  # sizes of the calls, by slot
        self._work = _CONTEXT.RawArray(ctypes.c_double, _SLOTS)
        self._executor = _executor(processes, self._work)

    def submit(self, run: Callable[[], Result], size: float | None = None) -> Call[Result]:
        """Starts a call. While `alone`, take the results of all earlier calls first.

        Args:
            run: the call.
            size: work that it counts as when its result is in; None for what it has reported.
        """
        if self.alone:
            self._replace(self._processes)
            self.alone = False
        slot = self._submitted % _SLOTS
        self._submitted += 1
        self._in_flight[slot] = size
        return Call(run, self._start(run, slot), slot, size)

    def result(self, call: Call[Result]) -> Result:
        """Returns the result of a call, in the order of `submit`; raises the error of the call.

        Raises:
            BrokenProcessPool: the call ends its process; its work counts as not done.
        """
        done = 0.0
        try:
            result = self._awaited(call)
            done = self._work[call.slot] if call.size is None else call.size
            return result
        finally:
            self._in_flight.pop(call.slot, None)
            self._finished += done
            self._tell()

    def _awaited(self, call: Call[Result]) -> Result:
        try:
            return self._watched(call.future)
        except BrokenProcessPool:
            self.alone = True
        self._replace(1)
        return self._watched(self._start(call.run, call.slot))

    def _watched(self, future: Future[Result]) -> Result:
        """Waits for a result, and passes on what the calls report meanwhile."""
        finished = False
        while not finished:
            finished = bool(wait([future], timeout=WATCH_SECONDS).done)
            self._tell()
        return future.result()

    def _tell(self) -> None:
        """Passes on the work done since the last time."""
        done = self._finished
        for slot, size in self._in_flight.items():
            done += self._work[slot] if size is None else min(self._work[slot], size)
        self._advance(done - self._told)
        self._told = done

    def close(self) -> None:
        """Ends all processes, whatever they do."""
        for process in multiprocessing.active_children():
            process.terminate()
        # With wait=False, the interpreter sometimes prints a traceback of the pool at its own end.
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _replace(self, processes: int) -> None:
        self.close()
        self._executor = _executor(processes, self._work)

    def _start(self, run: Callable[[], Result], slot: int) -> Future[Result]:
        self._work[slot] = 0.0
        with interrupts_blocked():
            try:
                return self._executor.submit(_make, run, slot)
            except BrokenProcessPool as error:  # an earlier call ended its process a moment ago
                failed: Future[Result] = Future()
                failed.set_exception(error)
                return failed


def report(done: float) -> None:
    """Adds finished work, in any unit, to what the pool of this process tells its owner."""
    if _reported is not None:
        _reported[_slot] += done


def has_shared_memory() -> bool:
    """Returns True when processes can share locks; a pool needs them. False in containers without /dev/shm."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError):  # ImportError: the system has no semaphores at all
        return False
    return True


@contextmanager
def process_pool(
    processes: int, sigterm_message: str, advance: Callable[[float], None] = lambda done: None
) -> Iterator[ProcessPool]:
    """Yields a pool whose processes end with the block, and with this process. Arguments as for `ProcessPool`.

    Raises:
        EdgeSserError: this process received SIGTERM; with `sigterm_message`.
    """
    pool = ProcessPool(processes, advance)
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


def _executor(processes: int, work: ctypes.Array[ctypes.c_double]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, _CONTEXT, initializer=_begin, initargs=(os.getpid(), work))


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    """Handles SIGTERM: SystemExit passes all handlers of errors, so that files and processes are removed."""
    raise SystemExit


def _begin(parent: int, work: ctypes.Array[ctypes.c_double]) -> None:
    """Prepares a process of a pool."""
    global _reported
    _reported = work
    _end_with_parent(parent)


def _make(run: Callable[[], Result], slot: int) -> Result:
    """Makes a call, whose reports go into a slot, in a process of a pool."""
    global _slot
    _slot = slot
    return run()


def _end_with_parent(parent: int) -> None:
    """Ends this process when its parent is killed, by PR_SET_PDEATHSIG (prctl(2)); it would wait for work for ever."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the line above
        os._exit(1)
