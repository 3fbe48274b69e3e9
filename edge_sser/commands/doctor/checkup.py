"""`edge-sser doctor`: runs all checks and prints their findings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer

from edge_sser.commands.doctor.broker import check_broker, check_secrets
from edge_sser.commands.doctor.finding import CheckContext, Finding, State
from edge_sser.commands.doctor.machine import (
    check_model,
    check_python,
    check_recordings,
    check_runtime,
    check_speech_gate,
)
from edge_sser.commands.doctor.notify import check_notify
from edge_sser.commands.doctor.outputs import check_file, check_metrics, check_outbox
from edge_sser.commands.doctor.sound import check_capture, check_microphones, check_permission, check_pyaudio
from edge_sser.errors import EdgeSserError
from edge_sser.settings.load import SOURCE, load_settings
from edge_sser.settings.names import MICROPHONE
from edge_sser.settings.schema import Settings

# A check may raise an EdgeSserError, whose message becomes the finding.
CHECKS: Mapping[str, Callable[[CheckContext], Finding]] = {
    "python": check_python,
    "runtime": check_runtime,
    "model": check_model,
    "recordings": check_recordings,
    "speech gate": check_speech_gate,
    "pyaudio": check_pyaudio,
    "permission": check_permission,
    "microphones": check_microphones,
    "capture": check_capture,
    "secrets": check_secrets,
    "broker": check_broker,
    "outbox": check_outbox,
    "event file": check_file,
    "metrics": check_metrics,
    "notify": check_notify,
}


def print_checks(config: Path | None) -> int:
    """Prints the findings of all checks. Returns the exit status: 1 when there is a problem."""
    context, finding = _check_settings(config)
    problems = 0
    _print("settings", finding)
    problems += finding.state is State.PROBLEM
    with _quiet_log():
        for name, check in CHECKS.items():
            finding = _run(check, context)
            _print(name, finding)
            problems += finding.state is State.PROBLEM
    if problems:
        typer.echo(f"\n{problems} {'problem' if problems == 1 else 'problems'}")
    return 1 if problems else 0


def _print(name: str, finding: Finding) -> None:
    remedy = f"\n{'':9}{'':12}-> {finding.remedy}" if finding.remedy else ""
    typer.echo(f"{finding.state.value:9}{name:12}{finding.detail}{remedy}")


def _run(check: Callable[[CheckContext], Finding], context: CheckContext) -> Finding:
    try:
        return check(context)
    except EdgeSserError as error:
        return Finding(State.PROBLEM, str(error))
    except (ImportError, OSError) as error:  # OSError: a shared library of a package is missing
        if isinstance(error, OSError) and error.filename is not None:
            return Finding(State.PROBLEM, f"{error.filename}: {error.strerror}", "let this user read it")
        reason = str(error).splitlines()[0]
        return Finding(
            State.PROBLEM, f"cannot be loaded: {reason}", "pip install it again in a fresh virtual environment"
        )


def _check_settings(config: Path | None) -> tuple[CheckContext, Finding]:
    try:
        loaded = load_settings(config)
    except EdgeSserError as error:
        remedy = "correct it: until then the checks below see the defaults, and listen ends with exit status 2"
        return _context(Settings(), configured=False, file=None), Finding(State.PROBLEM, str(error), remedy)
    configured = SOURCE in loaded.origins
    where = str(loaded.path) if loaded.path else "no file; defaults"
    return _context(loaded.settings, configured=configured, file=loaded.path), Finding(State.FINE, where)


def _context(settings: Settings, *, configured: bool, file: Path | None) -> CheckContext:
    devices = [source.device for source in settings.source]
    microphones = tuple(device for device in devices if device.partition(":")[0] == MICROPHONE)
    return CheckContext(settings, microphones, configured and bool(microphones), file)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keeps the log out of standard error: the findings say the same."""
    log, handler = logging.getLogger("edge_sser"), logging.NullHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
