"""Targets of notifications: a command, a webhook, and Apprise. Each delivers one message at a time, and may hang."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from edge_sser import __version__
from edge_sser.credentials import client_context, read_secret
from edge_sser.errors import SettingsError, need_package, short
from edge_sser.settings.notify import TEXT_FIELD, NotifySettings, check_url
from edge_sser.sinks.notify.message import TITLE, body_of

ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "TZ")  # that a command gets; nothing else, and no credentials
RETRIED: Final = frozenset({401, 403, 404, 405, 408, 409, 421, 423, 424, 425, 429})  # that a person or time may mend
NO_RETRY_BELOW, REDIRECTS_BELOW = 500, 400


class DeliveryError(Exception):
    """A message that was not delivered.

    Attributes:
        final: True when no retry will help.
        retry_after: seconds that the server asks to wait, None when it does not.
    """

    def __init__(self, reason: str, *, final: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.final, self.retry_after = final, retry_after


class Target(ABC):
    """A destination of messages. The constructor checks what can be checked without a network."""

    def __init__(self, settings: NotifySettings) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def label(self) -> str:
        """Destination for a person, without secrets."""

    @abstractmethod
    def deliver(self, message: Mapping[str, Any], key: str) -> None:
        """Delivers a message; waits for the answer.

        Args:
            message: the event with its text.
            key: of the message, the same in each attempt.

        Raises:
            DeliveryError: it was not delivered.
            SettingsError: a file with a secret cannot be used.
        """

    def close(self) -> None:  # noqa: B027 - a webhook ends with its timeout
        """Ends a delivery that is under way, from another thread, where that is possible."""


class CommandTarget(Target):
    """A program that gets the message on standard input.

    Args:
        settings: of the target.
        show_errors: let the program write to this program's standard error.
    """

    def __init__(self, settings: NotifySettings, *, show_errors: bool = False) -> None:
        super().__init__(settings)
        assert settings.command is not None
        self._command = settings.command
        self._errors = None if show_errors else subprocess.DEVNULL
        self._process: subprocess.Popen[bytes] | None = None
        if shutil.which(self._command[0]) is None:
            raise SettingsError(
                f"notify {settings.name}: the command {self._command[0]} is not found or not executable: write its path"
            )

    @property
    def label(self) -> str:
        """Program, without its arguments."""
        return self._command[0]

    def deliver(self, message: Mapping[str, Any], key: str) -> None:
        """Runs the program; exit status 0 means delivered."""
        environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
        try:
            process = self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise DeliveryError(f"cannot be started: {error.strerror or error}") from None
        try:
            process.communicate(body_of(message, None) + b"\n", timeout=self.settings.timeout_seconds)
        except subprocess.TimeoutExpired:
            raise DeliveryError(f"did not end within {self.settings.timeout_seconds:g} s and was killed") from None
        finally:
            _kill(process)
            process.wait()
            self._process = None  # its number may soon be that of another process
        if process.returncode:
            raise DeliveryError(f"ended with status {process.returncode}")

    def close(self) -> None:
        """Kills the program."""
        process = self._process
        if process is not None:
            _kill(process)


class WebhookTarget(Target):
    """A URL that gets the message by POST."""

    def __init__(self, settings: NotifySettings) -> None:
        super().__init__(settings)
        need_package("httpx", "notify", f"The webhook {settings.name}")
        for name in ("httpx", "httpcore"):  # they log whole URLs
            logging.getLogger(name).setLevel(logging.WARNING)
        self.tls = client_context("notify", settings.ca_file)
        self.url()
        self._token()

    @property
    def label(self) -> str:
        """Scheme and host: the rest may be secret."""
        return masked(self.url())

    def url(self) -> str:
        """Returns the URL.

        Raises:
            SettingsError: its file cannot be used.
        """
        settings = self.settings
        if settings.url is not None:
            return settings.url.get_secret_value()
        assert settings.url_file is not None
        url = read_secret(settings.url_file, "notify.url_file")
        try:
            check_url(url)
        except ValueError as error:
            raise SettingsError(f"the URL in notify.url_file {settings.url_file} {error}") from None
        return url

    def deliver(self, message: Mapping[str, Any], key: str) -> None:
        """Sends the message; any status from 200 to 299 means delivered. The answer itself is not read."""
        import httpx

        headers = {"Content-Type": "application/json", "User-Agent": f"edge-sser/{__version__}", "Idempotency-Key": key}
        token, timeout = self._token(), self.settings.timeout_seconds
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        body = body_of(message, self.settings.template)
        with Deadline(timeout) as deadline:
            try:
                with (
                    httpx.Client(verify=self.tls, timeout=timeout, follow_redirects=False) as client,
                    client.stream(
                        *("POST", self.url()), content=body, headers=headers, extensions={"trace": deadline.trace}
                    ) as response,
                ):
                    _check(response.status_code, response.headers.get("Retry-After", ""))
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                if deadline.passed or isinstance(error, httpx.TimeoutException):
                    raise DeliveryError(f"does not answer within {timeout:g} s") from None
                raise DeliveryError(f"cannot be reached: {short(error)}") from None

    def _token(self) -> str | None:
        file = self.settings.token_file
        return None if file is None else read_secret(file, "notify.token_file")


class Deadline:
    """Ends a request that takes too long as a whole: the timeouts of httpx begin anew with each byte that comes.

    Args:
        seconds: from entering the context.

    Attributes:
        passed: True when the request was ended.
    """

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._connection: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Notes the connection; an extension of a request, called for each step."""
        if name.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._connection = info["return_value"].get_extra_info("socket")

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.passed = True
        if self._connection is not None:
            with suppress(OSError):  # not closed: another thread waits on it
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)


class AppriseTarget(Target):
    """Services of Apprise, by the URLs in a file."""

    def __init__(self, settings: NotifySettings) -> None:
        super().__init__(settings)
        need_package("apprise", "apprise", f"The notification {settings.name}")
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # it logs parts of URLs
        self._load()

    @property
    def label(self) -> str:
        """Number of the services."""
        return f"Apprise ({len(self._load())} services)"

    def deliver(self, message: Mapping[str, Any], key: str) -> None:
        """Sends the text to every service."""
        if not self._load().notify(title=TITLE, body=str(message[TEXT_FIELD])):
            raise DeliveryError("Apprise could not reach every service")

    def _load(self) -> Any:
        import apprise

        file = self.settings.apprise_file
        assert file is not None
        services = apprise.Apprise()
        for number, line in enumerate(read_secret(file, "notify.apprise_file").split(), 1):
            if not services.add(line):
                raise SettingsError(f"notify.apprise_file {file}: URL {number} is none of Apprise: correct it")
        return services


def open_target(settings: NotifySettings, *, show_errors: bool = False) -> Target:
    """Returns the target of a table.

    Args:
        settings: the table.
        show_errors: let a command write to standard error.

    Raises:
        SettingsError: a command, file or certificate cannot be used.
        MissingComponentError: httpx or Apprise is not installed.
    """
    if settings.command is not None:
        return CommandTarget(settings, show_errors=show_errors)
    return WebhookTarget(settings) if settings.apprise_file is None else AppriseTarget(settings)


def masked(url: str) -> str:
    """Returns a URL without what may be secret.

    Examples:
        >>> masked("https://user:secret@hooks.example.com:8443/services/T0/B0/token?key=1")
        'https://hooks.example.com:8443/...'
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}/..."


def _check(status: int, retry_after: str) -> None:
    """Raises DeliveryError unless the status means delivered."""
    if 200 <= status < 300:
        return
    wait = float(retry_after) if retry_after.isdecimal() else None
    if status < REDIRECTS_BELOW:
        raise DeliveryError(f"answers {status}, a redirection, which is not followed: set the address it leads to")
    final = status < NO_RETRY_BELOW and status not in RETRIED
    raise DeliveryError(f"answers {status}", final=final, retry_after=wait)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills a program and all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
