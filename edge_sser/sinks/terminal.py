"""Events for a person as plain lines."""

from __future__ import annotations

from edge_sser.events import Episode, Event, Health, HealthState, Phase, Reading
from edge_sser.sinks.stdout import WriterSink


def text_line(event: Event) -> str:
    """Returns an event as one line of text for a person."""
    if isinstance(event, Reading):
        stress = "no speech" if event.stress is None else f"stress {event.stress:.2f}"
        rolling = "" if event.stress_rolling is None else f"  rolling {event.stress_rolling:.2f}"
        level = "" if event.level is None else f"  {event.level.value}"
        clipped = "  clipped" if event.clipped else ""
        return (
            f"{event.source}  {clock_text(event.end_s)}  {event.dbfs:6.1f} dBFS{clipped}  "
            f"speech {event.speech_ratio:4.0%}  {stress}{rolling}{level}"
        )
    if isinstance(event, Episode):
        return f"{event.source}  {clock_text(event.end_s)}  {_episode_text(event)}"
    if isinstance(event, Health):
        return f"{event.source}  {_health_text(event)}"
    return f"{event.node}  {event.state.value}  edge-sser {event.version}  {event.model}  {event.provider}"


def clock_text(seconds: float) -> str:
    """Returns a position in the audio as hours, minutes and seconds.

    Examples:
        >>> clock_text(3675.5)
        '1:01:15.5'
    """
    tenths = round(seconds * 10)
    hours, minutes = tenths // 36_000, tenths // 600 % 60
    return f"{hours}:{minutes:02}:{tenths % 600 / 10:04.1f}"


class TextLines(WriterSink):
    """Events as plain lines, for a log or a pipe that a person reads."""

    def emit(self, event: Event, line: bytes) -> None:
        """Writes one line."""
        self._writer.write_text(text_line(event) + "\n")


def _episode_text(episode: Episode) -> str:
    words = "ended" if episode.phase is Phase.END else "open"
    return (
        f"episode {words}: {episode.level.value} from {clock_text(episode.start_s)}, {episode.duration_s:.1f} s, "
        f"peak {episode.peak:.2f}, mean {episode.mean:.2f}"
    )


def _health_text(health: Health) -> str:
    lost = f", {health.dropped_s:.1f} s of audio lost" if health.dropped_s else ""
    return f"{health.state.value}{lost}{detail_text(health)}"


def detail_text(health: Health) -> str:
    """Returns the detail of a health event as the end of a line that begins with the state; empty without one.

    A source in good health has a detail when something beside it is at fault, as a full disk: hence the "but".
    """
    joint = ", but " if health.state is HealthState.OK else ": "
    return joint + health.detail if health.detail else ""
