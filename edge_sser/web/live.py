"""Live values: follows the live file, and tells every open page."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from edge_sser.events import epoch_seconds
from edge_sser.history.live import STALE_SECONDS, WRITE_SECONDS, Live, LiveSource, read_live

FOLLOW_SECONDS: Final = 0.2  # between two looks at a live file that should have changed, while a page is open
IDLE_SECONDS: Final = 4.0  # the same while none is: enough for the curve of the last minutes
BEAT_SECONDS: Final = 2.0  # a page hears something at least this often, or believes the connection lost
CURVE_SECONDS: Final = 600.0  # of each source are kept
MAX_PAGES: Final = 32  # open at one time
MAX_WAITING: Final = 20  # messages that a slow page may be behind; then it is told to connect anew

Point = tuple[float, float | None, float, float]


class LiveFeed:
    """Readings of the last minutes, and messages to the open pages.

    Args:
        path: returns the live file's path; None when the history does not know one yet.
        listening: returns False while listening is paused.
    """

    def __init__(self, path: Callable[[], Path | None], listening: Callable[[], bool]) -> None:
        self._path = path
        self._listening = listening
        self._seen: tuple[int, int] | None = None  # inode of the live file and time of its last change, ns
        self._live: Live | None = None
        self._curves: dict[str, deque[Point]] = {}
        self._pages: set[asyncio.Queue[str | None]] = set()
        self._woken = asyncio.Event()
        self._news = False  # not told yet

    @property
    def running(self) -> bool:
        """True while somebody listens."""
        return self._live is not None

    @property
    def full(self) -> bool:
        """True when no further page may follow."""
        return len(self._pages) >= MAX_PAGES

    async def run(self) -> None:
        """Follows the live file, for ever."""
        told = 0.0
        while True:
            self._woken.clear()
            changed = self._look()
            if self._pages and (self._news or time.monotonic() - told >= BEAT_SECONDS):
                told, self._news = time.monotonic(), False
                self._tell(_message("now", self._now()))
            # The next change comes WRITE_SECONDS after one, so that one look a change is enough.
            seconds = IDLE_SECONDS if not self._pages else WRITE_SECONDS if changed else FOLLOW_SECONDS
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), seconds)

    def announce(self) -> None:
        """Lets the pages know at once that listening was paused or resumed."""
        self._news = True
        self._woken.set()

    async def messages(self) -> AsyncIterator[str]:
        """Yields the messages to one page, in the form of server-sent events: first all there is, then what is new."""
        with self._page() as waiting:
            self._look()
            yield "retry: 1000\n" + _message("start", {**self._now(), "curves": self._all_curves()})
            while (message := await waiting.get()) is not None:
                yield message

    @contextmanager
    def _page(self) -> Any:
        waiting: asyncio.Queue[str | None] = asyncio.Queue(MAX_WAITING)
        self._pages.add(waiting)
        self._woken.set()
        try:
            yield waiting
        finally:
            self._pages.discard(waiting)

    def _tell(self, message: str) -> None:
        for waiting in tuple(self._pages):
            try:
                waiting.put_nowait(message)
            except asyncio.QueueFull:
                self._dismiss(waiting)

    def close(self) -> None:
        """Ends the messages to all pages."""
        for waiting in tuple(self._pages):
            self._dismiss(waiting)

    def _dismiss(self, waiting: asyncio.Queue[str | None]) -> None:
        self._pages.discard(waiting)
        while not waiting.empty():
            waiting.get_nowait()
        waiting.put_nowait(None)

    def _look(self) -> bool:
        """Reads the live file if it has changed. Returns True when it has."""
        path, live = self._path(), self._live
        try:
            status = None if path is None else path.stat()
        except OSError:
            status = None
        # Two files written within a tick of the kernel's clock have one time; each has an inode of its own.
        seen = None if status is None else (status.st_ino, status.st_mtime_ns)
        if path is None or seen is None:
            self._live = None
        elif seen != self._seen:
            self._live = read_live(path)
            for source in () if self._live is None else self._live.sources:
                if source.reading is not None:
                    self._add(key_of(source), source.reading)
        elif live is not None and abs(time.time() - live.ts) > STALE_SECONDS:
            self._live = None
        changed = seen != self._seen
        self._news = self._news or changed or self._live is not live
        self._seen = seen
        return changed

    def _add(self, key: str, reading: Mapping[str, Any]) -> None:
        point = _point(reading)
        curve = self._curves.setdefault(key, deque())
        if not curve or point[0] > curve[-1][0]:
            curve.append(point)
        while curve[0][0] < point[0] - CURVE_SECONDS:
            curve.popleft()

    def _now(self) -> dict[str, Any]:
        live = self._live
        return {
            "ts": None if live is None else live.ts,
            "running": live is not None,
            "listening": self._listening(),
            "sources": [] if live is None else [_source(each) for each in live.sources],
        }

    def _all_curves(self) -> dict[str, list[Point]]:
        return {key: list(curve) for key, curve in self._curves.items()}


def key_of(source: LiveSource) -> str:
    """Returns the name of a source among those of all nodes."""
    return f"{source.node}/{source.source}"


def _point(reading: Mapping[str, Any]) -> Point:
    """Returns time, rolling stress (None without speech), share of speech and level of sound."""
    rolling = None if reading["stress"] is None else reading["stress_rolling"]
    return epoch_seconds(reading["ts"]), rolling, reading["speech_ratio"], reading["dbfs"]


def _source(source: LiveSource) -> dict[str, Any]:
    health, reading, episode = source.health, source.reading, source.episode
    return {
        "key": key_of(source),
        "reading": None
        if reading is None
        else {
            "point": _point(reading),
            "rolling": reading["stress_rolling"],
            "level": reading["level"],
            "clipped": reading["clipped"],
            "baseline": reading.get("baseline", "off"),
        },
        "health": None if health is None else {name: health[name] for name in ("state", "detail", "ts")},
        "episode": None
        if episode is None
        else {name: episode[name] for name in ("id", "level", "peak", "duration_s", "ts")},
    }


def _message(event: str, data: Any) -> str:
    return f"event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
