"""Runs the server of the page."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
from types import FrameType
from typing import Final

import uvicorn

from edge_sser.credentials import read_password, server_context
from edge_sser.errors import EdgeSserError, SettingsError
from edge_sser.settings.load import Loaded
from edge_sser.settings.web import CREDENTIAL, MIN_PASSWORD, WebSettings
from edge_sser.web.app import Page
from edge_sser.web.guard import Guard, is_loopback, own_names

CLOSE_SECONDS: Final = 2  # for requests that run when the server ends

log = logging.getLogger("edge_sser.web")


def run_web(loaded: Loaded) -> None:
    """Serves the page until SIGTERM or Ctrl-C.

    Raises:
        SettingsError: a password is needed and missing, or a file of the settings cannot be used.
        EdgeSserError: the port cannot be opened.
    """
    settings = loaded.settings.web or WebSettings()
    password = read_password(settings.password_file, "web.password_file", CREDENTIAL, least=MIN_PASSWORD)
    check_access(settings, password)
    page = Page(loaded)
    guard = Guard(page.application(), names=own_names(settings.hosts), password=password)
    config = uvicorn.Config(
        guard,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="on",
        limit_concurrency=128,
        timeout_graceful_shutdown=CLOSE_SECONDS,
    )
    config.load()
    if settings.cert_file is not None and settings.key_file is not None:
        config.ssl = server_context("web", settings.cert_file, settings.key_file)
    listener = _listen(settings)
    scheme = "http" if settings.cert_file is None else "https"
    place = f"[{settings.address}]" if ":" in settings.address else settings.address
    print(f"{scheme}://{place}:{settings.port}/", flush=True)
    missing = page.missing_history()
    if missing:
        print(f"edge-sser: the page is empty until there is a history: {missing}", file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, _end)  # the server raises the signal again when it has ended
    try:
        asyncio.run(PageServer(config, page).serve([listener]))
    finally:
        listener.close()


class PageServer(uvicorn.Server):
    """The server, with nothing to do while nobody asks, and an end that does not wait for open pages."""

    def __init__(self, config: uvicorn.Config, page: Page) -> None:
        super().__init__(config)
        self._page = page
        self._signalled = asyncio.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends the wait of `main_loop`. Called by a signal, while the event loop runs."""
        super().handle_exit(sig, frame)
        asyncio.get_running_loop().call_soon_threadsafe(self._signalled.set)

    async def main_loop(self) -> None:
        """Waits for a signal; uvicorn's own loop looks ten times a second whether there was one."""
        while not await self.on_tick(0):
            await self._signalled.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the messages to open pages, and stops."""
        self._page.feed.close()
        await super().shutdown(sockets)


def check_access(settings: WebSettings, password: str | None) -> None:
    """Refuses to serve other machines without a password, and warns of a password in the clear.

    Raises:
        SettingsError: the address is not loopback, and there is no password.
    """
    if is_loopback(settings.address):
        return
    if password is None:
        raise SettingsError(
            f"web.address {settings.address} is reached by other machines, and needs a password: write one into a file "
            "(openssl rand -hex 16 > web-password; chmod 600 web-password) and name it as web.password_file, or keep "
            "127.0.0.1"
        )
    if settings.cert_file is None:
        log.warning("password and levels cross the network unencrypted: set web.cert_file and web.key_file")


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _listen(settings: WebSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.address, settings.port))
    except OSError as error:
        listener.close()
        raise EdgeSserError(
            f"{settings.address}:{settings.port} cannot be opened: {error.strerror}: choose another with --port, or "
            "end the program that has it"
        ) from None
    listener.listen(128)
    listener.set_inheritable(True)
    return listener
