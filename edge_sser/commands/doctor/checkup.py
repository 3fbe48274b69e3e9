"""All checks, one after the other, and what is printed of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from edge_sser.commands.doctor.broker import look_at_broker, look_at_secrets
from edge_sser.commands.doctor.finding import Check, CheckContext, Finding, State
from edge_sser.commands.doctor.machine import (
    look_at_model,
    look_at_python,
    look_at_recordings,
    look_at_runtime,
    look_at_speech_gate,
)
from edge_sser.commands.doctor.outputs import look_at_file, look_at_metrics, look_at_outbox
from edge_sser.commands.doctor.sound import (
    look_at_capture,
    look_at_microphones,
    look_at_permission,
    look_at_pyaudio,
)
from edge_sser.errors import EdgeSserError
from edge_sser.settings.load import SOURCE, load_settings
from edge_sser.settings.names import MICROPHONE
from edge_sser.settings.schema import Settings

CHECKS = (
    Check("python", look_at_python),
    Check("runtime", look_at_runtime),
    Check("model", look_at_model),
    Check("recordings", look_at_recordings),
    Check("speech gate", look_at_speech_gate),
    Check("pyaudio", look_at_pyaudio),
    Check("permission", look_at_permission),
    Check("microphones", look_at_microphones),
    Check("capture", look_at_capture),
    Check("secrets", look_at_secrets),
    Check("broker", look_at_broker),
    Check("outbox", look_at_outbox),
    Check("event file", look_at_file),
    Check("metrics", look_at_metrics),
)


def print_checks(config: Path | None) -> int:
    """Runs all checks and prints what they find. Returns the exit status: 1 when there is a problem.

    Args:
        config: the settings file; None looks it up.
    """
    patient, finding = _examine_settings(config)
    problems = 0
    _print("settings", finding)
    problems += finding.state is State.PROBLEM
    with _quiet_log():
        for check in CHECKS:
            finding = _look(check, patient)
            _print(check.name, finding)
            problems += finding.state is State.PROBLEM
    if problems:
        typer.echo(f"\n{problems} {'problem' if problems == 1 else 'problems'}")
    return 1 if problems else 0


def _print(name: str, finding: Finding) -> None:
    remedy = f"\n{'':9}{'':12}-> {finding.remedy}" if finding.remedy else ""
    typer.echo(f"{finding.state.value:9}{name:12}{finding.detail}{remedy}")


def _look(check: Check, patient: CheckContext) -> Finding:
    try:
        return check.look(patient)
    except EdgeSserError as error:
        return Finding(State.PROBLEM, str(error))
    except (ImportError, OSError) as error:  # OSError: a library that a package loads is not there
        if isinstance(error, OSError) and error.filename is not None:
            return Finding(State.PROBLEM, f"{error.filename}: {error.strerror}", "let this user read it")
        reason = str(error).splitlines()[0]
        return Finding(
            State.PROBLEM, f"cannot be loaded: {reason}", "pip install --force-reinstall edge-sser in a fresh .venv"
        )


def _examine_settings(config: Path | None) -> tuple[CheckContext, Finding]:
    try:
        loaded = load_settings(config)
    except EdgeSserError as error:
        remedy = "correct it: until then the checks below see the defaults, and listen ends with exit status 2"
        return _patient(Settings(), wanted=False, file=None), Finding(State.PROBLEM, str(error), remedy)
    wanted = SOURCE in loaded.origins
    where = str(loaded.path) if loaded.path else "no file; defaults"
    return _patient(loaded.settings, wanted=wanted, file=loaded.path), Finding(State.FINE, where)


def _patient(settings: Settings, *, wanted: bool, file: Path | None) -> CheckContext:
    devices = [source.device for source in settings.source]
    microphones = tuple(device for device in devices if device.partition(":")[0] == MICROPHONE)
    return CheckContext(settings, microphones, wanted and bool(microphones), file)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keeps what the parts of the program log out of standard error: the findings say it."""
    log, nowhere = logging.getLogger("edge_sser"), logging.NullHandler()
    log.addHandler(nowhere)
    try:
        yield
    finally:
        log.removeHandler(nowhere)
