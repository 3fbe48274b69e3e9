"""Opens a source from its settings."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from edge_sser.audio.source import Source
from edge_sser.errors import SourceError
from edge_sser.settings.names import STANDARD_INPUT, microphone_id, source_name
from edge_sser.settings.schema import SourceSettings

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CREDENTIALS = re.compile(r"://[^/]*@")
# Names of microphones in ALSA, PulseAudio, PipeWire, ffmpeg and others.
_FOREIGN = re.compile(
    r"(?:(?:plug)?hw|dsnoop|dmix|sysdefault|front|default|pulse|pipewire|alsa|jack|avfoundation|dshow|null|iec958)(?:[:,].*)?"
    r"|alsa_(?:input|output)\..*|@DEFAULT_.*@|microphone|/dev/(?:snd/.*|dsp\d*|audio\d*)|\d+",
    re.IGNORECASE,
)


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

    _refuse_foreign_name(settings.device)
    # Not Path.expanduser, which raises for an unknown user. FileSource then reports the missing file.
    path = Path(os.path.expanduser(settings.device))
    return FileSource(path, name=name, channel=settings.channel, paced=paced)


def _refuse_foreign_name(device: str) -> None:
    """Refuses what other programs call a source, with the words that do it here.

    Raises:
        SourceError: the device is a URL, or no file but the name of a microphone in another program.
    """
    if _URL.match(device):
        raise SourceError(
            f"{_CREDENTIALS.sub('://', device)} is a URL, which is not opened here: pipe its sound in, for example "
            "ffmpeg -i URL -f s16le -ar 16000 -ac 1 - | edge-sser listen --source -"
        )
    if _FOREIGN.fullmatch(device) and not os.path.isfile(device):
        raise SourceError(
            f"{device} is no file, but reads like another program's name of a microphone: write mic for the default "
            "one or mic:ID for another, with an id from edge-sser devices"
        )
