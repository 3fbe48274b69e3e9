"""Two-state filter and baseline: bounds, silence, and stress that must not be learned away."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import LAW

from edge_sser.pipeline.baseline import (
    MOST_DECLARED,
    MOST_DOWN,
    MOST_UP,
    POPULATION,
    READY_SECONDS,
    Baseline,
)
from edge_sser.pipeline.decision import MIDDLE, StressFilter

HOP = 0.5
LOWER_THRESHOLD = 0.1  # of the sensitivity "normal": 0.35 less the hysteresis
log_odds = st.floats(-40.0, 40.0)
ratio = st.floats(0.0, 1.0)
# Windows: log-odds and share of speech; a share of 0 is a window that is not scored.
windows = st.lists(st.tuples(log_odds, st.one_of(st.just(0.0), ratio)), max_size=200)
calm = st.floats(-3.0, -1.2)
# Of stress that the filter finds at once: the middle is -0.8, and 0.5 at most is learned.
stressed = st.floats(0.5, 4.0)


def play(
    scored: Sequence[tuple[float, float]], baseline: Baseline | None = None, filtered: StressFilter | None = None
) -> list[float]:
    """Plays windows as the monitor does; returns the filter's value after each."""
    filtered = StressFilter() if filtered is None else filtered
    values = []
    for one, share in scored:
        filtered.pass_time(HOP)
        if share > 0.0:
            shift = 0.0 if baseline is None else baseline.shift
            value = filtered.push(one - shift, HOP * share)
            if baseline is not None:
                baseline.push(one, HOP * share, value)
        values.append(filtered.value)
    return values


def steady(one: float, seconds: float) -> list[tuple[float, float]]:
    return [(one, 1.0)] * round(seconds / HOP)


@LAW
@given(scored=windows)
def test_the_value_stays_within_zero_and_one_and_the_shift_within_its_bounds(scored: list[tuple[float, float]]) -> None:
    baseline = Baseline()
    assert all(0.0 < value < 1.0 for value in play(scored, baseline))
    assert -MOST_DOWN <= baseline.shift <= MOST_UP


@LAW
@given(scored=windows)
def test_silence_returns_to_the_prior(scored: list[tuple[float, float]]) -> None:
    filtered = StressFilter()
    play(scored, filtered=filtered)
    distances = [abs(value - filtered.prior) for value in play([(0.0, 0.0)] * 1200, filtered=filtered)]
    assert all(after <= before for before, after in itertools.pairwise(distances))
    assert distances[-1] < 1e-6


@LAW
@given(scored=windows, parts=st.lists(st.floats(0.0, 60.0), max_size=20))
def test_a_time_in_parts_passes_as_the_whole(scored: list[tuple[float, float]], parts: list[float]) -> None:
    one, other = StressFilter(), StressFilter()
    play(scored, filtered=one)
    play(scored, filtered=other)
    for seconds in parts:
        one.pass_time(seconds)
    other.pass_time(sum(parts))
    assert one.value == pytest.approx(other.value, abs=1e-12)


@LAW
@given(scored=st.lists(st.tuples(log_odds, st.floats(0.0, 0.3)), min_size=1, max_size=20))
def test_evidence_of_a_moment_counts_in_any_order(scored: list[tuple[float, float]]) -> None:
    first, second = StressFilter(), StressFilter()
    for one, seconds in scored:
        first.push(one, seconds)
    for one, seconds in reversed(scored):
        second.push(one, seconds)
    assert first.value == pytest.approx(second.value, abs=1e-9)


@LAW
@given(scored=windows, lower=st.floats(0.0, 5.0))
def test_less_log_odds_never_give_more_stress(scored: list[tuple[float, float]], lower: float) -> None:
    for one, other in zip(play(scored), play([(each - lower, share) for each, share in scored]), strict=True):
        assert other <= one + 1e-12


def test_the_middle_says_nothing_and_a_second_of_speech_half_its_log_odds() -> None:
    filtered = StressFilter()
    assert filtered.value == filtered.prior == pytest.approx(1.0 / 21.0)
    filtered.push(MIDDLE, 3.0)
    assert filtered.value == pytest.approx(filtered.prior)
    before = math.log(filtered.value / (1.0 - filtered.value))
    filtered.push(MIDDLE + 2.0, 1.0)
    assert math.log(filtered.value / (1.0 - filtered.value)) == pytest.approx(before + 1.0)


@LAW
@given(scored=windows)
def test_a_stressed_start_is_not_taken_for_calm(scored: list[tuple[float, float]]) -> None:
    baseline = Baseline()
    for one, share in scored:
        baseline.push(abs(one), share * HOP, 0.0)  # even when the filter says calm
    assert baseline.shift <= MOST_UP


@LAW
@given(level=stressed, before=st.one_of(st.none(), calm), threshold=st.floats(0.15, 0.6))
def test_ten_minutes_of_steady_stress_are_not_learned_away(
    level: float, before: float | None, threshold: float
) -> None:
    """After a minute of calm and from a cold start alike."""
    baseline, filtered = Baseline(), StressFilter()
    if before is not None:
        play(steady(before, 60.0), baseline, filtered)
    values = play(steady(level, 600.0), baseline, filtered)
    minute = round(60.0 / HOP)
    at_first = fmean(value >= threshold for value in values[minute // 2 : minute])
    at_last = fmean(value >= threshold for value in values[-minute:])
    assert at_last >= at_first - 0.02


@pytest.mark.parametrize("before_seconds", [0.0, 60.0])
@pytest.mark.parametrize("mean", [0.0, 0.5, 1.0, 2.0])
def test_ten_minutes_of_wavering_stress_are_not_learned_away(mean: float, before_seconds: float) -> None:
    """Log-odds of stressed speech scatter by about 1 and are alike within the 3 s over which windows overlap."""
    at_first, at_last = [], []
    for seed in range(20):
        random, deviation = np.random.default_rng(seed), 0.0
        baseline, filtered = Baseline(), StressFilter()
        play(steady(-1.8, before_seconds), baseline, filtered)
        scored = []
        for _ in range(1200):
            deviation = 0.85 * deviation + 0.53 * random.standard_normal()
            scored.append((mean + deviation, 0.8))
        values = play(scored, baseline, filtered)
        at_first.append(fmean(value >= LOWER_THRESHOLD for value in values[60:120]))
        at_last.append(fmean(value >= LOWER_THRESHOLD for value in values[-120:]))
    assert fmean(at_last) >= fmean(at_first) - 0.1


@LAW
@given(voice=st.floats(-3.0, -1.1))
def test_a_calm_voice_is_learned_within_a_minute_and_stays_low(voice: float) -> None:
    baseline = Baseline()
    values = play(steady(voice, 120.0), baseline)
    assert max(values) < 0.2
    assert baseline.ready
    assert abs(baseline.value - voice) <= 0.1 * abs(voice - POPULATION) + 1e-9


def test_a_baseline_is_ready_after_thirty_seconds_of_calm_speech() -> None:
    baseline = Baseline()
    for _ in range(round(READY_SECONDS)):
        assert not baseline.ready
        baseline.push(-1.6, 1.0, 0.0)
    assert baseline.ready


def test_declared_speech_is_shrunk_bounded_and_learned_around() -> None:
    baseline = Baseline()
    baseline.declare([0.0] * 60, [0.5] * 60)
    assert (baseline.declared, baseline.ready, baseline.heard_seconds) == (True, True, 30.0)
    assert baseline.value == pytest.approx(POPULATION * 6.0 / 36.0)
    anchor = baseline.value
    for _ in range(5000):
        baseline.push(9.0, 0.5, 0.0)
    assert baseline.value == pytest.approx(anchor + MOST_UP)
    baseline.declare([40.0], [1e6])
    assert baseline.shift == MOST_DECLARED
    with pytest.raises(ValueError, match="no speech"):
        baseline.declare([], [])


@LAW
@given(declared=st.one_of(st.none(), log_odds), scored=windows)
def test_the_state_survives_json(declared: float | None, scored: list[tuple[float, float]]) -> None:
    baseline = Baseline()
    if declared is not None:
        baseline.declare([declared], [40.0])
    play(scored, baseline)
    again = Baseline.from_dict(json.loads(json.dumps(baseline.to_dict())))
    assert again.to_dict() == baseline.to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"value": float("nan")},
        {"value": 3.0},
        {"anchor": 0.0},
        {"anchor": "loud"},
        {"heard_seconds": -1.0},
        {"heard_seconds": 10**400},
        {"heard_seconds": 1e9},
        {"declared": "yes"},
        {"value": None},
    ],
)
def test_a_state_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"bounds|missing|could not convert|declared"):
        Baseline.from_dict(Baseline().to_dict() | change)
    with pytest.raises(ValueError, match="missing"):
        Baseline.from_dict({})
