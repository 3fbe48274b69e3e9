"""Opens a source from its settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from edge_sser.audio.source import Source
from edge_sser.errors import SourceError
from edge_sser.settings.names import STANDARD_INPUT, microphone_id, source_name
from edge_sser.settings.schema import SourceSettings


def is_microphone(settings: SourceSettings) -> bool:
    """Returns True for a microphone, which can be opened again and again, unlike a recording or pipe."""
    return microphone_id(settings.device) is not None


def is_recording(settings: SourceSettings) -> bool:
    """Returns True for a file, which waits for its reader. Audio from a microphone or a pipe is live."""
    return settings.device != STANDARD_INPUT and not is_microphone(settings)


def open_source(settings: SourceSettings, *, paced: bool) -> Source:
    """Opens the source that the settings name.

    Args:
        settings: of one source.
        paced: play a recording in real time (for `listen`); False reads it as fast as possible (for `analyze`).

    Raises:
        EdgeSserError: the source cannot be opened; the message says why and what to do.
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
    microphone = microphone_id(settings.device)
    if microphone is not None:
        from edge_sser.audio.microphone import MicrophoneSource

        return MicrophoneSource(
            microphone or None, name=name, channel=settings.channel, buffer_seconds=settings.buffer_seconds
        )
    from edge_sser.audio.file import FileSource

    # Not Path.expanduser, which raises for an unknown user. FileSource then reports the missing file.
    path = Path(os.path.expanduser(settings.device))
    return FileSource(path, name=name, channel=settings.channel, paced=paced)
