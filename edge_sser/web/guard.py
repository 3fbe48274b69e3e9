"""Access to the page: names it may be called by, the password, requests of other sites, and headers for the browser.

Wraps the whole application, static files included. Nothing is stored in the browser: the password comes with each
request, as HTTP Basic (any user name) or as a bearer token.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REFUSAL_SECONDS: Final = 1.0  # before a wrong password is answered: guessing is slow
MAX_GUESSES: Final = 8  # wrong passwords that wait at one time; more are refused at once, with 429
SAFE_METHODS: Final = frozenset(("GET", "HEAD"))
CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="edge-sser", charset="UTF-8"'}
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses requests that have no business here, and adds the headers.

    * The Host header must be an IP address or a known name. Otherwise a foreign site could point a name of its own at
      this machine and read the page through a visitor's browser (DNS rebinding).
    * The password, where there is one.
    * A request that changes something must come from the page itself.

    Args:
        app: the application.
        names: host names that the page may be called by, in lower case and without ports.
        password: asked for; None to ask for none.
    """

    def __init__(self, app: ASGIApp, *, names: Iterable[str], password: str | None) -> None:
        self._app = app
        self._names = frozenset(names)
        self._password = None if password is None else password.encode()
        self._guesses = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request."""
        if scope["type"] != "http":  # there are no WebSockets
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._wrong_place(scope, headers) or await self._wrong_password(headers)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _wrong_place(self, scope: Scope, headers: Headers) -> PlainTextResponse | None:
        host = headers.get("host", "")
        if not self._is_known(host):
            return PlainTextResponse(
                f"{host[:100]!r} is no name of this page: call it by its address, or add the name to web.hosts in "
                "the settings\n",
                421,
            )
        if scope["method"] not in SAFE_METHODS and not _from_the_page(scope, headers, host):
            return PlainTextResponse("only the page itself may change something\n", 403)
        return None

    def _is_known(self, host: str) -> bool:
        name = host_name(host)
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return True

    async def _wrong_password(self, headers: Headers) -> PlainTextResponse | None:
        given = _given_password(headers.get("authorization", ""))
        if self._password is None or (given is not None and hmac.compare_digest(given, self._password)):
            return None
        if given is None:
            return PlainTextResponse("the password is missing\n", 401, CHALLENGE)
        if self._guesses >= MAX_GUESSES:
            return PlainTextResponse("too many wrong passwords at once: try again in a moment\n", 429)
        self._guesses += 1
        try:
            await asyncio.sleep(REFUSAL_SECONDS)
        finally:
            self._guesses -= 1
        return PlainTextResponse("the password is wrong\n", 401, CHALLENGE)


def host_name(host: str) -> str:
    """Returns the name or address in a Host header, without the port, in lower case.

    Examples:
        >>> host_name("Desk.local:8321"), host_name("[::1]:8321"), host_name("::1")
        ('desk.local', '::1', '::1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return (host if host.count(":") > 1 else host.partition(":")[0]).lower().rstrip(".")


def own_names(more: Iterable[str] = ()) -> set[str]:
    """Returns the names of this machine, and those that the settings add, in lower case."""
    name = socket.gethostname().lower()
    return {"localhost", name, name.partition(".")[0], f"{name.partition('.')[0]}.local", *map(str.lower, more)}


def is_loopback(address: str) -> bool:
    """Returns True for an address that only programs on this machine reach."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _from_the_page(scope: Scope, headers: Headers, host: str) -> bool:
    """Returns True when the browser says that the page itself sent a request. A program may say so, too."""
    site = headers.get("sec-fetch-site")
    return site == "same-origin" if site else headers.get("origin") == f"{scope['scheme']}://{host}"


def _given_password(authorization: str) -> bytes | None:
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip().encode("latin-1")  # the bytes as they came
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return None
