"""Filter of stress and baseline: bounds, silence, and stress that must not be learned away."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from statistics import NormalDist, fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import LAW

from edge_sser.pipeline.baseline import READY_SECONDS, Baseline
from edge_sser.pipeline.calm_level import CENTRE, HIGHEST, LEVELS, POPULATION, SPREAD, STRANGERS, moments, normal
from edge_sser.pipeline.decision import DEVIATIONS, MEANS, SHARES, WEIGHT, StressFilter

HOP = 0.5
LOWER_THRESHOLD = 0.1  # a threshold of 0.45 less the hysteresis
log_odds = st.floats(-40.0, 40.0)
ratio = st.floats(0.0, 1.0)
# Windows: log-odds and share of speech; a share of 0 is a window that is not scored.
windows = st.lists(st.tuples(log_odds, st.one_of(st.just(0.0), ratio)), max_size=200)
calm = st.floats(-3.0, -1.2)
# Of stress without a change, which no calm voice has: the highest has 0.1, and speech that does not waver is calm.
stressed = st.floats(1.0, 4.0)


def play(
    scored: Sequence[tuple[float, float]], baseline: Baseline | None = None, filtered: StressFilter | None = None
) -> list[float]:
    """Plays windows as the monitor does; returns the filter's value after each."""
    filtered = StressFilter() if filtered is None else filtered
    values = []
    for one, share in scored:
        filtered.pass_time(HOP, silent=share == 0.0)
        if share > 0.0:
            value = filtered.push(one, HOP * share)
            if baseline is not None:
                baseline.follow(filtered.calm, HOP * share, value)
        values.append(filtered.value)
    return values


def steady(one: float, seconds: float) -> list[tuple[float, float]]:
    return [(one, 1.0)] * round(seconds / HOP)


@LAW
@given(scored=windows)
def test_the_value_stays_within_zero_and_one_and_the_shift_within_its_bounds(scored: list[tuple[float, float]]) -> None:
    baseline = Baseline()
    assert all(0.0 < value < 1.0 for value in play(scored, baseline))
    assert LEVELS[0] <= baseline.value <= HIGHEST


@LAW
@given(scored=windows)
def test_silence_returns_to_the_prior(scored: list[tuple[float, float]]) -> None:
    filtered = StressFilter()
    play(scored, filtered=filtered)
    distances = [abs(value - filtered.prior) for value in play([(0.0, 0.0)] * 2400, filtered=filtered)]
    assert all(after <= before for before, after in itertools.pairwise(distances))
    assert distances[-1] < 1e-6


@LAW
@given(scored=windows, parts=st.lists(st.floats(0.0, 60.0), max_size=20), silent=st.booleans())
def test_a_time_in_parts_passes_as_the_whole(
    scored: list[tuple[float, float]], parts: list[float], silent: bool
) -> None:
    one, other = StressFilter(), StressFilter()
    play(scored, filtered=one)
    play(scored, filtered=other)
    for seconds in parts:
        one.pass_time(seconds, silent=silent)
    other.pass_time(sum(parts), silent=silent)
    assert one.value == pytest.approx(other.value, abs=1e-12)
    assert one.calm == pytest.approx(other.calm, abs=1e-12)


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
@given(place=st.integers(0, LEVELS.size - 1), above=st.floats(0.0, 4.0), more=st.floats(0.0, 4.0))
def test_more_log_odds_above_the_calm_level_give_more_stress(place: int, above: float, more: float) -> None:
    level = float(LEVELS[place])
    values = []
    for log_odds in (level + above, level + above + more):
        filtered = StressFilter(np.eye(LEVELS.size)[place], learns=False)
        values.append(filtered.push(log_odds, 1.0))
    assert values[0] <= values[1] + 1e-12


@LAW
@given(place=st.integers(0, LEVELS.size - 1), log_odds=st.floats(-6.0, 3.0), seconds=st.floats(0.0, 3.0))
def test_the_evidence_of_a_window_is_the_ratio_of_the_likelihoods(place: int, log_odds: float, seconds: float) -> None:
    """Of a speaker whose calm level is known."""
    filtered = StressFilter(np.eye(LEVELS.size)[place])
    assert filtered.value == filtered.prior == pytest.approx(0.05)
    filtered.push(log_odds, seconds)
    states = [
        share * NormalDist(mean, deviation).pdf(log_odds) ** (WEIGHT * seconds)
        for share, mean, deviation in zip(SHARES[:, 0], MEANS[:, place], DEVIATIONS[:, 0], strict=True)
    ]
    assert filtered.value == pytest.approx(sum(states[2:]) / sum(states))


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
    assert at_first > 0.9
    assert at_last >= at_first - 0.02


@pytest.mark.parametrize(
    ("mean", "before_seconds"),
    [(0.0, 60.0), (0.5, 60.0), (1.0, 60.0), (2.0, 60.0), (1.0, 0.0), (2.0, 0.0)],
)
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
    assert fmean(at_first) > 0.8
    assert fmean(at_last) >= fmean(at_first) - 0.1


@LAW
@given(voice=st.floats(-3.0, -1.1))
def test_a_calm_voice_is_learned_within_a_minute_and_stays_low(voice: float) -> None:
    baseline = Baseline()
    values = play(steady(voice, 120.0), baseline)
    assert max(values) < 0.2
    assert baseline.ready
    assert abs(baseline.value - voice) <= 0.1 * abs(voice - POPULATION) + 0.01


@LAW
@given(voice=st.floats(-3.0, -1.2), found=st.floats(0.5, 3.0))
def test_stress_after_calm_speech_is_found_within_ten_seconds(voice: float, found: float) -> None:
    filtered = StressFilter()
    play(steady(voice, 45.0), None, filtered)
    assert max(play(steady(found, 10.0), None, filtered)) > 0.3  # the threshold of the sensitivity "normal"


@LAW
@given(voice=st.floats(-3.0, -1.2))
def test_lively_speech_of_a_known_voice_is_not_stress(voice: float) -> None:
    filtered = StressFilter()
    play(steady(voice, 45.0), None, filtered)
    assert max(play(steady(max(0.37 * voice - 0.5, voice + 0.3), 60.0), None, filtered)) < 0.3


def test_a_high_voice_that_stays_as_it_is_becomes_calm() -> None:
    values = play(steady(-0.3, 120.0), Baseline())
    assert max(values) < 0.6
    assert values[-1] < 0.1


@pytest.mark.parametrize(("pause", "most"), [(0.0, 1.0), (30.0, 0.8), (300.0, 0.3)])
def test_after_a_pause_a_higher_voice_is_that_of_another_speaker(pause: float, most: float) -> None:
    baseline, filtered = Baseline(), StressFilter()
    play(steady(-2.5, 600.0), baseline, filtered)
    play([(0.0, 0.0)] * round(pause / HOP), None, filtered)
    values = play(steady(-0.9, 120.0), baseline, filtered)
    assert max(values) < most
    if pause:
        assert values[-1] < 0.1
        assert baseline.value == pytest.approx(-0.9, abs=0.1)
    else:
        assert values[-1] > 0.8  # it is stress


def test_without_learning_each_window_is_a_strangers() -> None:
    filtered = StressFilter(learns=False)
    play(steady(-2.5, 600.0), None, filtered)
    assert filtered.calm == pytest.approx(STRANGERS)


def test_what_is_assumed_of_the_calm_level_leaves_the_stress() -> None:
    filtered = StressFilter()
    play(steady(0.0, 5.0), None, filtered)
    before = filtered.value
    filtered.assume(normal(-2.0, 0.3), STRANGERS, learns=True)
    filtered.pass_time(0.0, silent=True)
    assert filtered.value == pytest.approx(before)
    assert moments(filtered.calm) == pytest.approx((-2.0, 0.3), abs=1e-3)


def test_silence_returns_what_was_learned_to_the_usual() -> None:
    filtered = StressFilter()
    play(steady(-3.0, 60.0), None, filtered)
    assert moments(filtered.calm)[0] == pytest.approx(-3.0, abs=0.1)
    filtered.pass_time(3600.0, silent=False)
    assert moments(filtered.calm)[0] == pytest.approx(-3.0, abs=0.1)
    filtered.pass_time(3600.0, silent=True)
    assert filtered.calm == pytest.approx(STRANGERS, abs=1e-3)


def test_a_baseline_is_ready_after_thirty_seconds_of_calm_speech() -> None:
    baseline = Baseline()
    for _ in range(round(READY_SECONDS)):
        assert not baseline.ready
        baseline.follow(STRANGERS, 1.0, 0.0)
    assert baseline.ready
    baseline = Baseline()
    baseline.follow(STRANGERS, 300.0, 1.0)
    assert not baseline.ready


def test_declared_speech_is_shrunk_and_bounded() -> None:
    baseline = Baseline()
    baseline.declare([-2.4] * 60, [0.5] * 60)
    assert (baseline.declared, baseline.ready, baseline.heard_seconds) == (True, True, 30.0)
    prior, evidence = SPREAD**-2, 30.0 * WEIGHT / float(DEVIATIONS[0, 0]) ** 2
    assert baseline.value == pytest.approx((CENTRE * prior - 2.4 * evidence) / (prior + evidence), abs=1e-3)
    assert baseline.deviation == pytest.approx((prior + evidence) ** -0.5, abs=1e-3)
    assert moments(baseline.calm) == pytest.approx((baseline.value, baseline.deviation), abs=1e-3)
    assert moments(baseline.usual)[0] == pytest.approx(baseline.anchor, abs=1e-2)
    baseline.declare([40.0], [1e6])
    assert baseline.value == pytest.approx(HIGHEST)
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
    assert moments(again.calm)[0] == pytest.approx(baseline.value, abs=0.2)


@pytest.mark.parametrize("end", [0, -1])
def test_a_baseline_at_an_end_of_the_levels_can_be_read_again(end: int) -> None:
    """Probabilities sum to 1 but for rounding."""
    baseline = Baseline()
    for rounding in (1.0 - 1e-15, 1.0, 1.0 + 1e-15):
        baseline.follow(rounding * np.eye(LEVELS.size)[end], 0.5, 0.0)
        assert Baseline.from_dict(baseline.to_dict()).value == baseline.value


@pytest.mark.parametrize(
    "change",
    [
        {"value": float("nan")},
        {"value": 3.0},
        {"anchor": 0.0},
        {"anchor": "loud"},
        {"deviation": -0.1},
        {"deviation": 5.0},
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
