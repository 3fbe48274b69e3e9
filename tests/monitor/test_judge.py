"""Judgement of one source: modes of the baseline, silence, changes of settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import changed_card
from operating_points import CARD, point

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import SettingsError
from edge_sser.events import BaselineState, Level
from edge_sser.model.model import Score
from edge_sser.monitor.judge import Judge, Lesson
from edge_sser.pipeline.baseline import Baseline
from edge_sser.pipeline.calm_level import POPULATION, normal
from edge_sser.pipeline.decision import StressFilter
from edge_sser.settings.schema import Settings

HOP = SAMPLE_RATE // 2


class Stream:
    """A judge and the time of its stream."""

    def __init__(self, options: dict[str, Any] | None = None, baseline: Baseline | None = None) -> None:
        self.judge = Judge(Settings.model_validate(options or {}), CARD, baseline)
        self.now = 3 * SAMPLE_RATE - HOP

    def speak(self, log_odds: float, seconds: float) -> None:
        score = Score(1.0 / (1.0 + np.exp(-log_odds)), log_odds, np.zeros(8, np.float32))
        for _ in range(round(2 * seconds)):
            self.now += HOP
            self.judge.speech(score, 0.5, self.now)

    def wait(self, seconds: float) -> None:
        for _ in range(round(2 * seconds)):
            self.now += HOP
            self.judge.silence(self.now)


def learned(log_odds: float) -> Baseline:
    baseline = Baseline()
    for _ in range(60):
        baseline.follow(normal(log_odds, 0.2), 1.0, 0.0)
    return baseline


def declared(log_odds: float) -> Baseline:
    baseline = Baseline()
    baseline.declare([log_odds] * 60, [0.5] * 60)
    return baseline


def test_stress_is_found_and_left_again() -> None:
    stream = Stream()
    assert (stream.judge.stress, stream.judge.level) == (None, None)
    stream.speak(-1.8, 30.0)
    assert stream.judge.level is Level.LOW
    assert stream.judge.rising_since is None
    began = stream.now
    stream.speak(1.5, 15.0)
    assert stream.judge.level is Level.HIGH
    assert stream.judge.rising_since is not None
    assert began < stream.judge.rising_since <= began + 5 * SAMPLE_RATE
    stream.speak(-1.8, 30.0)
    assert stream.judge.level is Level.LOW
    assert stream.judge.rising_since is None


def test_silence_fades_to_the_prior_and_ends_the_level() -> None:
    stream = Stream()
    stream.wait(10.0)
    assert (stream.judge.stress, stream.judge.level) == (None, None)
    stream.speak(2.0, 20.0)
    assert stream.judge.level is Level.HIGH
    stream.wait(5.0)
    assert stream.judge.level is not Level.LOW
    stream.wait(300.0)
    assert stream.judge.stress == pytest.approx(StressFilter().prior, abs=0.02)
    assert stream.judge.level is Level.LOW


def test_silence_never_raises_a_level() -> None:
    stream = Stream({"rolling": {"elevated": 0.03, "hysteresis": 0.0}})  # below the prior
    stream.speak(-4.0, 30.0)
    assert stream.judge.level is Level.LOW
    stream.wait(300.0)
    assert stream.judge.stress is not None
    assert stream.judge.stress > 0.03
    assert stream.judge.level is Level.LOW


def test_an_average_keeps_stress_and_level_through_silence_and_has_no_baseline() -> None:
    stream = Stream({"rolling": {"time_constant_seconds": 2.0}}, learned(-3.0))
    stream.speak(2.0, 20.0)
    before = stream.judge.stress, stream.judge.level
    assert before[1] is Level.HIGH
    stream.wait(300.0)
    assert (stream.judge.stress, stream.judge.level) == before
    assert (stream.judge.baseline_state, stream.judge.shift) == (BaselineState.OFF, None)
    assert stream.judge.baseline.to_dict() == learned(-3.0).to_dict()


def test_a_baseline_is_used_in_every_mode_but_off_and_learned_in_adaptive_alone() -> None:
    stress = {}
    for mode in ("off", "fixed", "adaptive"):
        baseline = learned(-2.5)
        before = baseline.to_dict()
        stream = Stream({"baseline": {"mode": mode}}, baseline)
        stream.speak(-1.2, 5.0)
        stress[mode] = stream.judge.stress
        assert (stream.judge.shift is None) == (mode == "off")
        assert (baseline.to_dict() == before) == (mode != "adaptive")
    assert stress["off"] is not None
    assert stress["fixed"] is not None
    assert stress["adaptive"] is not None
    assert stress["off"] < stress["adaptive"] <= stress["fixed"]


def test_lively_speech_of_a_declared_voice_is_no_stress_in_any_mode() -> None:
    for mode in ("fixed", "adaptive"):
        stream = Stream({"baseline": {"mode": mode}}, declared(-2.0))
        stream.speak(-1.2, 300.0)
        assert stream.judge.stress is not None
        assert stream.judge.stress < 0.05


def test_a_baseline_is_learning_and_then_ready() -> None:
    stream = Stream()
    assert stream.judge.baseline_state is BaselineState.LEARNING
    stream.speak(-1.8, 29.0)
    assert stream.judge.baseline_state is BaselineState.LEARNING
    stream.speak(-1.8, 5.0)
    assert stream.judge.baseline_state is BaselineState.READY


def test_another_baseline_selects_its_thresholds() -> None:
    stream = Stream({"baseline": {"mode": "fixed"}})
    assert stream.judge.rule.thresholds.elevated == 0.91
    stream.judge.baseline = declared(-2.0)
    assert stream.judge.rule.thresholds.elevated == 0.35
    stream.judge.baseline = Baseline()
    assert stream.judge.rule.thresholds.elevated == 0.91


def test_other_settings_keep_the_state_of_the_filter() -> None:
    stream = Stream()
    stream.speak(-1.8, 40.0)
    stream.speak(1.0, 6.0)
    before = stream.judge.stress, stream.judge.shift
    stream.judge.retune(Settings.model_validate({"rolling": {"sensitivity": "quick"}}))
    assert (stream.judge.stress, stream.judge.shift) == before
    assert stream.judge.rule.thresholds.elevated == 0.17
    stream.wait(0.5)
    assert stream.judge.stress == pytest.approx(before[0], abs=0.02)
    with pytest.raises(SettingsError):
        stream.judge.retune(Settings.model_validate({"rolling": {"hysteresis": 0.9}}))
    assert stream.judge.rule.thresholds.elevated == 0.17


def test_other_thresholds_leave_the_filter_as_it_is() -> None:
    changed, same = Stream(), Stream()
    for stream in (changed, same):
        stream.speak(-1.8, 20.0)
        stream.speak(0.5, 4.0)
        stream.wait(60.0)
    changed.judge.retune(Settings.model_validate({"rolling": {"sensitivity": "quick"}}))
    for stream in (changed, same):
        stream.speak(0.5, 4.0)
    assert changed.judge.stress == same.judge.stress
    assert changed.judge.shift == same.judge.shift


@pytest.mark.parametrize("lost", [False, True], ids=["silence", "lost sound"])
def test_after_a_long_pause_another_voice_is_learned(lost: bool) -> None:
    stream = Stream()
    stream.speak(-3.0, 60.0)
    if lost:
        stream.now += 600 * SAMPLE_RATE
    else:
        stream.wait(600.0)
    stream.speak(-0.9, 60.0)
    assert stream.judge.stress is not None
    assert stream.judge.stress < 0.1
    assert stream.judge.shift == pytest.approx(-0.9 - POPULATION, abs=0.15)


def test_silence_before_the_first_speech_makes_a_saved_baseline_less_sure() -> None:
    at_once, later = Stream(baseline=learned(-3.0)), Stream(baseline=learned(-3.0))
    later.wait(600.0)
    assert later.judge.stress is None
    for stream in (at_once, later):
        stream.speak(-0.9, 20.0)
    assert at_once.judge.stress is not None
    assert later.judge.stress is not None
    assert later.judge.stress < 0.5 * at_once.judge.stress


def test_a_change_between_filter_and_average_begins_anew() -> None:
    stream = Stream()
    stream.speak(2.0, 20.0)
    stream.judge.retune(Settings.model_validate({"rolling": {"time_constant_seconds": 8.0}}))
    stream.speak(0.0, 0.5)
    assert stream.judge.stress == pytest.approx(0.5)
    assert stream.judge.baseline_state is BaselineState.OFF
    stream.judge.retune(Settings())
    stream.speak(-1.8, 0.5)
    assert stream.judge.stress is not None
    assert stream.judge.stress < 0.1
    assert stream.judge.baseline_state is BaselineState.LEARNING


def test_a_card_without_points_works() -> None:
    judge = Judge(Settings(), changed_card())
    assert judge.rule.thresholds.elevated == 0.35


@pytest.mark.parametrize(("log_odds", "shift"), [(-2.4, -0.65), (-0.6, 1.07)])
def test_a_lesson_declares_the_calm_speech_that_follows(log_odds: float, shift: float) -> None:
    stream = Stream()
    lessons: list[Baseline | None] = []
    stream.speak(1.0, 10.0)  # before the lesson, and no part of it
    stream.judge.learn(Lesson(30.0, lessons.append))
    stream.speak(log_odds, 25.0)
    assert lessons == []
    stream.speak(log_odds, 30.0)
    (baseline,) = lessons
    assert baseline is not None
    assert baseline.declared
    assert baseline.shift == pytest.approx(shift, abs=0.15)


def test_a_lesson_of_speech_that_sounds_stressed_gives_none() -> None:
    stream = Stream()
    lessons: list[Baseline | None] = []
    stream.judge.learn(Lesson(30.0, lessons.append))
    stream.speak(0.5, 60.0)
    assert lessons == [None]


def test_a_lesson_that_is_called_off_gives_nothing() -> None:
    stream = Stream()
    lessons: list[Baseline | None] = []
    stream.judge.learn(Lesson(30.0, lessons.append))
    stream.judge.learn(None)
    stream.speak(-2.0, 60.0)
    assert lessons == []


@pytest.mark.parametrize("baseline", [None, declared(-1.6)], ids=["adaptive", "declared"])
def test_evidence_ends_with_the_level_in_a_long_silence(baseline: Baseline | None) -> None:
    stream = Stream(baseline=baseline)
    stream.speak(1.0, 30.0)
    assert stream.judge.rising_since is not None
    stream.wait(180.0)
    assert stream.judge.level is Level.LOW
    assert stream.judge.rising_since is None


def test_a_fixed_baseline_that_is_half_learned_does_not_count() -> None:
    half = Baseline()
    for _ in range(10):
        half.follow(normal(-3.0, 0.4), 1.0, 0.0)
    assert half.shift < -0.5
    assert not half.ready
    assert Stream({"baseline": {"mode": "fixed"}}, half).judge.shift == 0.0


def test_a_baseline_whose_thresholds_do_not_fit_leaves_the_one_before() -> None:
    points = [point("adaptive", 1.0, 0.6), point("declared", 1.0, 0.1)]
    settings = Settings.model_validate({"rolling": {"hysteresis": 0.2}})
    judge = Judge(settings, changed_card(operating_points=points))
    before = judge.baseline
    with pytest.raises(SettingsError):
        judge.baseline = declared(-2.0)
    assert judge.baseline is before
