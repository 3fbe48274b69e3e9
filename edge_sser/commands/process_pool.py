"""Pool of processes that end with the command that started them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from edge_sser.errors import EdgeSserError

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def has_shared_memory() -> bool:
    """Returns True when processes can share locks; a pool needs them. False in containers without /dev/shm."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError):  # ImportError: the system has no semaphores at all
        return False
    return True


@contextmanager
def process_pool(processes: int, sigterm_message: str) -> Iterator[ProcessPoolExecutor]:
    """Yields a pool whose processes end with the block, and with this process.

    Raises:
        EdgeSserError: this process received SIGTERM; with `sigterm_message`.
    """
    context = multiprocessing.get_context("spawn")  # a fork would share running threads of ONNX Runtime
    executor = ProcessPoolExecutor(processes, context, initializer=_end_with_parent, initargs=(os.getpid(),))
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield executor
    except SystemExit:
        raise EdgeSserError(sigterm_message) from None
    finally:
        signal.signal(signal.SIGTERM, before)
        for process in multiprocessing.active_children():
            process.terminate()
        # With wait=False, the interpreter sometimes prints a traceback of the pool at its own end.
        executor.shutdown(wait=True, cancel_futures=True)


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


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    """Handles SIGTERM: SystemExit passes all handlers of errors, so that files and processes are removed."""
    raise SystemExit


def _end_with_parent(parent: int) -> None:
    """Ends this process when its parent is killed, by PR_SET_PDEATHSIG (prctl(2)); it would wait for work for ever."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent died before the line above
        os._exit(1)
