"""A microphone: recorded by PortAudio's callback thread, mixed and resampled by the reader."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edge_sser.audio.background import BackgroundCall
from edge_sser.audio.buffer import AudioBuffer
from edge_sser.audio.convert import InputConverter
from edge_sser.audio.portaudio import Microphone, PortAudio, RateRefusedError, speech_channel
from edge_sser.audio.pulse import StreamWatch
from edge_sser.audio.source import AudioBlock, Source
from edge_sser.audio.watch import LASTING_LOOKS
from edge_sser.errors import SourceError

BLOCK_SECONDS = 0.1  # of one callback: windows end at whole tenths, so that none waits for a half-full block
OPEN_SECONDS = 3.0  # timeout of the constructor; less than a buffer holds, so that other sources lose nothing
ANSWER_SECONDS = 10.0  # before a device that neither opens nor refuses counts as dead
STALL_SECONDS = 5.0  # without a block the device counts as dead: PortAudio itself waits for ever
REMEDY = "plug it in again, or restart the sound server behind it"
CLOSE_SECONDS = 1.0  # timeout of PortAudio's close, which takes milliseconds or for ever
_LIVENESS_SECONDS = 0.25  # between two checks, by a waiting reader, that the stream still runs
_SUSPENDED_SECONDS = 1.0  # between two checks: the reader itself was stopped or busy, so its clock proves nothing
_PORTAUDIO = threading.Lock()  # PortAudio has one list of devices for the process, and is not thread-safe

log = logging.getLogger("edge_sser.audio")


@dataclass(slots=True)
class _Recording:
    """An open device.

    Attributes:
        audio: PortAudio, in use by this recording.
        channels: in a frame.
        rate_hz: sample rate, Hz.
        buffer: between the callback and the reader.
        converter: used by the reader.
        watch: of a stream from a sound server's source; None for any other.
        stream: PortAudio's.
    """

    audio: PortAudio
    channels: int
    rate_hz: int
    buffer: AudioBuffer
    converter: InputConverter
    watch: StreamWatch | None
    stream: Any = None

    def close(self) -> bool:
        """Closes the device and PortAudio. Returns True, once both are closed."""
        self.stream.close()
        with _portaudio():
            self.audio.close()
        return True


class MicrophoneSource(Source):
    """A microphone as a source.

    The callback copies and returns. The buffer behind it is bounded; lost audio is reported with the next block. To
    recover a broken microphone, close its source and make another with the same id: the list of devices is read again.

    A sound server that hangs blocks whoever opens or closes a device for half a minute, or for ever. So both happen in
    threads of their own, while the reader goes on.

    Attributes:
        overruns: losses so far that the device reported, without their length.
    """

    live = True

    def __init__(
        self,
        microphone_id: str | None = None,
        *,
        name: str,
        channel: int | None = None,
        rate_hz: int | None = None,
        buffer_seconds: float = 4.0,
        stall_seconds: float = STALL_SECONDS,
        lasting: int = LASTING_LOOKS,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the microphone and starts recording. A device that does not answer goes on opening in the background.

        Args:
            microphone_id: from `list_microphones`; None for the default one.
            name: the source's name in events.
            channel: the channel to take, from 0; None averages all while all are well, else takes the best.
            rate_hz: the rate to record at, Hz; None for the device's own (a sound server is asked for 16 kHz first).
            buffer_seconds: audio held at most between callback and reader.
            stall_seconds: time without audio after which the device counts as dead.
            lasting: seconds of a fault of the signal before it counts.
            wall_clock: seconds since the epoch.
            clock: seconds on a clock that never goes back.

        Raises:
            MissingComponentError: PyAudio is not installed.
            SourceError: there is no such microphone, no such channel, or the device cannot be opened.
        """
        self.name = name
        self._device = f"microphone {microphone_id or 'default'}"
        self._stall_seconds = stall_seconds
        self._lasting = lasting
        self._wall_clock = wall_clock
        self._clock = clock
        self._started = False  # True after the first block
        self._closed = False
        self.started_at = wall_clock()
        self._last_block_at = self._waiting_since = self._checked_at = clock()
        busy = _PORTAUDIO.locked()  # another device hangs in PortAudio: waiting here is useless
        self._opening = BackgroundCall(
            partial(self._open, microphone_id, channel, rate_hz, buffer_seconds), name="open"
        )
        self._opening.result(0.0 if busy else OPEN_SECONDS)

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        """Returns the next block, or None when none came within the timeout.

        Raises:
            SourceError: the microphone is gone, has delivered nothing for too long (not even zeros), or could not be
                opened after all.
        """
        deadline = self._clock() + timeout_seconds
        while True:
            remaining = deadline - self._clock()
            wait = min(max(0.0, remaining), _LIVENESS_SECONDS)
            recording = self._opening.result(wait)
            popped = None if recording is None else recording.buffer.pop(wait)
            suspended = self._was_suspended()
            if recording is not None and recording.watch is not None and recording.watch.moved():
                raise SourceError(f"{self._device} is gone: {REMEDY}")
            if recording is not None and popped is not None:
                dropped, frames = popped
                block = recording.converter.push(frames, dropped)
                self.signal = recording.converter.signal
                if block.samples.size or block.dropped:
                    return block
            elif suspended:
                deadline = self._clock() + timeout_seconds
            else:
                self._raise_if_dead()
                if remaining <= 0:
                    return None

    def close(self) -> None:
        """Stops recording and closes the device.

        PortAudio can wait for ever for a device whose sound server has just died, because ALSA's plugin for PulseAudio
        locks itself up. After a timeout the device is abandoned with its thread.
        """
        if self._closed or self._opening.failed:
            return
        self._closed = True
        recording = self._opening.result(0.0)
        if recording is None:
            self._opening.abandon(_Recording.close)
        elif BackgroundCall(recording.close, name="close").result(CLOSE_SECONDS) is None:
            log.warning("%s cannot be closed: its thread and memory are left behind", self._device)

    def _open(
        self, microphone_id: str | None, channel: int | None, rate_hz: int | None, buffer_seconds: float
    ) -> _Recording:
        """Opens the device, in a thread that may block for long."""
        with _portaudio():
            if self._closed:
                raise SourceError(f"{self._device} was closed before it opened")
            audio = PortAudio()
            try:
                microphone = audio.find(microphone_id)
                self._device = str(microphone)
                best_rate_hz, channels = audio.capture_format(microphone, channel)
                if channel is None:
                    channel = speech_channel(microphone.name, channels)
                record = partial(self._record, audio, microphone, channels, channel, buffer_seconds)
                try:
                    recording = record(rate_hz or best_rate_hz)
                except RateRefusedError:
                    if rate_hz is not None or best_rate_hz == microphone.default_rate_hz:
                        raise
                    recording = record(microphone.default_rate_hz)
            except BaseException:
                audio.close()
                raise
        self._last_block_at = self._clock()
        return recording

    def _record(
        self,
        audio: PortAudio,
        microphone: Microphone,
        channels: int,
        channel: int | None,
        buffer_seconds: float,
        rate_hz: int,
    ) -> _Recording:
        converter = InputConverter(
            rate_hz=rate_hz, channels=channels, channel=channel, origin=self._device, lasting=self._lasting
        )
        server_source = microphone.server_source
        watch = None if server_source is None else StreamWatch(server_source, self._clock)
        recording = _Recording(audio, channels, rate_hz, AudioBuffer(round(rate_hz * buffer_seconds)), converter, watch)
        recording.stream = audio.open(
            microphone,
            rate_hz=rate_hz,
            channels=channels,
            block_seconds=BLOCK_SECONDS,
            callback=partial(self._capture, recording),
        )
        return recording

    def _capture(
        self, recording: _Recording, data: bytes, frames: int, _times: dict[str, float], flags: int
    ) -> tuple[None, int]:
        """Takes one block from PortAudio, in PortAudio's thread."""
        self._last_block_at = self._clock()
        if not self._started:
            self._started = True
            self.started_at = self._wall_clock() - frames / recording.rate_hz
        if flags & recording.audio.overflow_flag:
            self.overruns += 1
        recording.buffer.push(np.frombuffer(data, dtype=np.float32).reshape(frames, recording.channels))
        return None, recording.audio.continue_flag

    def _was_suspended(self) -> bool:
        """Returns True when the last check is long ago, for example because the process was frozen.

        The timeouts of the device then start again. Otherwise a device that ran on would count as dead by the clock.
        """
        now = self._clock()
        suspended = now - self._checked_at > _SUSPENDED_SECONDS
        self._checked_at = now
        if suspended:
            self._waiting_since = now
        return suspended

    def _raise_if_dead(self) -> None:
        recording = self._opening.result(0.0)
        age_seconds = self._clock() - max(self._last_block_at, self._waiting_since)
        if recording is None:
            if age_seconds > ANSWER_SECONDS:
                raise SourceError(f"{self._device} does not answer: restart the sound server behind it")
            return
        if not recording.stream.is_active():
            raise SourceError(f"{self._device} is gone: {REMEDY}")
        if age_seconds > self._stall_seconds:
            raise SourceError(f"{self._device} has delivered nothing for {age_seconds:.1f} s: {REMEDY}")


def list_microphones() -> list[Microphone]:
    """Returns every microphone of this machine; an empty list is not an error.

    Raises:
        MissingComponentError: PyAudio is not installed.
        SourceError: the sound system does not answer.
    """
    found = BackgroundCall(_list_microphones, name="list").result(ANSWER_SECONDS)
    if found is None:
        raise SourceError("the sound system does not answer: restart the sound server (PipeWire or PulseAudio)")
    return found


def _list_microphones() -> list[Microphone]:
    with _portaudio():
        audio = PortAudio()
        try:
            return audio.microphones()
        finally:
            audio.close()


@contextmanager
def _portaudio() -> Iterator[None]:
    """Locks PortAudio for one thread.

    Raises:
        SourceError: another thread hangs in PortAudio. Waiting for ever would leave a thread behind at every retry.
    """
    if not _PORTAUDIO.acquire(timeout=ANSWER_SECONDS):
        raise SourceError("the sound system does not answer: restart the sound server (PipeWire or PulseAudio)")
    try:
        yield
    finally:
        _PORTAUDIO.release()
