"""A microphone: captured by PortAudio's callback thread, mixed and resampled where it is read."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

import numpy as np

from edge_sser.audio.block import SAMPLE_RATE, AudioBlock, Source
from edge_sser.audio.buffer import AudioBuffer
from edge_sser.audio.portaudio import Microphone, PortAudio
from edge_sser.audio.resample import Intake
from edge_sser.errors import SourceError

BLOCK_SECONDS = 0.2  # brought by one callback: wake-ups are what a waiting microphone costs
STALL_SECONDS = 5.0  # without a block the device counts as dead: PortAudio itself waits for ever
CLOSE_SECONDS = 2.0  # for PortAudio to let go of a device; it takes milliseconds, or for ever
FLOOR_DBFS = -120.0
_LIVENESS_SECONDS = 0.25  # how often a waiting reader looks whether the stream still runs

log = logging.getLogger("edge_sser.audio")


class MicrophoneSource(Source):
    """A microphone as a source.

    The callback copies and returns. The buffer behind it is bounded; what it drops is reported with the next block. To
    recover a microphone that broke, close this and make another with the same id: the list of devices is read anew.

    Attributes:
        microphone: the device that was opened.
        overruns: how often the device itself lost audio so far; it does not say how much.
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
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens the microphone and starts recording.

        Args:
            microphone_id: as `list_microphones` gives it; None for the default one.
            name: the source's name in events.
            channel: the channel to take, from 0; None averages all.
            rate_hz: the rate to record at, Hz; None for the device's own (from a sound server, 16 kHz).
            buffer_seconds: audio held at most between callback and reader.
            stall_seconds: time without audio after which the device counts as dead.
            wall_clock: seconds since the epoch.
            clock: seconds on a clock that never goes back.

        Raises:
            MissingComponentError: PyAudio is not installed.
            SourceError: there is no such microphone, no such channel, or it cannot be opened.
        """
        self.name = name
        self._stall_seconds = stall_seconds
        self._wall_clock = wall_clock
        self._clock = clock
        self._heard = False
        self._closed = False
        self.started_at = wall_clock()
        self._last_block_at = clock()
        self._audio = PortAudio()
        try:
            self.microphone = self._audio.find(microphone_id)
            own_rate_hz, self._channels = self._audio.capture_format(self.microphone, channel)
            self._rate_hz = rate_hz or own_rate_hz
            self._intake = Intake(
                rate_hz=self._rate_hz,
                channels=self._channels,
                channel=channel,
                thing=str(self.microphone),
            )
            self._buffer = AudioBuffer(round(self._rate_hz * buffer_seconds))
            self._stream = self._audio.open(
                self.microphone,
                rate_hz=self._rate_hz,
                channels=self._channels,
                block_seconds=BLOCK_SECONDS,
                callback=self._capture,
            )
        except BaseException:
            self._audio.close()
            raise

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        """The next block, or None when none came within the timeout.

        Raises:
            SourceError: the microphone is gone, or has delivered nothing, not even zeros, for too long.
        """
        deadline = self._clock() + timeout_seconds
        while True:
            remaining = deadline - self._clock()
            popped = self._buffer.pop(min(max(0.0, remaining), _LIVENESS_SECONDS))
            if popped is not None:
                dropped, frames = popped
                block = self._intake.push(frames, dropped)
                if block.samples.size or block.dropped:
                    return block
            else:
                self._refuse_dead()
                if remaining <= 0:
                    return None

    def close(self) -> None:
        """Stops recording and lets go of the device.

        PortAudio can wait for ever for a device whose sound server has just died: ALSA's plugin for PulseAudio locks
        itself up. So a thread closes it, and is left behind with what it holds when it does not come back.
        """
        if not self._closed:
            self._closed = True
            closing = threading.Thread(target=self._release, name="edge-sser-close", daemon=True)
            closing.start()
            closing.join(CLOSE_SECONDS)
            if closing.is_alive():
                log.warning("%s does not let itself be closed: what it held is left behind", self.microphone)

    def _release(self) -> None:
        self._stream.close()
        self._audio.close()

    def _capture(self, data: bytes, frames: int, _times: dict[str, float], flags: int) -> tuple[None, int]:
        """Called from PortAudio's thread."""
        self._last_block_at = self._clock()
        if not self._heard:
            self._heard = True
            self.started_at = self._wall_clock() - frames / self._rate_hz
        if flags & self._audio.overflow_flag:
            self.overruns += 1
        self._buffer.push(np.frombuffer(data, dtype=np.float32).reshape(frames, self._channels))
        return None, self._audio.go_on

    def _refuse_dead(self) -> None:
        remedy = "plug it in again, or restart the sound server behind it"
        if not self._stream.is_active():
            raise SourceError(f"{self.microphone} is gone: {remedy}")
        age_seconds = self._clock() - self._last_block_at
        if age_seconds > self._stall_seconds:
            raise SourceError(f"{self.microphone} has delivered nothing for {age_seconds:.1f} s: {remedy}")


def list_microphones() -> list[Microphone]:
    """Every microphone of this machine; none is not an error.

    Raises:
        MissingComponentError: PyAudio is not installed.
    """
    audio = PortAudio()
    try:
        return audio.microphones()
    finally:
        audio.close()


def measure_level(microphone_id: str | None, *, seconds: float = 1.0) -> float:
    """How loud it is at a microphone, in dB re full scale (a full-scale sine is -3.0), at least -120.

    Args:
        microphone_id: as `list_microphones` gives it; None for the default one.
        seconds: audio to measure over.

    Raises:
        SourceError: the microphone cannot be opened or delivers nothing.
    """
    energy, samples = 0.0, 0
    with MicrophoneSource(microphone_id, name="level", stall_seconds=max(1.0, seconds)) as source:
        while samples < seconds * SAMPLE_RATE:
            block = source.read(timeout_seconds=seconds)
            if block is not None:
                energy += float(np.sum(np.square(block.samples, dtype=np.float64)))
                samples += block.samples.size
    return max(FLOOR_DBFS, 10.0 * math.log10(max(energy / samples, 1e-12)))
