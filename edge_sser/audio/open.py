"""From the settings of a source to the source."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_sser.audio.names import slug
from edge_sser.audio.source import Source
from edge_sser.errors import SourceError
from edge_sser.settings.schema import SourceSettings

MICROPHONE = "mic"
STANDARD_INPUT = "-"


def source_name(settings: SourceSettings) -> str:
    """The source's name in events: the one that was set, or one made from the device.

    Examples:
        >>> source_name(SourceSettings(device="mic:USB Audio"))
        'usb-audio'
        >>> source_name(SourceSettings(device="interviews/Day 1.flac"))
        'day-1'
    """
    if settings.name is not None:
        return settings.name
    if settings.device == STANDARD_INPUT:
        return "stdin"
    microphone_id = _microphone_id(settings.device)
    if microphone_id is None:
        return slug(Path(settings.device).stem, "recording")
    return slug(microphone_id, MICROPHONE)


def is_microphone(settings: SourceSettings) -> bool:
    """Whether it is a microphone, which can be opened again and again, unlike a recording or pipe."""
    return _microphone_id(settings.device) is not None


def is_recording(settings: SourceSettings) -> bool:
    """Whether it is a file, which waits for whoever reads it, unlike a microphone or what comes from one in a pipe."""
    return settings.device != STANDARD_INPUT and not is_microphone(settings)


def open_source(settings: SourceSettings, *, paced: bool) -> Source:
    """Opens what the settings name.

    Args:
        settings: of one source.
        paced: hand a recording out in real time (for `listen`); False reads it as fast as possible (for `analyze`).

    Raises:
        EdgeSserError: it cannot be opened; the message says why and what to do.
    """
    name = source_name(settings)
    if settings.device == STANDARD_INPUT:
        from edge_sser.audio.raw import RawSource

        if sys.stdin is None or sys.stdin.closed:
            raise SourceError(
                "standard input is closed: pipe raw PCM into it, or name a file or microphone as --source"
            )
        return RawSource(
            sys.stdin.buffer,
            name=name,
            rate_hz=settings.raw_rate_hz,
            channels=settings.raw_channels,
            sample_format=settings.raw_format,
            channel=settings.channel,
        )
    microphone_id = _microphone_id(settings.device)
    if microphone_id is not None:
        from edge_sser.audio.microphone import MicrophoneSource

        return MicrophoneSource(
            microphone_id or None, name=name, channel=settings.channel, buffer_seconds=settings.buffer_seconds
        )
    from edge_sser.audio.file import FileSource

    # Not Path.expanduser, which fails for a user whom nobody knows: that the file is not there says it all.
    path = Path(os.path.expanduser(settings.device))
    return FileSource(path, name=name, channel=settings.channel, paced=paced)


def _microphone_id(device: str) -> str | None:
    """The id in `mic:ID`, nothing for `mic` (the default one), None when it is no microphone."""
    kind, _, microphone_id = device.partition(":")
    return microphone_id if kind == MICROPHONE else None
