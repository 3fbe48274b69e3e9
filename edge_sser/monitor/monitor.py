"""Audio of one source in, events out: the same path for a microphone and for a recording."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_sser.audio.signal import Signal
from edge_sser.audio.source import SAMPLE_RATE, AudioBlock
from edge_sser.errors import SourceError
from edge_sser.events import BaselineState, Episode, Event, Health, HealthState, Level, Phase, Reading, timestamp
from edge_sser.model.card import WINDOW_SECONDS, trust
from edge_sser.model.model import Model, Score
from edge_sser.monitor.judge import Judge, Lesson, min_speech_ratio
from edge_sser.monitor.operating import LevelRule
from edge_sser.monitor.stream_clock import StreamClock
from edge_sser.pipeline.baseline import Baseline
from edge_sser.pipeline.episodes import EpisodeReport, Episodes
from edge_sser.pipeline.health import SourceHealth
from edge_sser.pipeline.windows import Window, Windower
from edge_sser.settings.schema import Settings

TIME_DIGITS = 3  # milliseconds
STRESS_DIGITS = 4
RATIO_DIGITS = 3
DBFS_DIGITS = 1
LATENCY_DIGITS = 1  # of milliseconds


@dataclass(frozen=True, slots=True)
class Counters:
    """Account of the audio, in samples at 16 kHz. Always: read = processed + dropped.

    Attributes:
        read: delivered or lost by the source.
        processed: processed by the stages.
        dropped: lost.
        overruns: number of losses that the device reported, without saying how much.
    """

    read: int
    processed: int
    dropped: int
    overruns: int


class Monitor:
    """Events of one source. The cut of its audio into blocks changes nothing in them but the latency.

    Attributes:
        times: of the source's events. A live source knows `times.started_at` with its first block only: set it before
            that block is pushed.
        read: samples delivered or lost by the source so far.
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
        baseline: Baseline | None = None,
        clock: Callable[[], float] = time.monotonic,
        times: StreamClock | None = None,
    ) -> None:
        """Prepares for the first block.

        Args:
            node: this device's name in events.
            source_name: the source's.
            started_at: seconds since the epoch (UTC) of the source's first sample.
            live: True for audio that comes at its own pace; the latency of a recording means nothing.
            model: scores windows. May be shared with other monitors of the same thread.
            settings: gate, window, rolling, baseline and episode are used.
            first_reading: number of the first reading: a source that is opened again continues the count.
            baseline: of the source, learned before; None to start as a stranger. The monitor goes on learning in it.
            clock: seconds on a clock that never goes back, for latencies.
            times: of the source's events, in order with those of an earlier opening; None for a new start.

        Raises:
            SettingsError: the levels of settings and model card do not fit together.
        """
        self.times = times or StreamClock(clock)
        self.times.start(started_at, live=live)
        self._node = node
        self._source = source_name
        self._live = live
        self._model = model
        self._label = model.label
        self._clock = clock
        self._hop_seconds = settings.window.hop_seconds
        self._min_speech_ratio = min_speech_ratio(settings.gate, model)
        self._windower = Windower(window=settings.window, gate=settings.gate)
        self._judge = Judge(settings, model.card, baseline)
        self._evidence_at = 0  # of the last episode, as is the next
        self._episode_id = ""
        self._episodes = Episodes(settings.episode)
        self._health = SourceHealth()
        self.read = 0
        self._overruns = 0
        self.readings = first_reading
        self._dropped_at_reading = 0

    @property
    def counters(self) -> Counters:
        """Account of the audio so far."""
        return Counters(self.read, self._windower.processed, self._windower.dropped, self._overruns)

    @property
    def health(self) -> HealthState | None:
        """State of the source; None before its first audio."""
        return self._health.state

    @property
    def level(self) -> Level | None:
        """Stress level in force; None before the first speech."""
        return self._judge.level

    @property
    def rule(self) -> LevelRule:
        """Thresholds in force, and what to expect of them."""
        return self._judge.rule

    @property
    def baseline(self) -> Baseline:
        """Baseline of the source. Setting another changes the thresholds, which depend on what it knows.

        Raises:
            SettingsError: the levels of settings and model card do not fit together.
        """
        return self._judge.baseline

    @baseline.setter
    def baseline(self, baseline: Baseline) -> None:
        self._judge.baseline = baseline

    @property
    def uses_baseline(self) -> bool:
        """True while the settings let a baseline count."""
        return self._judge.baseline_state is not BaselineState.OFF

    def learn(self, lesson: Lesson | None) -> None:
        """Begins a lesson in place of another; ends one that is under way with None."""
        self._judge.learn(lesson)

    def push(self, block: AudioBlock, overruns: int = 0) -> list[Event]:
        """Returns the events that a block completes, in order.

        Args:
            block: the next of the source.
            overruns: number of losses that the device has reported so far, as the source counts them.
        """
        arrived = self._clock()
        self.read += block.samples.size + block.dropped
        self._overruns = overruns
        events: list[Event] = []
        if self._live and block.samples.size:
            self.times.push(self._windower.now + block.dropped + block.samples.size)
        if block.samples.size and self._health.sound():
            now = self._windower.now + block.dropped
            events.append(self._health_event(now, self._windower.dropped + block.dropped))
        for window in self._windower.push(block.samples, block.dropped):
            events += self._window_events(window, arrived)
        return events

    def report(self, state: HealthState, detail: str) -> list[Event]:
        """Returns the event for a source without audio; none when it is told already (see `SourceHealth.report`).

        Args:
            state: the new health.
            detail: one line for a person: what happened and what to do.
        """
        if not self._health.report(state, detail):
            return []
        return [self._health_event(self._windower.now, self._windower.dropped, at=self.times.now(self._windower.now))]

    def observe(self, signal: Signal) -> list[Event]:
        """Takes in the faults of the source's signal; returns the event that carries a change."""
        return self._change() if self._health.observe(signal) else []

    def note(self, text: str) -> list[Event]:
        """Adds a text to the detail of health events from now on; returns the event that carries the change.

        Args:
            text: one line for a person; empty for none.
        """
        return self._change() if self._health.note(text) else []

    def retune(self, settings: Settings) -> None:
        """Applies other settings of rolling, baseline and episode, from the next window on.

        Raises:
            SettingsError: the levels of settings and model card do not fit together.
        """
        self._judge.retune(settings)
        self._episodes.retune(settings.episode)

    def finish(self) -> list[Event]:
        """Returns the events of the end of the source. Audio that fills no further hop has no reading."""
        events: list[Event] = []
        now, dropped = self._windower.now, self._windower.dropped
        if self._health.account(now, dropped, self._overruns):  # a loss after the last window is reported too
            events.append(self._health_event(now, dropped))
        ended = self._episodes.finish()
        if ended is not None:
            events.append(self._episode_event(ended, now))
        return events

    def _window_events(self, window: Window, arrived: float) -> list[Event]:
        events: list[Event] = []
        if self._health.window(window, self._overruns):
            events.append(self._health_event(window.end, window.dropped))
        if window.speech_ratio < self._min_speech_ratio:  # no speech, no inference
            score = None
            self._judge.silence(window.end)
            episode = self._episodes.silence(window.end)
        else:
            score = self._model.score(window.log_mel)
            rolling, level = self._judge.speech(score, self._hop_seconds * window.speech_ratio, window.end)
            episode = self._episodes.speech(rolling, level, window.end)
        events.append(self._reading(window, score, arrived))
        if episode is not None:
            events.append(self._episode_event(episode, window.end))
        return events

    def _reading(self, window: Window, score: Score | None, arrived: float) -> Reading:
        """Returns the reading of a window. Written out in one piece: it is made for every hop of every source."""
        number, self.readings = self.readings, self.readings + 1
        dropped, self._dropped_at_reading = window.dropped - self._dropped_at_reading, window.dropped
        stress = confidence = arousal = valence = None
        if score is not None:
            in_speech = trust(self._model.card.speech_trust, window.speech_ratio * WINDOW_SECONDS)
            confidence = abs(2.0 * score.stress - 1.0) * in_speech
            stress, arousal, valence = score.stress, score.arousal, score.valence
        return Reading(
            id=f"{self._node}/{self._source}/{number:06d}",
            node=self._node,
            source=self._source,
            ts=timestamp(self.times.at(window.end)),
            start_s=round(window.start / SAMPLE_RATE, TIME_DIGITS),
            end_s=round(window.end / SAMPLE_RATE, TIME_DIGITS),
            speech_ratio=round(window.speech_ratio, RATIO_DIGITS),
            stress=_rounded(stress),
            stress_rolling=_rounded(self._judge.stress),
            level=self._judge.level,
            confidence=_rounded(confidence),
            arousal=_rounded(arousal),
            valence=_rounded(valence),
            dbfs=round(window.dbfs, DBFS_DIGITS) + 0.0,  # + 0.0: never "-0.0"
            clipped=window.clipped,
            latency_ms=round(1e3 * (self._clock() - arrived), LATENCY_DIGITS) if self._live else None,
            dropped_s=round(dropped / SAMPLE_RATE, TIME_DIGITS),
            baseline=self._judge.baseline_state,
            baseline_shift=_rounded(self._judge.shift),
            model=self._label,
        )

    def _episode_event(self, episode: EpisodeReport, now: int) -> Episode:
        if episode.phase is Phase.START:
            rising = self._judge.rising_since
            self._evidence_at = episode.start if rising is None else rising
            started = timestamp(self.times.of_sample(episode.start))
            compact = started.replace("-", "").replace(":", "")
            self._episode_id = f"{self._node}/{self._source}/{compact}"
        return Episode(
            phase=episode.phase,
            id=self._episode_id,
            node=self._node,
            source=self._source,
            ts=timestamp(self.times.at(now)),
            level=episode.level,
            start_s=_seconds(episode.start),
            end_s=_seconds(episode.end),
            duration_s=_seconds(episode.end - episode.start),
            peak=round(episode.peak, STRESS_DIGITS),
            mean=round(episode.mean, STRESS_DIGITS),
            evidence_s=_seconds(self._evidence_at),
            declared_s=_seconds(episode.start),
            model=self._label,
        )

    def _change(self) -> list[Event]:
        return [self._health_event(self._windower.now, self._windower.dropped, at=self.times.amid(self._windower.now))]

    def _health_event(self, now: int, dropped: int, at: float | None = None) -> Health:
        assert self._health.state is not None
        return Health(
            node=self._node,
            source=self._source,
            ts=timestamp(self.times.at(now) if at is None else at),
            state=self._health.state,
            detail=self._health.line,
            read_s=_seconds(now),
            processed_s=_seconds(now - dropped),
            dropped_s=_seconds(dropped),
            overruns=self._overruns,
        )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, STRESS_DIGITS) + 0.0  # + 0.0: never "-0.0"


def _seconds(samples: int) -> float:
    return round(samples / SAMPLE_RATE, TIME_DIGITS)


def too_short(path: Path, samples: int) -> SourceError:
    """Returns the error of a recording of so many samples, which is too short for a reading."""
    return SourceError(
        f"{path} is {samples / SAMPLE_RATE:.1f} s long, shorter than the {WINDOW_SECONDS:.0f} s window that a reading "
        "describes: give a longer recording"
    )
