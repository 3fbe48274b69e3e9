"""Judgement of one source: from the scores of single windows to rolling stress, level and evidence."""

from __future__ import annotations

import math
from collections.abc import Callable

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.events import BaselineState, Level
from edge_sser.model.card import Card, least_speech_ratio
from edge_sser.model.model import Model, Score
from edge_sser.monitor.operating import BaselineKind, LevelRule, baseline_kind, select_rule
from edge_sser.pipeline.baseline import CALM_LIMIT, READY_SECONDS, Baseline
from edge_sser.pipeline.calm_level import STRANGERS
from edge_sser.pipeline.decision import StressFilter
from edge_sser.pipeline.gate import NETWORK_LEAST_RATIO
from edge_sser.pipeline.rolling import Levels, Rolling
from edge_sser.settings.schema import BaselineMode, Detector, GateSettings, Settings


class Lesson:
    """Speech that a person says is calm, collected until there is enough of it to declare a baseline.

    Args:
        seconds: of speech to collect.
        done: is called at the end, with the baseline; with None when the speech sounded stressed.
    """

    def __init__(self, seconds: float, done: Callable[[Baseline | None], None]) -> None:
        self._seconds = seconds
        self._done = done
        self._log_odds: list[float] = []
        self._speech: list[float] = []

    def push(self, log_odds: float, speech_seconds: float) -> bool:
        """Takes in a scored window; returns True when the lesson is over.

        Args:
            log_odds: calibrated log-odds of the window.
            speech_seconds: speech in the window's hop.
        """
        self._log_odds.append(log_odds)
        self._speech.append(speech_seconds)
        total = sum(self._speech)
        if total < self._seconds:
            return False
        mean = sum(one * weight for one, weight in zip(self._log_odds, self._speech, strict=True)) / total
        if mean > CALM_LIMIT:
            self._done(None)
        else:
            baseline = Baseline()
            baseline.declare(self._log_odds, self._speech)
            self._done(baseline)
        return True


class Judge:
    """Filter, baseline and levels of one source; an exponential average without baseline where the settings say so.

    Attributes:
        stress: rolling stress, 0..1; None before the first speech.
        level: in force; None before the first speech.
        shift: log-odds by which the baseline lies above the population's, as of the last speech; None when it is off.
        baseline_state: for readings.
        rule: thresholds in force.
        rising_since: stream time in samples since which the stress has stayed above the threshold of calm; None while
            it is below, and before the first speech.
    """

    def __init__(self, settings: Settings, card: Card, baseline: Baseline | None = None) -> None:
        """Prepares for the first window.

        Args:
            settings: rolling, baseline and episode are used.
            card: of the model.
            baseline: of the source, learned before; None to start as a stranger.

        Raises:
            SettingsError: the levels of settings and model card do not fit together.
        """
        self._settings, self._card = settings, card
        self._baseline = Baseline() if baseline is None else baseline
        self.rule = self._select_rule()
        self._levels = Levels(self.rule.thresholds, dwell_seconds=self.rule.dwell_seconds)
        self._filter = StressFilter()
        self._average = self._make_average()
        self._assumed: tuple[BaselineMode, Baseline] | None = None
        self._lesson: Lesson | None = None
        self._silence_samples = round(settings.episode.silence_seconds * SAMPLE_RATE)
        self._hop_samples = round(settings.window.hop_seconds * SAMPLE_RATE)
        self._now = self._spoken_at = 0
        self.stress: float | None = None
        self.level: Level | None = None
        self.rising_since: int | None = None
        # Properties would cost calls for every hop of every source, as would asking the baseline.
        self.shift: float | None = None
        self.baseline_state = BaselineState.OFF
        self._apply_rule()

    @property
    def baseline(self) -> Baseline:
        """Baseline of the source; it is neither used nor learned while the mode is off."""
        return self._baseline

    @baseline.setter
    def baseline(self, baseline: Baseline) -> None:
        before, self._baseline = self._baseline, baseline
        try:
            self.rule = self._select_rule()
        except Exception:
            self._baseline = before
            raise
        self._apply_rule()

    def learn(self, lesson: Lesson | None) -> None:
        """Begins a lesson in place of another; ends one that is under way with None."""
        self._lesson = lesson

    def retune(self, settings: Settings) -> None:
        """Applies other settings from the next window on. Filter, baseline and level keep their state.

        Raises:
            SettingsError: the levels of settings and model card do not fit together; nothing is changed then.
        """
        before, self._settings = self._settings, settings
        try:
            self.rule = self._select_rule()
        except Exception:
            self._settings = before
            raise
        seconds = settings.rolling.time_constant_seconds
        if seconds is not None and self._average is not None:
            self._average.time_constant_seconds = seconds
        elif (seconds is None) != (self._average is None):
            self._filter, self._average, self._assumed = StressFilter(), self._make_average(), None
        self._apply_rule()
        self._silence_samples = round(settings.episode.silence_seconds * SAMPLE_RATE)

    def speech(self, score: Score, speech_seconds: float, now: int) -> tuple[float, Level]:
        """Takes in a scored window; returns rolling stress and level.

        Args:
            score: of the window.
            speech_seconds: speech in the window's hop: the hop times the window's share of speech. More than 0.
            now: stream time of the window's end, samples.
        """
        elapsed, self._now, self._spoken_at = now - self._now, now, now
        lost = 0 if self.stress is None else max(elapsed - self._hop_samples, 0)  # of sound between two windows
        if self._average is not None:
            stress = self._average.push(score.stress, speech_seconds)
        else:
            if lost:
                self._filter.pass_time(lost / SAMPLE_RATE, silent=True)
            self._filter.pass_time((elapsed - lost) / SAMPLE_RATE, silent=False)
            stress = self._filter.push(score.log_odds, speech_seconds)
            if self._learns:
                self._baseline.follow(self._filter.calm, speech_seconds, stress)
                self.shift = self._baseline.shift
                if self._baseline.heard_seconds >= READY_SECONDS:
                    self.baseline_state = BaselineState.READY
        if self._lesson is not None and self._lesson.push(score.log_odds, speech_seconds):
            self._lesson = None
        self.stress = stress
        if stress < self._calm:
            self.rising_since = None
        elif self.rising_since is None:
            self.rising_since = now
        self.level = level = self._levels.push(stress, now)
        return stress, level

    def silence(self, now: int) -> None:
        """Takes in a window that is not scored and ends at `now`: the filter fades towards its prior."""
        elapsed, self._now = now - self._now, now
        if self._average is not None:
            return
        self._filter.pass_time(elapsed / SAMPLE_RATE, silent=True)
        if self.stress is None:
            return
        self.stress = self._filter.value
        long = now - self._spoken_at >= self._silence_samples
        self._levels.fade(self.stress, now, long=long)
        self.level = self._levels.level
        if self.stress < self._calm or (long and self.level is Level.LOW):
            self.rising_since = None

    def _apply_rule(self) -> None:
        self._levels.retune(self.rule.thresholds, dwell_seconds=self.rule.dwell_seconds)
        self._calm = self.rule.thresholds.calm
        mode = BaselineMode.OFF if self._average is not None else self._settings.baseline.mode
        self._learns = mode is BaselineMode.ADAPTIVE
        self.shift, self.baseline_state = None, BaselineState.OFF
        calm = usual = STRANGERS
        if mode is not BaselineMode.OFF:
            ready = self._baseline.ready
            self.shift, self.baseline_state = 0.0, BaselineState.READY if ready else BaselineState.LEARNING
            if self._learns or ready:  # what was half learned counts only while it is learned on
                self.shift = self._baseline.shift
                calm, usual = self._baseline.calm, self._baseline.usual
        if self._assumed != (mode, self._baseline):  # other thresholds leave the filter as it is
            self._assumed = mode, self._baseline
            self._filter.assume(calm, usual, learns=self._learns)

    def _select_rule(self) -> LevelRule:
        return select_rule(self._settings.rolling, self._card, self._kind())

    def _kind(self) -> BaselineKind:
        baseline = self._baseline
        return baseline_kind(self._settings.baseline.mode, learned=baseline.ready, declared=baseline.declared)

    def _make_average(self) -> Rolling | None:
        seconds = self._settings.rolling.time_constant_seconds
        return None if seconds is None else Rolling(seconds)


def min_speech_ratio(settings: GateSettings, model: Model) -> float:
    """Returns the least share of speech in a window that is scored; more than 0."""
    if settings.min_speech_ratio is not None:
        return max(settings.min_speech_ratio, math.ulp(0.0))
    # The curve of a card was measured with WebRTC's shares of speech.
    return NETWORK_LEAST_RATIO if settings.detector is Detector.NETWORK else least_speech_ratio(model.card.speech_trust)
