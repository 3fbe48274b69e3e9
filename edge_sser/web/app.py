"""The application of the page: its addresses, and what each answers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from edge_sser import __version__
from edge_sser.errors import EdgeSserError, HistoryError, UsageError
from edge_sser.events import Level
from edge_sser.files import state_directory
from edge_sser.history.place import existing_history
from edge_sser.history.reader import HistoryReader
from edge_sser.settings.load import Loaded
from edge_sser.settings.names import node_name
from edge_sser.sinks.pause import PAUSE_FILE, PauseSwitch
from edge_sser.web.facts import Doctor, level_rule, settings_tables
from edge_sser.web.live import LiveFeed
from edge_sser.web.queries import MAX_EPISODES, Span, curves, episodes, episodes_csv

STATIC: Final = Path(__file__).parent / "static"
PATH_SECONDS: Final = 30.0  # between two looks for the live file's path, which seldom changes
IDLE_PATH_SECONDS: Final = 2.0  # the same while nobody listens
HEALTH_SECONDS: Final = 7 * 86_400  # of changes that the page lists


class Page:
    """The page: what it shows, and the switch for listening.

    Args:
        loaded: settings in force.

    Attributes:
        feed: messages to open pages.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._reader: HistoryReader | None = None
        self._own_reader: HistoryReader | None = None
        self._switch = PauseSwitch(state_directory() / PAUSE_FILE)
        self._doctor = Doctor(loaded.path)
        self._live_path: Path | None = None
        self._looked = 0.0  # monotonic seconds: for the live file's path, the last time
        self.feed = LiveFeed(self._find_live, lambda: self._switch.on)

    def application(self) -> Starlette:
        """Returns the application, without the guard around it."""
        routes = [
            Route("/", self._page),
            Route("/api/about", self._about),
            Route("/api/live", self._follow),
            Route("/api/curves", self._curves),
            Route("/api/episodes", self._episodes),
            Route("/api/health", self._health),
            Route("/api/settings", self._settings),
            Route("/api/findings", self._findings),
            Route("/api/listening", self._turn, methods=["POST"]),
            Route("/episodes.csv", self._episodes_csv),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        handlers: Mapping[Any, Any] = {EdgeSserError: _failed}
        return Starlette(
            routes=routes,
            middleware=[Middleware(GZipMiddleware, minimum_size=1000)],
            exception_handlers=handlers,
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _application: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(self.feed.run())
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    def missing_history(self) -> str:
        """Returns why there is no past to show, and what to do; empty when there is one."""
        try:
            self._history_reader()
        except HistoryError as error:
            return str(error)
        return ""

    def _history_reader(self) -> HistoryReader:
        """Returns the reader, which opens the file again when it was replaced.

        Raises:
            HistoryError: there is no history yet, or it cannot be read.
        """
        if self._reader is None:
            self._reader = HistoryReader(existing_history(self._loaded))
        return self._reader

    def _live_reader(self) -> HistoryReader:
        """Returns the reader of the event loop, which must not wait for long queries of the other. Errors likewise."""
        if self._own_reader is None:
            self._own_reader = HistoryReader(existing_history(self._loaded))
        return self._own_reader

    def _find_live(self) -> Path | None:
        """Returns the path of the live file, which the history knows."""
        now = time.monotonic()
        if now - self._looked >= (PATH_SECONDS if self.feed.running else IDLE_PATH_SECONDS):
            self._looked = now
            try:
                rows = self._live_reader().query("SELECT value FROM facts WHERE name = 'live'")
            except HistoryError:
                rows = []
            self._live_path = Path(rows[0][0]) if rows else None
        return self._live_path

    # ---- what each address answers

    async def _page(self, _request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    def _about(self, _request: Request) -> Response:
        rule = level_rule(self._loaded.settings)
        span, names, missing = None, [], ""
        try:
            reader = self._history_reader()
            span, names = reader.span(), [f"{each.node}/{each.source}" for each in reader.sources()]
        except HistoryError as error:
            missing = str(error)
        return JSONResponse(
            {
                "node": node_name(self._loaded.settings),
                "version": __version__,
                "now": time.time(),
                "sources": names,
                "span": span,
                "no_history": missing,
                "elevated": None if rule is None else rule.thresholds.elevated,
                "high": None if rule is None else rule.thresholds.high,
                "outlook": "" if rule is None else rule.outlook,
                "warning": "" if rule is None else rule.warning,
            }
        )

    async def _follow(self, _request: Request) -> Response:
        if self.feed.full:
            return PlainTextResponse("too many pages are open: close some\n", 503)
        return StreamingResponse(self.feed.messages(), media_type="text/event-stream")

    def _curves(self, request: Request) -> Response:
        span, seconds = _span(request), _number(request, "bin")
        return JSONResponse({"curves": curves(self._history_reader(), span, seconds)})

    def _episodes(self, request: Request) -> Response:
        rows = episodes(self._history_reader(), _span(request), _level(request))
        return JSONResponse(
            {
                "total": len(rows),
                "episodes": [
                    {
                        "id": row.id,
                        "key": f"{row.node}/{row.source}",
                        "started": row.started,
                        "ended": row.ended,
                        "duration_s": row.duration_s,
                        "level": row.level.value,
                        "peak": row.peak,
                        "mean": row.mean,
                    }
                    for row in rows[:MAX_EPISODES]
                ],
            }
        )

    def _episodes_csv(self, request: Request) -> Response:
        text = episodes_csv(episodes(self._history_reader(), _span(request), _level(request)))
        headers = {"Content-Disposition": 'attachment; filename="episodes.csv"'}
        return Response(text, media_type="text/csv", headers=headers)

    def _health(self, _request: Request) -> Response:
        reader, now = self._history_reader(), time.time()
        latest = [
            {
                "key": f"{each.node}/{each.source}",
                "state": None if each.health is None else each.health.state.value,
                "detail": "" if each.health is None else each.health.detail,
                "ts": None if each.health is None else each.health.ts,
                "minute": None if each.minute is None else each.minute.minute,
            }
            for each in reader.latest()
        ]
        changes = [
            {"key": f"{row.node}/{row.source}", "ts": row.ts, "state": row.state.value, "detail": row.detail}
            for row in reversed(reader.health(now - HEALTH_SECONDS, now + 60.0))
        ]
        return JSONResponse({"sources": latest, "changes": changes[:MAX_EPISODES]})

    def _settings(self, _request: Request) -> Response:
        path = self._loaded.path
        return JSONResponse({"file": None if path is None else str(path), "tables": settings_tables(self._loaded)})

    async def _findings(self, _request: Request) -> Response:
        return JSONResponse({"findings": await self._doctor.examine()})

    async def _turn(self, request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > len(b"OFF"):
                break
        if body not in (b"ON", b"OFF"):
            raise UsageError("ON or OFF is expected")
        await asyncio.to_thread(self._switch.turn, body == b"ON")
        self.feed.announce()
        return JSONResponse({"listening": self._switch.on})


def _span(request: Request) -> Span:
    keys = frozenset(request.query_params.getlist("source"))
    return Span(_number(request, "since"), _number(request, "until"), keys)


def _number(request: Request, name: str) -> int:
    given = request.query_params.get(name, "")
    if not re.fullmatch(r"-?[0-9]{1,15}", given):  # SQLite takes 64 bits, JavaScript counts to 2^53
        raise UsageError(f"{name} must be a whole number of seconds")
    return int(given)


def _level(request: Request) -> Level | None:
    given = request.query_params.get("level") or None
    levels = [each.value for each in Level]
    if given is not None and given not in levels:
        raise UsageError(f"level must be one of {', '.join(levels)}")
    return None if given is None else Level[given.upper()]


async def _failed(_request: Request, error: EdgeSserError) -> Response:
    status = 400 if isinstance(error, UsageError) else 503
    return JSONResponse({"error": str(error)}, status)
