"""Microphones: PyAudio, permission, what is there, who holds it, and whether it hears anything."""

from __future__ import annotations

import os
from pathlib import Path

from edge_sser.audio.alsa import SHARING, holders
from edge_sser.commands.doctor.finding import CheckContext, Finding, State
from edge_sser.errors import EdgeSserError, MissingComponentError, SourceError

SOUND_DEVICES = Path("/dev/snd")
SILENT_DBFS = -100.0  # below it a microphone delivers zeros: muted, or suspended by its sound server


def look_at_pyaudio(patient: CheckContext) -> Finding:
    """Whether PyAudio is there and can be loaded."""
    from edge_sser.audio.portaudio import load_pyaudio

    try:
        load_pyaudio()
    except MissingComponentError as error:
        return Finding(patient.microphone_trouble, str(error))
    return Finding(State.FINE, "installed")


def look_at_permission(patient: CheckContext) -> Finding:
    """Whether this user may open what ALSA records from."""
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


def look_at_microphones(patient: CheckContext) -> Finding:
    """Which microphones there are."""
    from edge_sser.audio.microphone import list_microphones

    try:
        found = list_microphones()
    except MissingComponentError:
        return Finding(patient.microphone_trouble, "cannot be looked for without PyAudio")
    held = holders()
    parts = [f"mic:{microphone.id}" for microphone in found]
    parts += [f"mic:{holder.microphone_id} held by {holder}" for holder in held]
    if found or any(holder.is_edge_sser for holder in held):
        return Finding(State.FINE, ", ".join(parts))
    if held:
        return Finding(patient.microphone_trouble, f"none is free: {', '.join(parts)}", SHARING)
    return Finding(
        patient.microphone_trouble,
        "none was found",
        "plug one in, and start the sound server (PipeWire or PulseAudio) when this machine uses one",
    )


def look_at_capture(patient: CheckContext) -> Finding:
    """Whether audio comes from the microphones that the settings name."""
    from edge_sser.audio.microphone import list_microphones

    if not patient.microphones:
        return Finding(State.FINE, "no source is a microphone")
    try:
        if not list_microphones() and not holders():
            return Finding(patient.microphone_trouble, "nothing to record from")
        heard = {device: _listen(device) for device in patient.microphones}
    except EdgeSserError as error:
        return Finding(patient.microphone_trouble, str(error))
    silent = [device for device, level in heard.items() if isinstance(level, float) and level <= SILENT_DBFS]
    if silent:
        return Finding(State.WARNING, f"{silent[0]} delivers zeros", "unmute it, and raise its capture volume")
    parts = [f"{device} " + (f"at {it:.0f} dBFS" if isinstance(it, float) else str(it)) for device, it in heard.items()]
    return Finding(State.FINE, ", ".join(parts))


def _listen(device: str) -> float | str:
    """How loud it is at a microphone, dBFS; or in words that the edge-sser that runs is recording from it.

    Raises:
        EdgeSserError: it cannot be recorded from, and that is not because edge-sser does.
    """
    from edge_sser.commands.devices import measure_level

    microphone_id = device.partition(":")[2] or None
    try:
        return measure_level(microphone_id)
    except SourceError:
        for holder in holders():
            if holder.is_edge_sser and microphone_id in (None, holder.microphone_id):
                return f"is recorded by {holder}, which runs"
        raise
