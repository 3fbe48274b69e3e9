"""Summary of one recording for a person: length, speech, levels, episodes, loudness, and what was wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from edge_sser.errors import printable
from edge_sser.events import Episode, Event, Health, HealthState, Level, Reading
from edge_sser.sinks.terminal import clock_text


class Summary:
    """Collects the events of a recording. Keeps one number a reading.

    Args:
        path: of the recording.
        hop_seconds: between two readings.
    """

    def __init__(self, path: Path, hop_seconds: float) -> None:
        self._path = path
        self._hop_seconds = hop_seconds
        self._levels: Counter[Level | None] = Counter()
        self._speech = 0.0
        self._loudness: list[float] = []
        self._clipped = 0
        self._episodes: dict[str, Episode] = {}
        self._faults: list[Health] = []

    def add(self, events: Iterable[Event]) -> None:
        """Takes in events."""
        for event in events:
            if isinstance(event, Reading):
                self._levels[event.level] += 1
                self._speech += event.speech_ratio
                self._clipped += event.clipped
                self._loudness.append(event.dbfs)
            elif isinstance(event, Episode):
                self._episodes[event.id] = event
            elif isinstance(event, Health) and event.state is not HealthState.OK:
                self._faults.append(event)

    def text(self, seconds: float, plot: Path | None = None) -> str:
        """Returns the summary, with line ends.

        Args:
            seconds: length of the recording.
            plot: file that shows it; None without one.
        """
        count = max(1, len(self._loudness))
        lines = [
            printable(self._path),
            f"  length    {clock_text(seconds)}, speech {self._speech / count:.0%}",
            f"  loudness  {median(self._loudness):.0f} dBFS (median), {max(self._loudness):.0f} dBFS at most",
            f"  levels    {self._level_text(count)}",
            f"  episodes  {len(self._episodes) or 'none'}",
        ]
        for episode in self._episodes.values():
            lines.append(
                f"    {clock_text(episode.start_s)} to {clock_text(episode.end_s)}  {episode.level.value:8}  "
                f"{episode.duration_s:6.1f} s  peak {episode.peak:.2f}  mean {episode.mean:.2f}"
            )
        lines += [f"  wrong     {text}" for text in self._wrong(count)]
        if plot is not None:
            lines.append(f"  plot      {printable(plot)}")
        return "\n".join(lines) + "\n"

    def _level_text(self, count: int) -> str:
        shares = {level.value: self._levels[level] / count for level in Level}
        shares["no speech yet"] = self._levels[None] / count
        return ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share or name in list(Level))

    def _wrong(self, count: int) -> list[str]:
        out = []
        if self._clipped:
            out.append(f"{self._clipped / count:.0%} of the windows reach full scale: turn the microphone down")
        if not self._speech:
            out.append("no speech was found: music and noise do not count")
        out += [f"{health.state.value} from {clock_text(health.read_s)}: {health.detail}" for health in self._faults]
        return out
