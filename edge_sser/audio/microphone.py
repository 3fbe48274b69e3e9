"""A microphone: captured by PortAudio's callback thread, mixed and resampled where it is read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from edge_sser.audio.buffer import AudioBuffer
from edge_sser.audio.convert import InputConverter
from edge_sser.audio.portaudio import Microphone, PortAudio, RateRefusedError
from edge_sser.audio.source import AudioBlock, Source
from edge_sser.errors import SourceError

BLOCK_SECONDS = 0.1  # brought by one callback: windows end at whole tenths, so that none waits for a half-full block
OPEN_SECONDS = 3.0  # the constructor waits for the device; less than a buffer holds, so that other sources lose nothing
ANSWER_SECONDS = 10.0  # before a device that neither opens nor refuses counts as dead
STALL_SECONDS = 5.0  # without a block the device counts as dead: PortAudio itself waits for ever
CLOSE_SECONDS = 1.0  # for PortAudio to let go of a device; it takes milliseconds, or for ever
_LIVENESS_SECONDS = 0.25  # how often a waiting reader looks whether the stream still runs
_ABSENT_SECONDS = 1.0  # between two looks: the reader itself was stopped or busy, and what it saw says nothing
_PORTAUDIO = threading.Lock()  # whose list of devices is one for the process, and not safe between threads

T = TypeVar("T")

log = logging.getLogger("edge_sser.audio")


class BackgroundCall(Generic[T]):
    """A call in a thread of its own, which can be left behind. The thread does not keep the program from ending."""

    def __init__(self, work: Callable[[], T], *, name: str) -> None:
        """Starts it.

        Args:
            work: what to call.
            name: of the thread, after the program's.
        """
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None
        self._undo: Callable[[T], object] | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        threading.Thread(target=self._run, name=f"edge-sser-{name}", daemon=True).start()

    @property
    def failed(self) -> bool:
        """Whether the call is back, with an error."""
        return self._error is not None

    def result(self, timeout_seconds: float) -> T | None:
        """What the call gave; None when it is not back within the timeout.

        Raises:
            Exception: what the call raised.
        """
        self._done.wait(timeout_seconds)
        if self._error is not None:
            raise self._error
        return self._result

    def leave(self, undo: Callable[[T], object]) -> None:
        """Nobody asks for the result any more.

        Args:
            undo: called with what the call gives, in its thread, should it ever come back; at once if it is back.
        """
        with self._lock:
            if not self._done.is_set():
                self._undo = undo
                return
        if self._result is not None:
            undo(self._result)

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._done.set()
        if self._undo is not None and self._result is not None:
            self._undo(self._result)


class MicrophoneSource(Source):
    """A microphone as a source.

    The callback copies and returns. The buffer behind it is bounded; what it drops is reported with the next block. To
    recover a microphone that broke, close this and make another with the same id: the list of devices is read anew.

    A sound server that hangs keeps whoever opens or closes a device waiting for half a minute, or for ever. So both
    happen in threads of their own, and the reader goes on meanwhile.

    Attributes:
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
        """Opens the microphone and starts recording. With a device that does not answer, opening goes on behind.

        Args:
            microphone_id: as `list_microphones` gives it; None for the default one.
            name: the source's name in events.
            channel: the channel to take, from 0; None averages all.
            rate_hz: the rate to record at, Hz; None for the device's own (a sound server is asked for 16 kHz first).
            buffer_seconds: audio held at most between callback and reader.
            stall_seconds: time without audio after which the device counts as dead.
            wall_clock: seconds since the epoch.
            clock: seconds on a clock that never goes back.

        Raises:
            MissingComponentError: PyAudio is not installed.
            SourceError: there is no such microphone, no such channel, or it cannot be opened.
        """
        self.name = name
        self._thing = f"microphone {microphone_id or 'default'}"
        self._stall_seconds = stall_seconds
        self._wall_clock = wall_clock
        self._clock = clock
        self._heard = False
        self._closed = False
        self.started_at = wall_clock()
        self._last_block_at = self._patient_since = self._looked_at = clock()
        busy = _PORTAUDIO.locked()  # another device hangs there: no use in waiting here
        self._opening = BackgroundCall(
            partial(self._open, microphone_id, channel, rate_hz, buffer_seconds), name="open"
        )
        self._opening.result(0.0 if busy else OPEN_SECONDS)

    def read(self, timeout_seconds: float) -> AudioBlock | None:
        """The next block, or None when none came within the timeout.

        Raises:
            SourceError: the microphone is gone, or has delivered nothing, not even zeros, for too long; or it took its
                time to open, and now it cannot be.
        """
        deadline = self._clock() + timeout_seconds
        while True:
            remaining = deadline - self._clock()
            wait = min(max(0.0, remaining), _LIVENESS_SECONDS)
            popped = self._buffer.pop(wait) if self._opening.result(wait) is not None else None
            absent = self._was_absent()
            if popped is not None:
                dropped, frames = popped
                block = self._intake.push(frames, dropped)
                if block.samples.size or block.dropped:
                    return block
            elif absent:
                deadline = self._clock() + timeout_seconds
            else:
                self._refuse_dead()
                if remaining <= 0:
                    return None

    def close(self) -> None:
        """Stops recording and lets go of the device.

        PortAudio can wait for ever for a device whose sound server has just died: ALSA's plugin for PulseAudio locks
        itself up. What it holds is left behind when it does not come back.
        """
        if self._closed or self._opening.failed:
            return
        self._closed = True
        stream = self._opening.result(0.0)
        if stream is None:
            self._opening.leave(self._release)
        elif BackgroundCall(partial(self._release, stream), name="close").result(CLOSE_SECONDS) is None:
            log.warning("%s does not let itself be closed: what it held is left behind", self._thing)

    def _open(self, microphone_id: str | None, channel: int | None, rate_hz: int | None, buffer_seconds: float) -> Any:
        """The recording stream, from a thread that may wait long for it."""
        with _portaudio():
            if self._closed:
                raise SourceError(f"{self._thing} was closed before it opened")
            self._audio = PortAudio()
            try:
                microphone = self._audio.find(microphone_id)
                self._thing = str(microphone)
                best_rate_hz, self._channels = self._audio.capture_format(microphone, channel)
                record = partial(self._record, microphone, channel, buffer_seconds)
                try:
                    stream = record(rate_hz or best_rate_hz)
                except RateRefusedError:
                    if rate_hz is not None or best_rate_hz == microphone.default_rate_hz:
                        raise
                    stream = record(microphone.default_rate_hz)
            except BaseException:
                self._audio.close()
                raise
        self._last_block_at = self._clock()
        return stream

    def _record(self, microphone: Microphone, channel: int | None, buffer_seconds: float, rate_hz: int) -> Any:
        self._rate_hz = rate_hz
        self._intake = InputConverter(rate_hz=rate_hz, channels=self._channels, channel=channel, thing=self._thing)
        self._buffer = AudioBuffer(round(rate_hz * buffer_seconds))
        return self._audio.open(
            microphone, rate_hz=rate_hz, channels=self._channels, block_seconds=BLOCK_SECONDS, callback=self._capture
        )

    def _release(self, stream: Any) -> bool:
        stream.close()
        with _portaudio():
            self._audio.close()
        return True

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

    def _was_absent(self) -> bool:
        """Whether nobody looked for a while: the process was frozen, for example. Patience with the device begins anew.

        Otherwise a device that ran on all the time would count as dead by the clock.
        """
        now = self._clock()
        absent = now - self._looked_at > _ABSENT_SECONDS
        self._looked_at = now
        if absent:
            self._patient_since = now
        return absent

    def _refuse_dead(self) -> None:
        remedy = "plug it in again, or restart the sound server behind it"
        stream = self._opening.result(0.0)
        age_seconds = self._clock() - max(self._last_block_at, self._patient_since)
        if stream is None:
            if age_seconds > ANSWER_SECONDS:
                raise SourceError(f"{self._thing} does not answer: restart the sound server behind it")
            return
        if not stream.is_active():
            raise SourceError(f"{self._thing} is gone: {remedy}")
        if age_seconds > self._stall_seconds:
            raise SourceError(f"{self._thing} has delivered nothing for {age_seconds:.1f} s: {remedy}")


def list_microphones() -> list[Microphone]:
    """Every microphone of this machine; none is not an error.

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
    """PortAudio for oneself.

    Raises:
        SourceError: whoever has it hangs in it. Waiting for ever would leave a thread behind at every try.
    """
    if not _PORTAUDIO.acquire(timeout=ANSWER_SECONDS):
        raise SourceError("the sound system does not answer: restart the sound server (PipeWire or PulseAudio)")
    try:
        yield
    finally:
        _PORTAUDIO.release()
