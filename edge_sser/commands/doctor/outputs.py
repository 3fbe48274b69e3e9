"""Where events go besides the broker: what must be writable, and the port of the metrics. Nothing is left behind."""

from __future__ import annotations

import os
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from edge_sser.commands.doctor.finding import CheckContext, Finding, State
from edge_sser.errors import SinkError
from edge_sser.files import resolve_path, state_directory
from edge_sser.settings.schema import MetricsSettings

TRIAL_BYTES = 65_536  # written to see whether the disk takes anything
SCRAPE_SECONDS = 2.0
SCRAPE_BYTES = 2**20


def look_at_outbox(patient: CheckContext) -> Finding:
    """Whether the outbox and the switch can be kept. The files themselves are left alone: a daemon may hold them."""
    if patient.settings.mqtt is None:
        return Finding(State.FINE, "not needed without [mqtt]")
    directory = state_directory()
    trouble = _trouble_writing(directory, "outbox.db", "outbox.db-wal", "paused")
    if trouble is None:
        return Finding(State.FINE, f"in {directory}")
    return Finding(
        State.PROBLEM,
        f"events cannot wait on disk: {trouble}",
        f"give {directory} to the user who runs edge-sser, or set STATE_DIRECTORY to another directory",
    )


def look_at_file(patient: CheckContext) -> Finding:
    """Whether the event file and its older ones can be written."""
    if patient.settings.file is None:
        return Finding(State.FINE, "no [file] in the settings")
    path = resolve_path(patient.settings.file.path)
    trouble = _trouble_writing(path.parent, path.name)
    if trouble is None:
        return Finding(State.FINE, str(path))
    remedy = f"give {path.parent} to the user who runs edge-sser, or set file.path to another place"
    return Finding(State.PROBLEM, f"events cannot be written: {trouble}", remedy)


def look_at_metrics(patient: CheckContext) -> Finding:
    """Whether metrics can be served, or are already by the edge-sser that runs."""
    settings = patient.settings.metrics
    if settings is None:
        return Finding(State.FINE, "no [metrics] in the settings")
    from edge_sser.sinks.metrics import open_metrics

    try:
        open_metrics(settings).close()
    except SinkError:
        if not _serves_metrics(settings):
            raise
        return Finding(State.FINE, f"{_url(settings)} is served by the edge-sser that runs")
    return Finding(State.FINE, f"{_url(settings)} is free")


def _trouble_writing(directory: Path, *names: str) -> str | None:
    """Why files of these names cannot be made or written in a directory, for a person; None when they can.

    A directory that is not there is not made: its nearest parent is looked at instead.
    """
    try:
        ancestor = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        if not ancestor.is_dir():
            return f"{ancestor} is not a directory"
        if ancestor != directory:
            may = os.access(ancestor, os.W_OK | os.X_OK)
            return None if may else f"{directory} cannot be made, since {ancestor} may not be written"
        for path in (directory / name for name in names):
            if path.is_dir():
                return f"{path} is a directory"
            if path.exists() and not os.access(path, os.R_OK | os.W_OK):
                return f"{path} may not be written by this user"
        with tempfile.TemporaryFile(dir=directory, buffering=0) as trial:
            trial.write(bytes(TRIAL_BYTES))
    except OSError as error:
        return f"{directory}: {error.strerror or error}"
    return None


def _serves_metrics(settings: MetricsSettings) -> bool:
    try:
        with urllib.request.urlopen(_url(settings), timeout=SCRAPE_SECONDS) as response:  # noqa: S310  loopback only
            return b"\nedge_sser_" in response.read(SCRAPE_BYTES)
    except (OSError, HTTPException):
        return False


def _url(settings: MetricsSettings) -> str:
    host = f"[{settings.address}]" if ":" in settings.address else settings.address
    return f"http://{host}:{settings.port}/metrics"
