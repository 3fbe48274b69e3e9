"""One source through the whole path: audio in, events out. The same for a microphone and for a recording."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

from edge_sser.audio.source import SAMPLE_RATE, AudioBlock
from edge_sser.events import Episode, Event, Health, HealthState, Level, Reading, timestamp
from edge_sser.model.model import Model
from edge_sser.model.speech_trust import WINDOW_SECONDS, least_speech_ratio, trust
from edge_sser.pipeline.health import SourceHealth
from edge_sser.pipeline.rolling import EpisodeReport, Episodes, Levels, Rolling, Thresholds
from edge_sser.pipeline.windows import Window, Windower
from edge_sser.settings.schema import Settings

TIME_DIGITS = 3  # milliseconds
STRESS_DIGITS = 4
RATIO_DIGITS = 3
DBFS_DIGITS = 1
LATENCY_DIGITS = 1  # of milliseconds


@dataclass(frozen=True, slots=True)
class Counters:
    """Where the audio went, in samples at 16 kHz. Always: read = processed + dropped.

    Attributes:
        read: delivered or lost by the source.
        processed: taken in by the stages.
        dropped: lost.
        overruns: how often the device reported a loss without saying how much.
    """

    read: int
    processed: int
    dropped: int
    overruns: int


class Monitor:
    """Events of one source. How its audio is cut into blocks changes nothing in them but the latency.

    Attributes:
        started_at: seconds since the epoch (UTC) of the source's first sample. A live source knows it with its first
            block only: set it before that block is pushed.
        readings: number of the next reading.
    """

    def __init__(
        self,
        *,
        node: str,
        source_name: str,
        started_at: float,
        live: bool,
        model: Model,
        settings: Settings,
        first_reading: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Gets ready for the first block.

        Args:
            node: this device's name in events.
            source_name: the source's.
            started_at: see the attribute.
            live: whether audio comes at its own pace; the latency of a recording means nothing.
            model: scores windows. May be shared with other monitors of the same thread.
            settings: gate, window, rolling and episode are used.
            first_reading: number of the first reading: a source that is opened anew goes on counting.
            clock: seconds on a clock that never goes back, for latencies.
            wall_clock: seconds since the epoch, for what is reported while no audio comes.

        Raises:
            SettingsError: the levels of settings and model card do not fit together.
        """
        self.started_at = started_at
        self._node = node
        self._source = source_name
        self._live = live
        self._model = model
        self._label = model.label
        self._clock = clock
        self._wall_clock = wall_clock
        self._hop_seconds = settings.window.hop_seconds
        asked = settings.gate.min_speech_ratio
        self._min_speech_ratio = least_speech_ratio(model.card.speech_trust) if asked is None else asked
        self._windower = Windower(window=settings.window, gate=settings.gate)
        self._rolling = Rolling(settings.rolling.time_constant_seconds)
        self._levels = Levels(self._thresholds(settings), dwell_seconds=settings.rolling.dwell_seconds)
        self._episodes = Episodes(settings.episode)
        self._health = SourceHealth()
        self._note = ""
        self._read = 0
        self._overruns = 0
        self.readings = first_reading
        self._dropped_at_reading = 0

    @property
    def counters(self) -> Counters:
        """Where the audio went so far."""
        return Counters(self._read, self._windower.processed, self._windower.dropped, self._overruns)

    @property
    def health(self) -> HealthState | None:
        """The state of the source; None before its first audio."""
        return self._health.state

    @property
    def level(self) -> Level | None:
        """The level in force; None before the first speech."""
        return self._levels.level

    def push(self, block: AudioBlock, overruns: int = 0) -> list[Event]:
        """The events that a block brings about, in order.

        Args:
            block: the next of the source.
            overruns: how often the device has reported a loss so far, as the source counts them.
        """
        arrived = self._clock()
        self._read += block.samples.size + block.dropped
        self._overruns = overruns
        events: list[Event] = []
        if block.samples.size and self._health.sound():
            now = self._windower.now + block.dropped
            events.append(self._health_event(now, self._windower.dropped + block.dropped))
        for window in self._windower.push(block.samples, block.dropped):
            events += self._window_events(window, arrived)
        return events

    def report(self, state: HealthState, detail: str) -> list[Event]:
        """The event for what cannot be heard: the source is missing, or has stalled. None when that is known already.

        Args:
            state: what is the matter.
            detail: one line for a person: what happened and what to do.
        """
        if not self._health.report(state, detail):
            return []
        return [self._health_event(self._windower.now, self._windower.dropped, ts=self._wall_clock())]

    def note(self, text: str) -> list[Event]:
        """Something beside the sound that health events are to say from now on; the event that says so.

        Args:
            text: one line for a person; empty when there is nothing any more.
        """
        if text == self._note:
            return []
        self._note = text
        if self._health.state is None:
            return []
        return [self._health_event(self._windower.now, self._windower.dropped, ts=self._wall_clock())]

    def retune(self, settings: Settings) -> None:
        """Changes levels and episodes to what other settings say, from the next window on.

        Raises:
            SettingsError: the levels of settings and model card do not fit together.
        """
        self._levels.retune(self._thresholds(settings), dwell_seconds=settings.rolling.dwell_seconds)
        self._rolling.time_constant_seconds = settings.rolling.time_constant_seconds
        self._episodes.retune(settings.episode)

    def finish(self) -> list[Event]:
        """The events that the end of the source brings about. Audio that fills no hop any more has no reading."""
        events: list[Event] = []
        now, dropped = self._windower.now, self._windower.dropped
        if self._health.account(now, dropped, self._overruns):  # a loss after the last window is told as well
            events.append(self._health_event(now, dropped))
        ended = self._episodes.finish()
        if ended is not None:
            events.append(self._episode_event(ended, now))
        return events

    def _thresholds(self, settings: Settings) -> Thresholds:
        card = self._model.card
        return Thresholds.of(settings.rolling, elevated=card.elevated, high=card.high)

    def _window_events(self, window: Window, arrived: float) -> list[Event]:
        events: list[Event] = []
        if self._health.window(window, self._overruns):
            events.append(self._health_event(window.end, window.dropped))
        stress = self._score(window)
        if stress is None:
            episode = self._episodes.silence(window.end)
        else:
            rolling = self._rolling.push(stress, self._hop_seconds * window.speech_ratio)
            level = self._levels.push(rolling, window.end)
            episode = self._episodes.speech(rolling, level, window.end)
        events.append(self._reading(window, stress, self._levels.level, arrived))
        if episode is not None:
            events.append(self._episode_event(episode, window.end))
        return events

    def _score(self, window: Window) -> float | None:
        """Stress of the window; None, and no inference, when too little of it is speech."""
        if window.speech_ratio == 0.0 or window.speech_ratio < self._min_speech_ratio:
            return None
        return self._model.score(window.log_mel).stress

    def _confidence(self, window: Window, stress: float) -> float:
        """How far stress is from undecided, times the trust in a window with so much speech, 0..1."""
        curve = self._model.card.speech_trust
        return abs(2.0 * stress - 1.0) * trust(curve, window.speech_ratio * WINDOW_SECONDS)

    def _reading(self, window: Window, stress: float | None, level: Level | None, arrived: float) -> Reading:
        rolling = self._rolling.value
        number, self.readings = self.readings, self.readings + 1
        dropped, self._dropped_at_reading = window.dropped - self._dropped_at_reading, window.dropped
        return Reading(
            id=f"{self._node}/{self._source}/{number:06d}",
            node=self._node,
            source=self._source,
            ts=self._ts(window.end),
            start_s=_seconds(window.start),
            end_s=_seconds(window.end),
            speech_ratio=round(window.speech_ratio, RATIO_DIGITS),
            stress=None if stress is None else round(stress, STRESS_DIGITS),
            stress_rolling=None if rolling is None else round(rolling, STRESS_DIGITS),
            level=level,
            confidence=None if stress is None else round(self._confidence(window, stress), STRESS_DIGITS),
            dbfs=round(window.dbfs, DBFS_DIGITS) + 0.0,  # + 0.0: never "-0.0"
            clipped=window.clipped,
            latency_ms=round(1e3 * (self._clock() - arrived), LATENCY_DIGITS) if self._live else None,
            dropped_s=_seconds(dropped),
            model=self._label,
        )

    def _episode_event(self, episode: EpisodeReport, now: int) -> Episode:
        started = datetime.fromtimestamp(round(self._moment(episode.start), TIME_DIGITS), tz=timezone.utc)
        compact = f"{started:%Y%m%dT%H%M%S}.{started.microsecond // 1000:03d}Z"
        return Episode(
            phase=episode.phase,
            id=f"{self._node}/{self._source}/{compact}",
            node=self._node,
            source=self._source,
            ts=self._ts(now),
            level=episode.level,
            start_s=_seconds(episode.start),
            end_s=_seconds(episode.end),
            duration_s=_seconds(episode.end - episode.start),
            peak=round(episode.peak, STRESS_DIGITS),
            mean=round(episode.mean, STRESS_DIGITS),
            model=self._label,
        )

    def _health_event(self, now: int, dropped: int, ts: float | None = None) -> Health:
        assert self._health.state is not None
        return Health(
            node=self._node,
            source=self._source,
            ts=self._ts(now) if ts is None else timestamp(ts),
            state=self._health.state,
            detail="; ".join(filter(None, (self._health.detail, self._note))),
            read_s=_seconds(now),
            processed_s=_seconds(now - dropped),
            dropped_s=_seconds(dropped),
            overruns=self._overruns,
        )

    def _moment(self, samples: int) -> float:
        """Seconds since the epoch at a place in the stream."""
        return self.started_at + samples / SAMPLE_RATE

    def _ts(self, samples: int) -> str:
        return timestamp(self._moment(samples))


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, TIME_DIGITS)
