"""`edge-sser doctor`: what is missing or misconfigured on this machine, each with its remedy."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from importlib import resources
from pathlib import Path

import typer

from edge_sser.audio.open import MICROPHONE
from edge_sser.configuration import SOURCE, load_settings
from edge_sser.errors import EdgeSserError, MissingComponentError
from edge_sser.settings import Settings

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
SOUND_DEVICES = Path("/dev/snd")
SILENT_DBFS = -100.0  # below it a microphone delivers zeros: muted, or suspended by its sound server


class State(str, Enum):
    """How a check went."""

    FINE = "fine"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        detail: what was found.
        remedy: what to do; empty when all is well.
    """

    state: State
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What the checks look at.

    Attributes:
        settings: in effect; the defaults when they cannot be read.
        microphones: devices of the sources that are microphones, as settings name them.
        microphone_wanted: the settings name a microphone. Without a source in them it is only the default.
    """

    settings: Settings
    microphones: tuple[str, ...]
    microphone_wanted: bool

    @property
    def microphone_trouble(self) -> State:
        """What a missing microphone is: no problem for somebody who analyses recordings."""
        return State.PROBLEM if self.microphone_wanted else State.WARNING


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong. `look` may raise an EdgeSserError: its message is the finding."""

    name: str
    look: Callable[[Patient], Finding]


def print_checks(config: Path | None) -> int:
    """Runs all checks and prints what they find. Returns the exit status: 1 when there is a problem.

    Args:
        config: the settings file; None looks it up.
    """
    patient, finding = _examine_settings(config)
    problems = 0
    _print("settings", finding)
    problems += finding.state is State.PROBLEM
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


def _look(check: Check, patient: Patient) -> Finding:
    try:
        return check.look(patient)
    except EdgeSserError as error:
        return Finding(State.PROBLEM, str(error))
    except (ImportError, OSError) as error:  # OSError: a library that a package loads is not there
        reason = str(error).splitlines()[0]
        return Finding(
            State.PROBLEM, f"cannot be loaded: {reason}", "pip install --force-reinstall edge-sser in a fresh .venv"
        )


def _examine_settings(config: Path | None) -> tuple[Patient, Finding]:
    try:
        loaded = load_settings(config)
    except EdgeSserError as error:
        return _patient(Settings(), wanted=False), Finding(State.PROBLEM, str(error))
    wanted = SOURCE in loaded.origins
    where = str(loaded.path) if loaded.path else "no file; defaults"
    return _patient(loaded.settings, wanted=wanted), Finding(State.FINE, where)


def _patient(settings: Settings, *, wanted: bool) -> Patient:
    devices = [source.device for source in settings.source]
    microphones = tuple(device for device in devices if device.partition(":")[0] == MICROPHONE)
    return Patient(settings, microphones, wanted and bool(microphones))


def _python(patient: Patient) -> Finding:
    version = platform.python_version()
    if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        return Finding(State.FINE, version)
    return Finding(
        State.WARNING,
        f"{version} was not tried, expected 3.{OLDEST_PYTHON[1]} to 3.{NEWEST_PYTHON[1]}",
        "make the .venv with one of those",
    )


def _runtime(patient: Patient) -> Finding:
    from edge_sser.runtime import onnx_runtime

    onnxruntime = onnx_runtime()
    present = ", ".join(name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers())
    return Finding(State.FINE, f"ONNX Runtime {onnxruntime.__version__} with {present}")


def _model(patient: Patient) -> Finding:
    import numpy as np

    from edge_sser.features import FEATURES
    from edge_sser.model import load_model

    settings = patient.settings.model
    model = load_model(settings.path, provider=settings.provider.value, threads=settings.threads)
    stress = model.score(np.zeros((FEATURES.frames, FEATURES.bands), dtype=np.float32)).stress
    if not 0.0 <= stress <= 1.0:
        return Finding(State.PROBLEM, f"{model.path} gives {stress} for silence", "copy or export the model again")
    return Finding(State.FINE, f"{model.label}, computed by {model.provider}")


def _recordings(patient: Patient) -> Finding:
    import soundfile

    demo = resources.files("edge_sser") / "samples" / "demo.flac"
    with soundfile.SoundFile(str(demo)) as file:
        file.read(1)
    return Finding(State.FINE, f"libsndfile {soundfile.__libsndfile_version__} reads the recording that ships")


def _speech_gate(patient: Patient) -> Finding:
    import webrtcvad

    webrtcvad.Vad(patient.settings.gate.aggressiveness).is_speech(bytes(960), 16_000)
    return Finding(State.FINE, "WebRTC voice activity detection")


def _pyaudio(patient: Patient) -> Finding:
    from edge_sser.audio.portaudio import load_pyaudio

    try:
        load_pyaudio()
    except MissingComponentError as error:
        return Finding(patient.microphone_trouble, str(error))
    return Finding(State.FINE, "installed")


def _permission(patient: Patient) -> Finding:
    nodes = sorted(SOUND_DEVICES.glob("pcm*c"))
    if not nodes:
        return Finding(State.FINE, f"no capture device in {SOUND_DEVICES}; a sound server may have one")
    closed = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if not closed:
        return Finding(State.FINE, f"{len(nodes)} capture devices in {SOUND_DEVICES}")
    return Finding(
        patient.microphone_trouble,
        f"this user may not open {closed[0]}",
        'sudo usermod -aG audio "$USER", then log in again',
    )


def _microphones(patient: Patient) -> Finding:
    from edge_sser.audio.microphone import list_microphones

    try:
        found = list_microphones()
    except MissingComponentError:
        return Finding(patient.microphone_trouble, "cannot be looked for without PyAudio")
    if not found:
        return Finding(
            patient.microphone_trouble,
            "none was found",
            "plug one in, and start the sound server (PipeWire or PulseAudio) when this machine uses one",
        )
    return Finding(State.FINE, ", ".join(f"mic:{microphone.id}" for microphone in found))


def _capture(patient: Patient) -> Finding:
    from edge_sser.audio.microphone import list_microphones, measure_level

    devices = patient.microphones
    if not devices:
        return Finding(State.FINE, "no source is a microphone")
    try:
        if not list_microphones():
            return Finding(patient.microphone_trouble, "nothing to record from")
        levels = {device: measure_level(device.partition(":")[2] or None) for device in devices}
    except EdgeSserError as error:
        return Finding(patient.microphone_trouble, str(error))
    silent = [device for device, level in levels.items() if level <= SILENT_DBFS]
    if silent:
        return Finding(State.WARNING, f"{silent[0]} delivers zeros", "unmute it, and raise its capture volume")
    return Finding(State.FINE, ", ".join(f"{device} at {level:.0f} dBFS" for device, level in levels.items()))


CHECKS = (
    Check("python", _python),
    Check("runtime", _runtime),
    Check("model", _model),
    Check("recordings", _recordings),
    Check("speech gate", _speech_gate),
    Check("pyaudio", _pyaudio),
    Check("permission", _permission),
    Check("microphones", _microphones),
    Check("capture", _capture),
)
