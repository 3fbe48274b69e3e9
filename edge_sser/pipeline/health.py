"""Health of a source by its sound: is there any, is it silent, was some of it lost."""

from __future__ import annotations

from typing import Final

from edge_sser.audio.signal import Fault
from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.events import HealthState
from edge_sser.pipeline.windows import Window

# Root mean square under one step of a 16-bit converter: no working microphone is so quiet.
SILENT_DBFS: Final = -90.0
SILENT_SECONDS: Final = 10.0  # of such silence before a source is called silent
OVERRUN_SECONDS: Final = 10.0  # without another loss before a source that lost audio is called well again

_NO_SOUND = (None, HealthState.MISSING, HealthState.STALLED, HealthState.PAUSED)  # states that any sound ends


class SourceHealth:
    """The state of one source. Every method returns True when the state changed.

    Attributes:
        nothing: fault of a signal that carries nothing now, whatever its level; None without one.
        state: None before the first sound.
        detail: what happened and what to do, in one line; empty when all is well.
    """

    def __init__(self) -> None:
        self.nothing: Fault | None = None
        self.state: HealthState | None = None
        self.detail = ""
        self._by_sound = (HealthState.OK, "")  # state and detail by the latest windows
        self._silent_since: int | None = None
        self._lost_at: int | None = None
        self._dropped = 0
        self._overruns = 0

    def sound(self) -> bool:
        """Takes in that audio came."""
        return self.state in _NO_SOUND and self.report(*self._by_sound)

    def window(self, window: Window, overruns: int) -> bool:
        """Takes in the newest window.

        Args:
            window: the newest.
            overruns: losses so far that the device reported without their length.
        """
        if window.dbfs > SILENT_DBFS and self.nothing is None:
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
            if self.nothing not in (None, Fault.SILENT):
                silent = f"for {SILENT_SECONDS:.0f} s the sound {self.nothing.text}: {self.nothing.remedy}"
            self._by_sound = (HealthState.SILENT, silent)
        else:
            self._by_sound = (HealthState.OK, "")
        return self.state not in _NO_SOUND and self.report(*self._by_sound)

    def report(self, state: HealthState, detail: str) -> bool:
        """Sets a state known from elsewhere than the sound: the source is missing, or has stalled."""
        changed = state is not self.state
        if changed:
            self.state, self.detail = state, detail
        return changed
