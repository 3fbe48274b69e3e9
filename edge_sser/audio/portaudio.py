"""PortAudio: loads it, lists microphones under stable ids, opens one."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_sser.audio.alsa import SHARING, hardware_id, holders, silence_c_output
from edge_sser.audio.pulse import SOUND_SERVERS, chosen, server_sources
from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import MissingComponentError, SourceError, missing_extra
from edge_sser.settings.names import slug

ALSA_CARDS = Path("/proc/asound/cards")
# Cards with what the loudspeaker plays in a channel: part of the name, channels, channel to take. By their makers:
# channel 0 of the first is beamformed and without echo, and 5 the loudspeaker; the last two of the second are the
# loudspeaker. Sources: wiki.seeedstudio.com/ReSpeaker_Mic_Array_v2.0, pinout.xyz/pinout/respeaker_6_mic_array.
_ECHO_CARDS = (("ReSpeaker 4 Mic Array", 6, 0), ("seeed-8mic-voicecard", 8, 0))
_HARDWARE = re.compile(r"\(hw:(\d+),(\d+)\)")

# Callback of PortAudio: (bytes, frames, time info, status flags) -> (None, continue flag).
Callback = Callable[[bytes, int, dict[str, float], int], tuple[None, int]]


class RateRefusedError(SourceError):
    """The device does not record at the requested rate. It may do so at its own."""


@dataclass(frozen=True, slots=True)
class Microphone:
    """An input device.

    Attributes:
        id: names the device from one start to the next, as PortAudio's index does not: the id of the ALSA card for
            hardware (as in `hw:CARD=...`; two alike are told apart by the kernel's numbering), else a slug of its name.
        name: PortAudio's name, or the sound server's description.
        host_api: ALSA, JACK, OSS, ...; of a sound server's source, the server's name in ALSA.
        channels: largest number of channels.
        default_rate_hz: the device's own sample rate, Hz.
        is_default: True for the device that `mic` means.
        server_source: the sound server's name for one of its sources; None for any other device.
    """

    id: str
    name: str
    host_api: str
    channels: int
    default_rate_hz: int
    is_default: bool
    server_source: str | None = None

    def __str__(self) -> str:
        return f"microphone {self.id}" + (f" ({self.name})" if self.name != self.id else "")


class PortAudio:
    """PortAudio, initialised. Its list of devices is frozen: to see a re-plugged one, close and make another.

    PortAudio counts its users. It reads the list again only after the last `PortAudio` of the process was closed.
    """

    def __init__(self) -> None:
        """Loads and initialises PortAudio.

        Raises:
            MissingComponentError: PyAudio is not installed, or cannot be loaded.
        """
        self._pyaudio = load_pyaudio()
        silence_c_output()
        self._audio: Any = self._pyaudio.PyAudio()
        self._indices = self._list()
        self._server_listed = False

    def microphones(self) -> list[Microphone]:
        """Returns every input device: PortAudio's in its order, then the sources of a sound server."""
        if not self._server_listed:
            self._server_listed = True
            self._indices |= self._list_server()
        return list(self._indices)

    def find(self, microphone_id: str | None) -> Microphone:
        """Returns the microphone with an id, or the default one for None.

        Raises:
            SourceError: there is no such microphone, or another program holds it.
        """
        listings: tuple[Callable[[], list[Microphone]], ...] = (lambda: list(self._indices), self.microphones)
        for listing in listings:  # one after the other: a sound server is asked only when need be
            known = listing()
            for microphone in known:
                if microphone.id == microphone_id or (microphone_id is None and microphone.is_default):
                    return microphone
        for holder in holders():
            if microphone_id in (None, holder.microphone_id):
                raise SourceError(f"microphone {holder.microphone_id} is held by {holder}: {SHARING}")
        if microphone_id is not None and _names_a_card(microphone_id):
            # PortAudio does not list devices that it cannot open.
            raise SourceError(
                f"microphone {microphone_id} is there, but another program holds it, or it does not record: stop that "
                "program, or share the microphone by a sound server"
            )
        if not known:
            raise SourceError(
                "no microphone was found: plug one in, check that this user is in the group audio and that the sound "
                "server runs, or take a recording: edge-sser listen --source FILE"
            )
        ids = ", ".join(microphone.id for microphone in known)
        missing = "default microphone" if microphone_id is None else f"microphone {microphone_id}"
        raise SourceError(f"there is no {missing}: name one of {ids} as --source mic:ID (edge-sser devices shows them)")

    def capture_format(self, microphone: Microphone, channel: int | None) -> tuple[int, int]:
        """Returns the sample rate in Hz and the channel count to record with, so that `channel` is included.

        Hardware records all of its channels (it may offer no other number) at its own rate. A sound server is asked for
        16 kHz, which saves a second resampling. It and other software devices are asked for two channels, or as many as
        `channel` needs. ALSA's `default` counts as a sound server when one runs, as distributions configure it.
        """
        names = {other.name for other in self._indices} if microphone.name == "default" else {microphone.name}
        if microphone.server_source is not None:
            return SAMPLE_RATE, microphone.channels
        rate_hz = SAMPLE_RATE if names & SOUND_SERVERS else microphone.default_rate_hz
        if _HARDWARE.search(microphone.name):
            return rate_hz, microphone.channels
        return rate_hz, min(microphone.channels, max(2, (channel or 0) + 1))

    def open(
        self, microphone: Microphone, *, rate_hz: int, channels: int, block_seconds: float, callback: Callback
    ) -> Any:  # pyaudio.Stream, which has no types
        """Starts recording in float32, the one format to which PortAudio converts without dither.

        Args:
            microphone: one of `microphones()`.
            rate_hz: sample rate, Hz.
            channels: channels in a frame.
            block_seconds: audio in one callback.
            callback: called from PortAudio's thread; must return at once.

        Raises:
            RateRefusedError: the device does not record at that rate.
            SourceError: the device refuses for another reason.
        """
        source = microphone.server_source
        try:
            with nullcontext() if source is None else chosen(source):
                return self._audio.open(
                    rate=rate_hz,
                    channels=channels,
                    format=self._pyaudio.paFloat32,
                    input=True,
                    input_device_index=self._indices[microphone],
                    frames_per_buffer=round(rate_hz * block_seconds),
                    stream_callback=callback,
                )
        except OSError as error:
            raise self._refusal(microphone, error, rate_hz) from None

    @property
    def continue_flag(self) -> int:
        """Return value of a callback that is to be called again."""
        return int(self._pyaudio.paContinue)

    @property
    def overflow_flag(self) -> int:
        """Status flag of a block before which the device lost audio."""
        return int(self._pyaudio.paInputOverflow)

    def close(self) -> None:
        """Releases PortAudio. Safe to call twice."""
        if self._audio is not None:  # a second `terminate` would release it for another user
            self._audio.terminate()
            self._audio = None

    def _list(self) -> dict[Microphone, int]:
        try:
            default = int(self._audio.get_default_input_device_info()["index"])
        except OSError:  # there is none
            default = -1
        cards = sound_cards()
        indices: dict[Microphone, int] = {}
        taken: set[str] = set()
        for index in range(self._audio.get_device_count()):
            device = self._audio.get_device_info_by_index(index)
            if device["maxInputChannels"] < 1:
                continue
            name = str(device["name"])
            microphone = Microphone(
                id=_unused(stable_id(name, cards), taken),
                name=name,
                host_api=str(self._audio.get_host_api_info_by_index(device["hostApi"])["name"]),
                channels=int(device["maxInputChannels"]),
                default_rate_hz=round(device["defaultSampleRate"]),
                is_default=index == default,
            )
            taken.add(microphone.id)
            indices[microphone] = index
        return indices

    def _list_server(self) -> dict[Microphone, int]:
        """Returns the sources of the sound server, each with the index of the server."""
        server = next((device for device in self._indices if device.name in SOUND_SERVERS), None)
        if server is None:
            return {}
        taken = {microphone.id for microphone in self._indices}
        return {
            Microphone(
                id=source.id,
                name=source.description,
                host_api=server.name,
                channels=source.channels,
                default_rate_hz=source.rate_hz,
                is_default=False,
                server_source=source.name,
            ): self._indices[server]
            for source in server_sources()
            if source.id not in taken  # ALSA's settings name it, too
        }

    def _refusal(self, microphone: Microphone, error: OSError, rate_hz: int) -> SourceError:
        choose = "choose another (edge-sser devices)"
        remedies = {
            self._pyaudio.paDeviceUnavailable: "another program holds it: stop that one, or share it by a sound server",
            self._pyaudio.paInvalidSampleRate: f"it does not record at {rate_hz} Hz: {choose}",
            self._pyaudio.paInvalidChannelCount: f"it refuses that many channels: {choose}",
        }
        remedy = remedies.get(error.errno, f"plug it in again, or {choose}")
        kind = RateRefusedError if error.errno == self._pyaudio.paInvalidSampleRate else SourceError
        return kind(f"{microphone} cannot be opened: {remedy}. PortAudio: {error.strerror}")


def alsa_card_ids(cards: str) -> dict[int, str]:
    """Parses the text of /proc/asound/cards: card number -> card id."""
    return {int(number): name.strip() for number, name in re.findall(r"^\s*(\d+) \[(.+?)\s*\]:", cards, re.MULTILINE)}


def sound_cards() -> dict[int, str]:
    """Returns the sound cards present now, number -> id. PortAudio's list may be older."""
    return alsa_card_ids(ALSA_CARDS.read_text(encoding="utf-8", errors="replace") if ALSA_CARDS.exists() else "")


def stable_id(name: str, card_ids: dict[int, str]) -> str:
    """Makes a device's id from PortAudio's name for it and the ids of ALSA's cards by number.

    Examples:
        >>> stable_id("USB PnP Sound Device: Audio (hw:2,0)", {2: "Device"})
        'device'
        >>> stable_id("HDA Intel PCH: ALC256 Alt Analog (hw:0,2)", {0: "PCH"})
        'pch-2'
        >>> stable_id("pulse", {})
        'pulse'
    """
    hardware = _HARDWARE.search(name)
    card = card_ids.get(int(hardware[1])) if hardware else None
    if hardware is None or card is None:
        return slug(_HARDWARE.sub("", name), "microphone")
    return hardware_id(card, int(hardware[2]))


def speech_channel(name: str, channels: int) -> int | None:
    """Returns the channel to take of a card that is known to have what its loudspeaker plays in another; else None.

    Args:
        name: PortAudio's name of the card.
        channels: that it records.

    Examples:
        >>> speech_channel("ReSpeaker 4 Mic Array (UAC1.0): USB Audio (hw:1,0)", 6)
        0
    """
    return next((channel for known, number, channel in _ECHO_CARDS if known in name and number == channels), None)


def _names_a_card(microphone_id: str) -> bool:
    """Returns True for the id of a sound card that is present, or of a device on one."""
    cards = {slug(card, "card") for card in sound_cards().values()}
    return microphone_id in cards or microphone_id.rpartition("-")[0] in cards


def _unused(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def load_pyaudio() -> ModuleType:
    """Imports PyAudio.

    Raises:
        MissingComponentError: PyAudio is not installed, or cannot be loaded.
    """
    printed = io.StringIO()  # PyAudio prints before it raises
    try:
        with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            import pyaudio
    except ModuleNotFoundError as error:
        if error.name != "pyaudio":
            raise
        hint = "it is compiled on the spot: apt install portaudio19-dev gcc python3-dev comes first"
        raise missing_extra("pyaudio", "mic", "A microphone", hint) from None
    except ImportError as error:
        raise MissingComponentError(
            f"PyAudio cannot be loaded ({error}): apt install libportaudio2, or install it again with "
            "pip install --force-reinstall pyaudio"
        ) from None
    module: ModuleType = pyaudio
    return module
