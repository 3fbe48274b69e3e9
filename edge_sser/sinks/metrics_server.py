"""The HTTP server of the metrics: few connections, for a short time, of a small size."""

from __future__ import annotations

import hmac
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedIOBase
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from edge_sser.errors import EdgeSserError

if TYPE_CHECKING:
    import ssl

MAX_CONNECTIONS: Final = 8  # at one time; a newer one ends the oldest
MAX_SECONDS: Final = 5.0  # that a connection may last
CHALLENGE: Final = 'Bearer realm="edge-sser"'  # also tells the doctor who serves
MAX_REQUEST_BYTES: Final = 8192  # read of a request; Prometheus sends about 300


class MetricsServer(ThreadingMixIn, WSGIServer):
    """Serves one application, each connection in a thread, until `shutdown`.

    Args:
        address: IP address.
        port: 0 takes a free one.
        application: of WSGI.
        tls: makes it HTTPS.

    Raises:
        OSError: the port cannot be opened.
    """

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(
        self, address: str, port: int, application: Callable[..., Any], tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._opened_at: dict[socket.socket, float] = {}  # monotonic seconds, in the order of their coming
        self._lock = threading.Lock()
        super().__init__((address, port), _Handler)
        self.set_app(application)

    def get_request(self) -> tuple[Any, Any]:
        """Accepts a connection. The handshake of TLS waits for the connection's own thread."""
        request, client_address = super().get_request()
        if self._tls is not None:
            request = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
        return request, client_address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts the thread of a new connection, and ends the oldest when there are too many."""
        with self._lock:
            self._opened_at[request] = time.monotonic()
            for oldest in list(self._opened_at)[:-MAX_CONNECTIONS]:
                _end(oldest)
            refused = len(self._opened_at) > 2 * MAX_CONNECTIONS  # those that were told to end have not yet
        if refused:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        with self._lock:
            self._opened_at.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Ends connections that have lasted too long; called twice a second."""
        limit = time.monotonic() - MAX_SECONDS
        with self._lock:
            for request, opened_at in self._opened_at.items():
                if opened_at < limit:
                    _end(request)

    def server_close(self) -> None:
        """Closes the port and ends all connections."""
        super().server_close()
        with self._lock:
            for request in self._opened_at:
                _end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Passes over a client that went away."""


def guarded(application: Callable[..., Any], token: Callable[[], str]) -> Callable[..., Any]:
    """Returns an application of WSGI that answers only requests with a bearer token.

    Args:
        application: to guard.
        token: returns the token of this moment; raises EdgeSserError when there is none.
    """

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        given, allowed = str(environ.get("HTTP_AUTHORIZATION", "")), False
        with suppress(EdgeSserError):  # a token that cannot be read lets nobody in
            allowed = hmac.compare_digest(given.encode(), f"Bearer {token()}".encode())
        if allowed:
            return application(environ, start_response)
        start_response("401 Unauthorized", [("WWW-Authenticate", CHALLENGE), ("Content-Length", "0")])
        return []

    return answer


class _Handler(WSGIRequestHandler):
    def setup(self) -> None:
        super().setup()
        self.rfile = _Limited(self.rfile)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Limited(BufferedIOBase):
    """The first MAX_REQUEST_BYTES of a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._left = MAX_REQUEST_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        limit = self._left if size is None or size < 0 else min(size, self._left)
        line: bytes = self._stream.readline(limit) if limit else b""
        self._left -= len(line)
        return line

    def close(self) -> None:
        self._stream.close()
        super().close()


def _end(request: socket.socket) -> None:
    """Ends a connection under the thread that serves it."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
