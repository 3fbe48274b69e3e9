"""Checks of microphones: PyAudio, permission, presence, use by others, and signal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sser.audio.alsa import SHARING, holders
from edge_sser.commands.doctor.finding import CheckContext, Finding, State
from edge_sser.errors import EdgeSserError, MissingComponentError, SourceError

if TYPE_CHECKING:
    from edge_sser.commands.devices import Measured

SOUND_DEVICES = Path("/dev/snd")


def check_pyaudio(context: CheckContext) -> Finding:
    """Checks that PyAudio is installed and loads."""
    from edge_sser.audio.portaudio import load_pyaudio

    try:
        load_pyaudio()
    except MissingComponentError as error:
        return Finding(context.microphone_severity, str(error))
    return Finding(State.FINE, "installed")


def check_permission(context: CheckContext) -> Finding:
    """Checks that this user may open ALSA's capture devices."""
    nodes = sorted(SOUND_DEVICES.glob("pcm*c"))
    if not nodes:
        return Finding(State.FINE, f"no capture device in {SOUND_DEVICES}; a sound server may have one")
    closed = [node for node in nodes if not os.access(node, os.R_OK | os.W_OK)]
    if not closed:
        return Finding(State.FINE, f"{len(nodes)} capture devices in {SOUND_DEVICES}")
    return Finding(
        context.microphone_severity,
        f"this user may not open {closed[0]}",
        'sudo usermod -aG audio "$USER", then log in again',
    )


def check_microphones(context: CheckContext) -> Finding:
    """Lists the microphones, and the programs that hold them."""
    from edge_sser.audio.microphone import list_microphones

    try:
        found = list_microphones()
    except MissingComponentError:
        return Finding(State.SKIPPED, "cannot be looked for without PyAudio")
    held = holders()
    parts = [f"mic:{microphone.id}" for microphone in found]
    parts += [f"mic:{holder.microphone_id} held by {holder}" for holder in held]
    if found or any(holder.is_edge_sser for holder in held):
        return Finding(State.FINE, ", ".join(parts))
    if held:
        return Finding(context.microphone_severity, f"none is free: {', '.join(parts)}", SHARING)
    return Finding(
        context.microphone_severity,
        "none was found",
        "plug one in, and start the sound server (PipeWire or PulseAudio) when this machine uses one",
    )


def check_capture(context: CheckContext) -> Finding:
    """Checks that audio comes from the microphones of the settings, and that their signal is well."""
    from edge_sser.audio.microphone import list_microphones
    from edge_sser.audio.signal import Fault

    if not context.microphones:
        return Finding(State.FINE, "no source is a microphone")
    try:
        if not list_microphones() and not holders():
            return Finding(context.microphone_severity, "nothing to record from", "see microphones, above")
        channels = {source.device: source.channel for source in context.settings.source}
        heard = {device: _measured_or_holder(device, channels.get(device)) for device in context.microphones}
    except MissingComponentError:
        return Finding(State.SKIPPED, "nothing can be recorded without PyAudio")
    except EdgeSserError as error:
        return Finding(context.microphone_severity, str(error))
    for device, measured in heard.items():
        if isinstance(measured, str) or not measured.findings:
            continue
        first = measured.findings[0]
        if first.text == f"the sound {Fault.SILENT.text}":
            return Finding(State.WARNING, f"{device} delivers zeros", "unmute it, and raise its capture volume")
        level = f"{device} at {measured.dbfs:.0f} dBFS: "
        texts, remedies = zip(*measured.findings, strict=True)
        return Finding(State.WARNING, level + "; ".join(texts), "; ".join(remedies))
    return Finding(
        State.FINE,
        ", ".join(
            f"{device} " + (measured if isinstance(measured, str) else f"at {measured.dbfs:.0f} dBFS")
            for device, measured in heard.items()
        ),
    )


def _measured_or_holder(device: str, channel: int | None) -> Measured | str:
    """Returns what a microphone gives; or a description of the running edge-sser that records from it.

    Raises:
        EdgeSserError: the microphone cannot be opened, and not because of edge-sser.
    """
    from edge_sser.commands.devices import measure

    microphone_id = device.partition(":")[2] or None
    try:
        return measure(microphone_id, channel=channel)
    except SourceError:
        for holder in holders():
            if holder.is_edge_sser and microphone_id in (None, holder.microphone_id):
                return f"is recorded by {holder}, which runs"
        raise
