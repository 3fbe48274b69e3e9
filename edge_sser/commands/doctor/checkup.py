"""`edge-sser doctor`: runs all checks and prints their findings."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

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
from edge_sser.commands.doctor.outputs import check_file, check_history, check_metrics, check_outbox, check_web
from edge_sser.commands.doctor.sound import check_capture, check_microphones, check_permission, check_pyaudio
from edge_sser.errors import EdgeSserError
from edge_sser.settings.file import places
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
    "history": check_history,
    "web page": check_web,
    "metrics": check_metrics,
    "notify": check_notify,
}


# Checks that open a microphone or a connection, or need what only `listen` may read.
ACTIVE: Final = frozenset(("pyaudio", "permission", "microphones", "capture", "secrets", "broker", "web page"))
# Checks of tables that the defaults do not have: without the settings there is nothing to check.
OF_SETTINGS: Final = frozenset(
    ("secrets", "broker", "outbox", "event file", "history", "web page", "metrics", "notify")
)


def print_checks(config: Path | None, *, as_json: bool = False, passive: bool = False) -> int:
    """Prints the findings of all checks. Returns the exit status: 1 when there is a problem.

    Args:
        config: file of the settings; None for the one that is found.
        as_json: print one JSON array, at the end.
        passive: leave out checks that open a microphone or a connection.
    """
    context, finding = _check_settings(config)
    findings = [("settings", finding)]
    if not as_json:
        _print("settings", finding)
    with _quiet_log():
        for name, check in CHECKS.items():
            if passive and name in ACTIVE:
                continue
            broken = findings[0][1].state is State.PROBLEM and name in OF_SETTINGS
            finding = Finding(State.SKIPPED, "the settings must be right first") if broken else _run(check, context)
            findings.append((name, finding))
            if not as_json:
                _print(name, finding)
    counts = Counter(finding.state for _, finding in findings)
    if as_json:
        rows = [{"name": name, **asdict(finding), "state": finding.state.value} for name, finding in findings]
        typer.echo(json.dumps(rows, ensure_ascii=False))
    else:
        typer.echo(f"\n{_counted(counts[State.PROBLEM], 'problem')}, {_counted(counts[State.WARNING], 'warning')}")
    return 1 if counts[State.PROBLEM] else 0


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


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
        remedy = "mend this: until then listen ends with exit status 2, and the checks below see the defaults"
        return _context(Settings(), configured=False, file=None), Finding(State.PROBLEM, str(error), remedy)
    configured = SOURCE in loaded.origins
    where = str(loaded.path or f"defaults, since there is no {' or '.join(map(str, places(os.environ)))}")
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
