"""Check of notifications: programs, secrets, and a connection to each server, which is told nothing."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from edge_sser.commands.doctor.finding import CheckContext, Finding, State, not_tried, secret_file
from edge_sser.credentials import readable_by_all
from edge_sser.errors import EdgeSserError, short
from edge_sser.settings.notify import NotifySettings
from edge_sser.sinks.notify.targets import Target, WebhookTarget, open_target

CONNECT_SECONDS = 5.0


def check_notify(context: CheckContext) -> Finding:
    """Checks that each target can be used and reached. Nothing is sent: `edge-sser notify test` does so."""
    tables = context.settings.notify
    if tables is None:
        return Finding(State.FINE, "no [[notify]] in the settings")
    fine: list[str] = []
    missing: list[str] = []
    for table in tables:
        given = _secrets(table)
        secrets = {key: secret_file(context, file) for key, file in given.items()}
        lacking = [key for key, file in secrets.items() if file is None]
        if lacking:
            missing.append(f"{table.name}: not tried, since notify.{lacking[0]} is a credential that is not here")
            continue
        files = {key: file for key, file in secrets.items() if file is not None}
        noun = f"secret of {table.name}"
        closed = next((found for key in files if (found := not_tried(context, noun, files[key], given[key]))), None)
        if closed is not None:
            return closed
        try:
            target = open_target(table.model_copy(update=secrets))
            reason = _unreachable(target)
        except EdgeSserError as error:
            return Finding(State.PROBLEM, f"{table.name}: {error}")
        if reason is not None:
            remedy = f"check the address and this device's network, then: edge-sser notify test {table.name}"
            return Finding(State.PROBLEM, f"{table.name}: {target.label} cannot be reached: {reason}", remedy)
        for secret in files.values():
            if readable_by_all(secret):
                return Finding(State.WARNING, f"every user may read {secret}", f"chmod o-rwx {secret}")
        fine.append(f"{table.name} ({target.label})")
    if missing:
        return Finding(State.SKIPPED, "; ".join((*missing, *fine)))
    return Finding(State.FINE, f"{', '.join(fine)}; edge-sser notify test sends a message")


def _unreachable(target: Target) -> str | None:
    """Returns the reason why no connection to a webhook's server can be made; None when it can."""
    if not isinstance(target, WebhookTarget):
        return None
    parts = urlsplit(target.url())
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
            if parts.scheme == "https":
                target.tls.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return f"its certificate cannot be trusted: {error.verify_message}: notify.ca_file names another authority"
    except (OSError, UnicodeError) as error:
        return short(getattr(error, "strerror", None) or error)
    return None


def _secrets(table: NotifySettings) -> dict[str, Path]:
    """Returns the files of secrets by setting."""
    files = {"url_file": table.url_file, "token_file": table.token_file, "apprise_file": table.apprise_file}
    return {key: file for key, file in files.items() if file is not None}
