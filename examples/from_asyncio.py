"""Stress of raw PCM on standard input, in an asyncio program.

    arecord -q -f S16_LE -r 16000 -c 1 | python examples/from_asyncio.py

`push` computes for some milliseconds a window, so it runs in a thread: the event loop stays free for other work.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np

from edge_sser import Episode, Event, Reading, StressMonitor

RATE_HZ = 16_000
CHUNK_BYTES = RATE_HZ // 10 * 2  # 100 ms of int16


def print_events(events: list[Event]) -> None:
    """Prints levels and episodes as they come."""
    for event in events:
        if isinstance(event, Reading) and event.level is not None:
            print(f"{event.end_s:6.1f} s  {event.level.value:8}  {event.stress_rolling:.2f}", flush=True)
        elif isinstance(event, Episode):
            print(f"{event.end_s:6.1f} s  episode {event.phase.value}, peak {event.peak:.2f}", flush=True)


async def main() -> None:
    """Reads chunks until standard input ends."""
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin.buffer)
    with StressMonitor() as monitor:
        while True:
            try:
                chunk = await reader.readexactly(CHUNK_BYTES)
            except asyncio.IncompleteReadError:
                break
            samples = np.frombuffer(chunk, dtype=np.int16)
            print_events(await asyncio.to_thread(monitor.push, samples, RATE_HZ))
        print_events(monitor.flush())


asyncio.run(main())
