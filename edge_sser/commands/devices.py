"""`edge-sser devices`: the microphones of this machine, and their levels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np
import typer

from edge_sser.audio.microphone import MicrophoneSource, list_microphones
from edge_sser.audio.portaudio import Microphone
from edge_sser.audio.signal import Finding
from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import EdgeSserError, SourceError
from edge_sser.pipeline.level import dbfs

METER_CELLS = 20
QUIETEST_DBFS = -60.0  # left end of the meter


def print_devices(*, level: bool, as_json: bool) -> int:
    """Prints each microphone's id, name, rate, channels, level and faults. Returns the exit status.

    Args:
        level: True to listen to each for a second.
        as_json: True for one JSON object a line, with `dbfs` null and `error` where the level could not be measured.

    Raises:
        MissingComponentError: PyAudio is not installed.
        SourceError: there is no microphone.
    """
    microphones = list_microphones()
    if not microphones:
        raise SourceError(
            "no microphone was found: plug one in, and check that this user is in the group audio and that the sound "
            "server runs"
        )
    width = max(len(microphone.id) for microphone in microphones)
    for microphone in microphones:
        measured, problem = _measured_or_problem(microphone) if level else (None, None)
        level_dbfs = None if measured is None else round(measured.dbfs, 1)
        faults = [] if measured is None else [str(finding) for finding in measured.findings]
        if as_json:
            values = {"dbfs": level_dbfs, "error": problem, "faults": faults}
            typer.echo(json.dumps(asdict(microphone) | values, ensure_ascii=False))
            continue
        meter = f"{_meter(level_dbfs)} {level_dbfs:6.1f} dBFS  " if level_dbfs is not None else ""
        mark = "  (default)" if microphone.is_default else ""
        typer.echo(
            f"mic:{microphone.id:{width}}  {meter}{microphone.default_rate_hz} Hz  {microphone.channels} ch  "
            f"{microphone.name} [{microphone.host_api}]{mark}" + (f"  {problem}" if problem else "")
        )
        for fault in faults:
            typer.echo(f"{'':{width + 4}}  {fault}")
    return 0


@dataclass(frozen=True, slots=True)
class Measured:
    """A moment of a microphone.

    Attributes:
        dbfs: level, dB re full scale (a full-scale sine is -3.0), at least -120.
        findings: faults of its signal.
    """

    dbfs: float
    findings: tuple[Finding, ...]


def measure(microphone_id: str | None, *, channel: int | None = None, seconds: float = 1.0) -> Measured:
    """Listens to a microphone.

    Args:
        microphone_id: id from `list_microphones`; None for the default microphone.
        channel: the one to take, from 0; None for the average, or the best one.
        seconds: seconds of audio to measure over; less than 1 shows no faults.

    Raises:
        SourceError: the microphone cannot be opened or delivers nothing.
    """
    energy = total = 0.0
    samples = 0
    with MicrophoneSource(
        microphone_id, name="level", channel=channel, lasting=1
    ) as source:  # a sound server's first block can take 2 s
        chosen = None
        while samples < seconds * SAMPLE_RATE or source.signal.channel != chosen:
            if source.signal.channel != chosen:  # the level of what is used from now on
                chosen, energy, total, samples = source.signal.channel, 0.0, 0.0, 0
            block = source.read(timeout_seconds=seconds)
            if block is not None:
                energy += float(np.sum(np.square(block.samples, dtype=np.float64)))
                total += float(np.sum(block.samples, dtype=np.float64))
                samples += block.samples.size
        signal = source.signal
    nothing = () if signal.nothing is None else (Finding(f"the sound {signal.nothing.text}", signal.nothing.remedy),)
    power = max(0.0, energy / samples - (total / samples) ** 2)  # a constant offset is no sound
    return Measured(dbfs(power), (*nothing, *signal.findings))


def _measured_or_problem(microphone: Microphone) -> tuple[Measured | None, str | None]:
    try:
        return measure(microphone.id), None
    except EdgeSserError as error:  # a busy microphone must not hide the others
        return None, str(error)


def _meter(level_dbfs: float) -> str:
    cells = round(min(max(1.0 - level_dbfs / QUIETEST_DBFS, 0.0), 1.0) * METER_CELLS)
    return "[" + "#" * cells + "." * (METER_CELLS - cells) + "]"
