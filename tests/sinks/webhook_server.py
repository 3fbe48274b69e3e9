"""A real HTTP or HTTPS server for webhooks, which can hang, fail and redirect."""

from __future__ import annotations

import json
import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

OTHER = "/other"  # where redirections lead


@dataclass(frozen=True, slots=True)
class Request:
    """A request that came.

    Attributes:
        answer: status that it got; 0 for none.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    answer: int

    def json(self) -> Any:
        return json.loads(self.body)


class WebhookServer:
    """A server on 127.0.0.1.

    Args:
        certificate: with its key, for HTTPS.
        port: 0 for a free one.

    Attributes:
        status: of the answers; 0 hangs until `release`, and -1 answers a byte now and then.
        headers: of the answers.
        requests: that came, in order.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None, port: int = 0) -> None:
        self.status = 204
        self.headers: dict[str, str] = {}
        self.requests: list[Request] = []
        self._released = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = server.status
                if not status:
                    server._released.wait(60)
                while status < 0 and not server._released.wait(0.1):
                    self.wfile.write(b"H")
                server.requests.append(
                    Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body, status)
                )
                if status > 0:
                    self.send_response(status)
                    for name, value in server.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            do_GET = do_HEAD = do_OPTIONS = do_POST  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that went away
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.port: int = self._http.server_port
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def taken(self) -> list[Request]:
        """Requests that were answered by success."""
        return [request for request in self.requests if 200 <= request.answer < 300]

    def release(self) -> None:
        """Ends the requests that hang."""
        self._released.set()

    def close(self) -> None:
        self.release()
        self._http.shutdown()
        self._http.server_close()
