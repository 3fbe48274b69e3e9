"""Checks of the outputs besides the broker: files that must be writable, and the ports of metrics and page."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import urllib.error
import urllib.request
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path

from edge_sser.commands.doctor.finding import (
    CheckContext,
    Finding,
    State,
    credential,
    credential_environ,
    not_tried,
    secret_file,
)
from edge_sser.credentials import read_password, server_context
from edge_sser.errors import SinkError, need_package
from edge_sser.files import resolve_path, state_directory
from edge_sser.history.schema import check_file as check_history_file
from edge_sser.settings.names import node_name
from edge_sser.settings.sinks import MetricsSettings
from edge_sser.settings.web import CREDENTIAL, MIN_PASSWORD, WebSettings
from edge_sser.sinks.file import check_event_file
from edge_sser.sinks.metrics_server import CHALLENGE
from edge_sser.sinks.mqtt.outbox_destination import KEPT_PATTERN

PROBE_BYTES = 65_536  # written to see if the disk has room
SCRAPE_SECONDS = 2.0
SCRAPE_BYTES = 2**20


def check_outbox(context: CheckContext) -> Finding:
    """Checks that the outbox and the pause file can be written. Does not touch them: a daemon may use them."""
    if context.settings.mqtt is None:
        return Finding(State.FINE, "not needed without [mqtt]")
    directory = state_directory()
    reason = _write_failure(directory, "outbox.db", "outbox.db-wal", "paused")
    if reason is None and (directory / "paused").exists():
        topic = f"{context.settings.mqtt.base_topic}/{node_name(context.settings)}/listen/set"
        remedy = f"publish ON to {topic}, or remove {directory / 'paused'} and start again"
        return Finding(State.WARNING, "a command has turned listening off: the microphones stay closed", remedy)
    if reason is None:
        kept = ", ".join(sorted(path.name for path in directory.glob(KEPT_PATTERN)))
        return Finding(
            State.FINE, f"in {directory}" + (f"; events for other brokers are kept there: {kept}" if kept else "")
        )
    return Finding(
        State.PROBLEM,
        f"events cannot wait on disk: {reason}",
        f"{_way_out(reason, directory)}, or set STATE_DIRECTORY to another directory",
    )


def check_file(context: CheckContext) -> Finding:
    """Checks that the event file and its rotated files can be written."""
    if context.settings.file is None:
        return Finding(State.FINE, "no [file] in the settings")
    path = resolve_path(context.settings.file.path)
    reason = _write_failure(path.parent, path.name)
    try:
        check_event_file(path)
    except OSError as error:
        reason = reason or error.strerror
    if reason is None:
        return Finding(State.FINE, str(path))
    remedy = f"{_way_out(reason, path.parent)}, or set file.path to another place"
    return Finding(State.PROBLEM, f"events cannot be written: {reason}", remedy)


def check_history(context: CheckContext) -> Finding:
    """Checks that the history can be written, and is one. Does not touch the file: a daemon may use it.

    Raises:
        HistoryError: the file is something else.
    """
    settings = context.settings.history
    if settings is None or not settings.enabled:
        lack = "no [history] in the settings" if settings is None else "turned off by history.enabled"
        return Finding(State.FINE, f"{lack}: edge-sser history and the page will have no past")
    path = resolve_path(settings.path)
    reason = _write_failure(path.parent, path.name, f"{path.name}-wal", f"{path.name}.lock")
    if reason is not None:
        remedy = f"{_way_out(reason, path.parent)}, or set history.path to another place"
        return Finding(State.PROBLEM, f"the history cannot be written: {reason}", remedy)
    return Finding(State.FINE, f"{path}{'' if check_history_file(path) else ', which listen will make'}")


def check_web(context: CheckContext) -> Finding:
    """Checks that the page has its packages, password and certificate, and that its port is free.

    Raises:
        MissingComponentError: a package is missing.
        SettingsError: the password, certificate or key cannot be used.
    """
    settings = context.settings.web
    if settings is None:
        return Finding(State.FINE, "no [web] in the settings: edge-sser web takes the defaults")
    need_package("uvicorn", "web", "The web page")
    file = None if settings.password_file else credential(context, CREDENTIAL)
    closed = file and not_tried(context, "password of the page", file)
    if not closed:
        environ = credential_environ(file)
        password = read_password(settings.password_file, "web.password_file", CREDENTIAL, environ, least=MIN_PASSWORD)
        if password is None and not ip_address(settings.address).is_loopback:
            remedy = "openssl rand -hex 16 > web-password; chmod 600 web-password; name it as web.password_file"
            detail = f"{settings.address} is reached by other machines, and needs a password"
            return Finding(State.PROBLEM, detail, remedy)
    if settings.cert_file is not None and settings.key_file is not None:
        server_context("web", settings.cert_file, settings.key_file)
    port = _web_port(settings)
    return closed if closed and port.state is State.FINE else port


def _web_port(settings: WebSettings) -> Finding:
    """Returns the finding on the port of the page."""
    family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.address, settings.port))
    except OSError as error:
        reason = error.strerror or error
        if error.errno == errno.EADDRINUSE:
            return Finding(State.FINE, f"port {settings.port}: {reason}: edge-sser web has it, if it runs")
        remedy = "set web.address to an address of this machine, and web.port to a port from 1024 on"
        return Finding(State.PROBLEM, f"{settings.address}:{settings.port} cannot be opened: {reason}", remedy)
    return Finding(State.FINE, f"port {settings.port} is free for edge-sser web")


def check_metrics(context: CheckContext) -> Finding:
    """Checks that the metrics' port is free, or served by a running edge-sser."""
    settings = context.settings.metrics
    if settings is None:
        return Finding(State.FINE, "no [metrics] in the settings")
    from edge_sser.sinks.metrics import MetricsSink

    if settings.token_file is not None:
        token = secret_file(context, settings.token_file)
        if token is None:
            detail = f"not tried, since metrics.token_file {settings.token_file} is a credential that is not here"
            return Finding(State.SKIPPED, detail)
        closed = not_tried(context, "token", token, settings.token_file)
        if closed:
            return closed
        settings = settings.model_copy(update={"token_file": token})
    try:
        MetricsSink.of_settings(settings).close()
    except SinkError:
        if not _serves_metrics(settings):
            raise
        return Finding(State.FINE, f"{_url(settings)} is served by the edge-sser that runs")
    return Finding(State.FINE, f"{_url(settings)} is free")


def _way_out(reason: str, directory: Path) -> str:
    """Returns the first half of a remedy for what `_write_failure` found."""
    full = any(os.strerror(code) in reason for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
    return "make room there for this user" if full else f"give {directory} to the user who runs edge-sser"


def _write_failure(directory: Path, *names: str) -> str | None:
    """Returns why files of these names cannot be written in a directory, in words; None when they can.

    Does not make a missing directory: checks its nearest parent instead.
    """
    try:
        ancestor = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        if not ancestor.is_dir():
            return f"{ancestor} is not a directory"
        if ancestor != directory:
            writable = os.access(ancestor, os.W_OK | os.X_OK)
            return None if writable else f"{directory} cannot be made, since {ancestor} may not be written"
        for path in (directory / name for name in names):
            if path.is_dir():
                return f"{path} is a directory"
            if path.exists() and not os.access(path, os.R_OK | os.W_OK):
                return f"{path} may not be written by this user"
        with tempfile.TemporaryFile(dir=directory, buffering=0) as probe:
            probe.write(bytes(PROBE_BYTES))
    except OSError as error:
        return f"{directory}: {error.strerror or error}"
    return None


def _serves_metrics(settings: MetricsSettings) -> bool:
    """Returns True when an edge-sser answers. It is sent no token: another program may have the port."""
    context = None
    if settings.cert_file is not None:
        import ssl

        context = ssl._create_unverified_context()  # noqa: S323  nothing is sent, and the name is of the network
    try:
        with urllib.request.urlopen(_url(settings), timeout=SCRAPE_SECONDS, context=context) as response:  # noqa: S310
            return b"\nedge_sser_" in response.read(SCRAPE_BYTES)
    except urllib.error.HTTPError as error:
        return error.headers.get("WWW-Authenticate") == CHALLENGE
    except (OSError, HTTPException):
        return False


def _url(settings: MetricsSettings) -> str:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.address, settings.address)  # noqa: S104
    host = f"[{address}]" if ":" in address else address
    return f"http{'' if settings.cert_file is None else 's'}://{host}:{settings.port}/metrics"
