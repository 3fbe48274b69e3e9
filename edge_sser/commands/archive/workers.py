"""Workers of an archive: this process, several processes of this machine, or a Dask cluster.

Each yields the results of batches as they come; a batch that ended its worker comes back as None.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from typing import Any, Final

from edge_sser.commands.archive.batch import ArchiveOptions, BatchResult, analyze_batch
from edge_sser.commands.archive.find import Item
from edge_sser.commands.process_pool import Call, process_pool, report
from edge_sser.errors import EdgeSserError, UsageError, need_package

Batch = tuple[Item, ...]
Results = Iterator[tuple[Batch, BatchResult | None]]
Worker = Callable[[Sequence[Batch]], Results]

AHEAD_PER_JOB: Final = 3  # batches given out beyond those that are waited for
CONNECT_SECONDS: Final = 10.0


def in_process(options: ArchiveOptions, advance: Callable[[float], None]) -> Worker:
    """Returns a worker that is this process; `advance` is told of bytes as they are done."""

    def work(batches: Sequence[Batch]) -> Results:
        for batch in batches:
            yield batch, analyze_batch(batch, options, advance)

    return work


def in_pool(options: ArchiveOptions, jobs: int, advance: Callable[[float], None]) -> Worker:
    """Returns workers that are processes of this machine; `advance` is told of bytes as they are done."""

    def work(batches: Sequence[Batch]) -> Results:
        ended = "ended by SIGTERM: the same command goes on where this one stopped"
        with process_pool(jobs, ended, advance) as pool:
            ahead: deque[tuple[Batch, Call[BatchResult]]] = deque()
            waiting = iter(batches)
            while True:
                room = 0 if pool.alone and ahead else jobs * AHEAD_PER_JOB - len(ahead)
                for batch in islice(waiting, room):
                    size = sum(item.size for item in batch)
                    ahead.append((batch, pool.submit(partial(analyze_batch, batch, options, report), size)))
                if not ahead:
                    return
                batch, call = ahead.popleft()
                try:
                    yield batch, pool.result(call)
                except BrokenProcessPool:
                    if len(batch) == 1:  # else its recordings are tried again
                        advance(sum(item.size for item in batch))
                    yield batch, None

    return work


def in_cluster(options: ArchiveOptions, address: str) -> Worker:
    """Returns workers that are those of a Dask cluster. They see the recordings under the same paths.

    Args:
        options: for all batches.
        address: of the scheduler, as tcp://HOST:8786.

    Raises:
        MissingComponentError: dask.distributed is not installed.
        UsageError: the address is not one.
    """
    need_package("distributed", "archive", "--dask")
    if not re.fullmatch(r"(\w+://)?[^/\s]+:\d+", address):
        raise UsageError(f"--dask {address}: expected the address of a scheduler, as tcp://HOST:8786")

    def work(batches: Sequence[Batch]) -> Results:
        import distributed

        dask: Any = distributed  # untyped

        try:
            client = dask.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise UsageError(
                f"--dask {address}: no scheduler answers there ({type(error).__name__}): start one with dask scheduler"
            ) from None
        with client:
            if not client.scheduler_info()["workers"]:
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            waiting = iter(batches)
            room = AHEAD_PER_JOB * max(1, sum(client.nthreads().values()))
            given: dict[Any, Batch] = {}

            def give(count: int) -> list[Any]:
                futures = []
                for batch in islice(waiting, count):
                    future = client.submit(analyze_batch, batch, options, pure=False)
                    given[future.key] = batch
                    futures.append(future)
                return futures

            done = dask.as_completed(give(room), loop=client.loop)
            for future in done:
                batch = given.pop(future.key)
                try:
                    result = future.result()
                except dask.KilledWorker:
                    result = None
                except ImportError as error:
                    raise EdgeSserError(
                        f"--dask {address}: a worker lacks a package ({error}): install edge-sser[archive] there"
                    ) from None
                future.release()
                yield batch, result
                for new in give(1):
                    done.add(new)

    return work
