"""Health of a source by its sound: is there any, is it silent, was some of it lost."""

from __future__ import annotations

from typing import Final

from edge_sser.audio.signal import CLEAR, Fault, Signal
from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.events import NO_AUDIO, HealthState
from edge_sser.pipeline.windows import Window

# Root mean square under one step of a 16-bit converter: no working microphone is so quiet.
SILENT_DBFS: Final = -90.0
SILENT_SECONDS: Final = 10.0  # of such silence before a source is called silent
OVERRUN_SECONDS: Final = 10.0  # without another loss before a source that lost audio is called well again

_NO_SOUND = (None, *NO_AUDIO)  # states that any sound ends


class SourceHealth:
    """The state of one source. Methods return True when the state changed, or the line that goes with it.

    Attributes:
        state: None before the first sound.
        detail: what happened and what to do, in one line; empty when all is well.
    """

    def __init__(self) -> None:
        self._signal = CLEAR
        self._note = ""
        self.state: HealthState | None = None
        self.detail = ""
        self._by_sound = (HealthState.OK, "")  # state and detail by the latest windows
        self._silent_since: int | None = None
        self._lost_at: int | None = None
        self._dropped = 0
        self._overruns = 0

    @property
    def line(self) -> str:
        """Detail, lasting faults of the signal while there is one, and the note; in one line."""
        signal = "" if self.state in _NO_SOUND else self._signal.note
        return "; ".join(filter(None, (self.detail, signal, self._note)))

    def observe(self, signal: Signal) -> bool:
        """Takes in the faults of the signal. Returns True when the line of a known state changed."""
        before, unchanged = self.line, signal is self._signal
        self._signal = signal
        return not unchanged and self.state is not None and self.line != before

    def note(self, text: str) -> bool:
        """Takes in trouble elsewhere, empty for none. Returns True when the line of a known state changed."""
        before, self._note = self._note, text
        return before != text and self.state is not None

    def sound(self) -> bool:
        """Takes in that audio came."""
        return self.state in _NO_SOUND and self.report(*self._by_sound)

    def window(self, window: Window, overruns: int) -> bool:
        """Takes in the newest window.

        Args:
            window: the newest.
            overruns: losses so far that the device reported without their length.
        """
        if window.dbfs > SILENT_DBFS and self._signal.nothing is None:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = window.start
        return self.account(window.end, window.dropped, overruns)

    def account(self, now: int, dropped: int, overruns: int) -> bool:
        """Takes in time and losses. A missing or stalled source stays so until there is sound.

        Args:
            now: stream time, samples.
            dropped: samples lost so far.
            overruns: as in `window`.
        """
        if dropped > self._dropped or overruns > self._overruns:
            self._lost_at, self._dropped, self._overruns = now, dropped, overruns
        if self._lost_at is not None and now - self._lost_at < OVERRUN_SECONDS * SAMPLE_RATE:
            lost = "audio was lost: the machine falls behind, or the device does; lighten its load"
            self._by_sound = (HealthState.OVERRUN, lost)
        elif self._silent_since is not None and now - self._silent_since >= SILENT_SECONDS * SAMPLE_RATE:
            silent = f"nothing but silence for {SILENT_SECONDS:.0f} s: check that the microphone is not muted"
            fault = self._signal.nothing
            if fault not in (None, Fault.SILENT):
                silent = f"for {SILENT_SECONDS:.0f} s the sound {fault.text}: {fault.remedy}"
            self._by_sound = (HealthState.SILENT, silent)
        else:
            self._by_sound = (HealthState.OK, "")
        return self.state not in _NO_SOUND and self.report(*self._by_sound)

    def report(self, state: HealthState, detail: str) -> bool:
        """Sets a state known from elsewhere than the sound. One state is told once; a pause also for other reasons."""
        changed = state is not self.state or (state is HealthState.PAUSED and detail != self.detail)
        if changed:
            self.state, self.detail = state, detail
        return changed
