"""Channels of a live source, looked at as the stream goes on: which to use, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.look import FAINT_RATIO, LOUD_POWER, SOUND_POWER, Look, look
from edge_sser.audio.signal import CLEAR, NOTHING, Fault, Finding, Signal, findings

LASTING_LOOKS: Final = 3  # with a fault, one after the other, before it is told and its channel left out
PAUSE_LOOKS: Final = 5  # seconds that nobody looks at, between two looks at a signal that does not change
FIRST_LOOKS: Final = 8  # without such a pause
LOOPBACK_GAPS: Final = 3  # of digital zeros between sounds, of a second at least
MAX_VALUES: Final = 1 << 20  # frames x channels that wait: bounds memory for a stream of many channels
# Faults for which a channel is left out, the gravest first, as long as another channel is left.
_LEFT_OUT: Final = (
    NOTHING | {Fault.LOOPBACK},
    frozenset((Fault.OPPOSITE,)),
    frozenset((Fault.HUM_50, Fault.HUM_60, Fault.CLIPPED)),
)
_MEMORY: Final = (1 << 30) - 1  # looks without a fault before it has ended
_LATEST: Final = 0b11_1111_1111  # of the looks in a history
_POWER_MEMORY: Final = 0.9


class SignalWatch:
    """Looks at a stream second by second, and chooses its channel.

    While nothing changes, five of six seconds pass unseen: all of them would cost a tenth of what a hop does.

    Without a channel that somebody chose, the average of all is used as long as all are well. Else the best one is: the
    loudest of those without a fault. It changes only when its own signal fails, or when all have been well for half a
    minute.

    Attributes:
        channel: in use, from 0; None for the average.
        signal: faults up to the last whole second.
    """

    def __init__(self, *, rate_hz: int, channels: int, channel: int | None, lasting: int = LASTING_LOOKS) -> None:
        """Starts a stream.

        Args:
            rate_hz: sample rate, Hz.
            channels: in a frame.
            channel: the one to take, from 0, the only one that is then looked at; None to choose.
            lasting: seconds of a fault before it counts.
        """
        self.channel = channel
        self.signal = CLEAR
        self._rate_hz = rate_hz
        self._given = channel
        self._channels = channels if channel is None else 1
        self._lasting = (1 << lasting) - 1
        self._waiting: list[NDArray[np.float32]] = []
        self._size = self._missing = min(rate_hz, MAX_VALUES // channels)  # frames in a look
        self._looks = 0
        self._histories: dict[tuple[Fault, int], int] = {}  # looks of a fault and channel as bits, the latest lowest
        self._told: set[tuple[Fault, int]] = set()
        self._powers = [0.0] * self._channels
        self._heard = [False] * self._channels  # True for sound in the latest look with sound or zeros
        self._gaps = [0] * self._channels

    def parts(self, frames: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Yields frames, float32 [n, channels], up to each place where `channel` and `signal` may change."""
        while frames.shape[0] >= self._missing:
            part, frames = frames[: self._missing], frames[self._missing :]
            self._keep(part)
            yield part
            self._take(np.concatenate(self._waiting))
            self._waiting.clear()
            changes = any((bits & 1) != (key in self._told) for key, bits in self._histories.items())
            pause = 0 if changes or self._looks < FIRST_LOOKS else PAUSE_LOOKS
            self._missing = (1 + pause) * self._size
        self._keep(frames)
        yield frames

    def _keep(self, frames: NDArray[np.float32]) -> None:
        """Keeps those of the next frames that belong to the next look."""
        self._missing -= frames.shape[0]
        kept = min(frames.shape[0], self._size - self._missing)
        if kept > 0:
            self._waiting.append(frames[frames.shape[0] - kept :])

    def _take(self, frames: NDArray[np.float32]) -> None:
        if self._given is not None:
            frames = frames[:, self._given : self._given + 1]
        self._looks += 1
        seen = look(frames, self._rate_hz)
        pairs = zip(self._powers, seen.powers, strict=True)
        self._powers = [_POWER_MEMORY * before + (1.0 - _POWER_MEMORY) * power for before, power in pairs]
        changed = self._remember(seen)
        used = seen.faults if self.channel is None or self._given is not None else (seen.faults[self.channel],)
        nothing = next(iter(used[0] & NOTHING), None) if all(faults & NOTHING for faults in used) else None
        if changed:
            if self._given is None:
                self.channel = self._choose()
            chosen = None if self._given is not None else self.channel
            self.signal = Signal(nothing, self._findings(chosen), chosen)
        elif nothing is not self.signal.nothing:
            self.signal = replace(self.signal, nothing=nothing)

    def _remember(self, seen: Look) -> bool:
        """Takes a look into the histories. Returns True when a lasting fault has begun or ended."""
        now = {(fault, channel) for channel, faults in enumerate(seen.faults) for fault in faults}
        unseen: set[Fault] = set()
        if self._channels > 1:
            now |= self._among_channels(seen)
            if sum(power > SOUND_POWER for power in seen.powers) < 2:
                unseen.add(Fault.OPPOSITE)
            if max(seen.powers) < LOUD_POWER:
                unseen.add(Fault.FAINT)
        before = len(self._told)
        changed = False
        for key in now.union(self._histories):
            fault = key[0]
            if fault in unseen:
                continue
            bits = (self._histories.get(key, 0) << 1 | (key in now)) & _MEMORY
            self._histories[key] = bits
            if not bits:
                del self._histories[key]
                changed |= key in self._told
                self._told.discard(key)
            elif fault is Fault.CLIPPED:
                if (bits & _LATEST).bit_count() >= self._lasting.bit_count():
                    self._told.add(key)
            elif bits & self._lasting == self._lasting:
                self._told.add(key)
        return changed or len(self._told) != before

    def _among_channels(self, seen: Look) -> set[tuple[Fault, int]]:
        """Returns the faults that a channel has beside others."""
        found = {(Fault.OPPOSITE, channel) for channel in seen.opposite}
        loudest = max(seen.powers)
        for channel, power in enumerate(seen.powers):
            if loudest > LOUD_POWER and power < FAINT_RATIO * loudest and not seen.faults[channel] & NOTHING:
                found.add((Fault.FAINT, channel))
            if self._is_loopback(channel, power, seen):
                found.add((Fault.LOOPBACK, channel))
        return found

    def _is_loopback(self, channel: int, power: float, seen: Look) -> bool:
        """Returns True for a channel that went from sound to zeros again and again while another had sound."""
        if power > SOUND_POWER:
            self._heard[channel] = True
        elif power == 0.0 and self._heard[channel] and not all(faults & NOTHING for faults in seen.faults):
            self._heard[channel] = False
            self._gaps[channel] += 1
        return self._gaps[channel] >= LOOPBACK_GAPS

    def _choose(self) -> int | None:
        good = set(range(self._channels))
        for faults in _LEFT_OUT:
            left = good - {channel for fault, channel in self._told if fault in faults}
            if not left and faults is _LEFT_OUT[0]:
                return self.channel
            good = left or good
        if len(good) == self._channels:
            return None
        return self.channel if self.channel in good else max(sorted(good), key=lambda channel: self._powers[channel])

    def _findings(self, chosen: int | None) -> tuple[Finding, ...]:
        faults: dict[Fault, list[int]] = {}
        for fault in Fault:
            channels = [channel for channel in range(self._channels) if (fault, channel) in self._told]
            if channels:
                faults[fault] = channels
        if len({channel for fault in NOTHING & faults.keys() for channel in faults[fault]}) == self._channels:
            for fault in NOTHING & faults.keys():
                del faults[fault]
        return findings(faults, channels=self._channels, chosen=chosen)
