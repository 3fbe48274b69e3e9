"""Sources of a sound server (PulseAudio, or PipeWire in its place), one by one.

ALSA and so PortAudio know a sound server as one device, which records from the server's default source. The server's
own program `pactl` lists all of its sources, and the environment chooses one for a stream that is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from edge_sser.audio.background import BackgroundCall
from edge_sser.settings.names import MAX_NAME_LENGTH, slug

# Names that ALSA gives to sound servers. A server resamples and mixes well to any format, so the rate and the channel
# count that ALSA reports for it mean nothing.
SOUND_SERVERS: Final = frozenset({"pulse", "pipewire"})
_CHOICE: Final = ("PULSE_SOURCE", "PIPEWIRE_NODE")  # read by libpulse, and by PipeWire's plugin for ALSA
_PREFIX: Final = "alsa_input."  # of the names of all sources that are hardware
_DIGEST_LENGTH: Final = 8  # of a name that is too long for an id
_ANSWER_SECONDS: Final = 3.0
_CHECK_SECONDS: Final = 10.0  # between two checks that a stream was not moved


@dataclass(frozen=True, slots=True)
class ServerSource:
    """A source of the sound server.

    Attributes:
        name: the server's, which names the same device from one start to the next.
        description: for a person.
        rate_hz: sample rate, Hz.
        channels: number of channels.
    """

    name: str
    description: str
    rate_hz: int
    channels: int

    @property
    def id(self) -> str:
        """Id of the microphone.

        Examples:
            >>> ServerSource("alsa_input.usb-Yeti-00.analog-stereo", "Yeti Analog Stereo", 44_100, 2).id
            'usb-yeti-00-analog-stereo'
        """
        name = self.name.removeprefix(_PREFIX)
        if len(name) <= MAX_NAME_LENGTH:
            return slug(name, "source")
        digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
        return f"{slug(name, 'source')[: MAX_NAME_LENGTH - _DIGEST_LENGTH - 1]}-{digest}"


def server_sources() -> list[ServerSource]:
    """Returns the sources of the sound server, monitors of its outputs last; none where `pactl` is missing or fails."""
    sources = [source for source in _list("sources") if isinstance(source.get("name"), str)]
    sources.sort(key=lambda source: bool(source.get("monitor_source")))
    return [_source(source) for source in sources]


class StreamWatch:
    """Notices that the server has moved a stream to another source, as it does when the stream's own is unplugged."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        """Begins to watch a stream that was opened just now.

        Args:
            name: the server's, of the source.
            clock: seconds on a clock that never goes back.
        """
        self._name = name
        self._clock = clock
        self._check_at = clock() + _CHECK_SECONDS
        self._check: BackgroundCall[bool] | None = None

    def moved(self) -> bool:
        """Returns True when the last check found no stream of this process at the source. Does not wait."""
        if self._check is None:
            if self._clock() >= self._check_at:
                self._check = BackgroundCall(partial(_records_from, self._name), name="watch")
            return False
        records = self._check.result(0.0)
        if records is not None:
            self._check, self._check_at = None, self._clock() + _CHECK_SECONDS
        return records is False


def _records_from(name: str) -> bool:
    """Returns False when this process records from other sources than one; True when in doubt."""
    names = {source.get("index"): source.get("name") for source in _list("sources")}
    ours = [
        names.get(stream.get("source"))
        for stream in _list("source-outputs")
        if stream.get("properties", {}).get("application.process.id") == str(os.getpid())
    ]
    return name in ours or not ours or not names


@contextmanager
def chosen(name: str) -> Iterator[None]:
    """Makes the streams that are opened meanwhile record from a source. For one thread at a time.

    Args:
        name: the server's, of the source.
    """
    before = {variable: os.environ.get(variable) for variable in _CHOICE}
    os.environ.update(dict.fromkeys(_CHOICE, name))
    try:
        yield
    finally:
        for variable, value in before.items():
            if value is None:
                del os.environ[variable]
            else:
                os.environ[variable] = value


def _source(listed: dict[str, Any]) -> ServerSource:
    # For example "s16le 2ch 44100Hz".
    parts = str(listed.get("sample_specification", "")).split()
    figures = [int(part.rstrip("chHz")) for part in parts[1:] if part.rstrip("chHz").isdecimal()]
    channels, rate_hz = figures if len(figures) == 2 else (1, 44_100)
    described = listed.get("description")
    description = listed["name"] if described in (None, "", "(null)") else str(described)
    return ServerSource(listed["name"], description, rate_hz, channels)


def _list(what: str) -> list[dict[str, Any]]:
    # In another locale, pactl 16 writes decimal commas.
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    command = ["pactl", "--format=json", "list", what]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ANSWER_SECONDS, check=True
        )
        listed = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
