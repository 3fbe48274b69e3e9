"""Smoothing over speech time, and levels with hysteresis and dwell."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import LAW, RATE

from edge_sser.errors import SettingsError
from edge_sser.events import Level
from edge_sser.pipeline.rolling import Levels, Rolling, Thresholds
from edge_sser.settings.schema import RollingSettings

THRESHOLDS = Thresholds(elevated=0.5, high=0.75, hysteresis=0.1)
stress = st.floats(0.0, 1.0)
seconds = st.floats(0.01, 3.0)


@LAW
@given(scored=st.lists(st.tuples(stress, seconds), min_size=1, max_size=30))
def test_the_value_is_the_mean_weighted_by_how_much_speech_ago_it_was(scored: list[tuple[float, float]]) -> None:
    rolling = Rolling(8.0)
    for value, speech_seconds in scored:
        rolling.push(value, speech_seconds)
    weights, ago = [], 0.0
    for _, speech_seconds in reversed(scored):
        # A stretch of speech weighs the integral of exp(-t / 8 s) over its place in the past.
        weights.append(math.exp(-ago / 8.0) - math.exp(-(ago + speech_seconds) / 8.0))
        ago += speech_seconds
    total = sum(weight * value for weight, (value, _) in zip(weights, reversed(scored), strict=True))
    assert rolling.value == pytest.approx(total / sum(weights), abs=1e-9)


@LAW
@given(value=stress, times=st.lists(seconds, min_size=1, max_size=10))
def test_steady_stress_is_its_own_mean_from_the_first_window_on(value: float, times: list[float]) -> None:
    rolling = Rolling(8.0)
    assert rolling.value is None
    for speech_seconds in times:
        assert rolling.push(value, speech_seconds) == pytest.approx(value, abs=1e-12)


def test_after_the_time_constant_the_past_counts_one_part_in_e() -> None:
    rolling = Rolling(5.0)
    for _ in range(1000):
        rolling.push(0.0, 0.5)
    for _ in range(10):
        rolling.push(1.0, 0.5)
    assert rolling.value == pytest.approx(1.0 - 1.0 / math.e, abs=1e-6)


def test_a_sliver_of_speech_counts_as_a_sliver() -> None:
    rolling = Rolling(600.0)
    rolling.push(0.2, 0.5)
    assert rolling.push(1.0, 1e-9) == pytest.approx(0.2, abs=1e-6)


def levels(dwell_seconds: float) -> Levels:
    return Levels(THRESHOLDS, dwell_seconds=dwell_seconds)


dwells = st.sampled_from([0.0, 0.5, 2.0, 3.0])
# Stretches of one stress, as speech has them: (stress, tenths of a second to the next reading), many times over.
stretches = st.tuples(st.sampled_from([0.1, 0.45, 0.55, 0.7, 0.9]), st.integers(1, 8), st.integers(1, 12))
walks = st.lists(stretches, min_size=1, max_size=12).map(
    lambda drawn: [(value, tenths) for value, tenths, times in drawn for _ in range(times)]
)


def walked(stage: Levels, walk: list[tuple[float, int]]) -> list[tuple[int, float, Level]]:
    """Samples, stress and level after each step of a walk whose steps are in tenths of a second."""
    now, out = 0, []
    for value, tenths in walk:
        now += tenths * RATE // 10
        out.append((now, value, stage.push(value, now)))
    return out


@LAW
@given(walk=walks, dwell=dwells)
def test_a_level_never_changes_twice_within_the_dwell(walk: list[tuple[float, int]], dwell: float) -> None:
    steps = [(0, 0.0, Level.LOW), *walked(levels(dwell), walk)]
    changes = [now for (_, _, before), (now, _, after) in itertools.pairwise(steps) if before is not after]
    assert all(later - earlier >= dwell * RATE for earlier, later in itertools.pairwise(changes))


@LAW
@given(walk=walks, dwell=dwells)
def test_the_furthest_level_held_through_the_dwell_is_adopted(walk: list[tuple[float, int]], dwell: float) -> None:
    current = Level.LOW
    targets: list[tuple[int, Level]] = []  # since the last change
    for now, value, level in walked(levels(dwell), walk):
        targets.append((now, THRESHOLDS.level(value, current)))
        rising = targets[-1][1].rank > current.rank
        held = []
        for other in Level:
            if (other.rank > current.rank) == rising and other is not current:
                at_least = itertools.takewhile(
                    lambda each, other=other, rising=rising: (
                        each[1].rank >= other.rank if rising else each[1].rank <= other.rank
                    ),
                    reversed(targets),
                )
                begun = min((time for time, _ in at_least), default=now + 1)
                if now - begun >= dwell * RATE:
                    held.append(other)
        if held:
            current, targets = (held[-1] if rising else held[0]), []
        assert level is current


@LAW
@given(values=st.lists(st.floats(0.41, 0.74), min_size=1, max_size=40))
def test_inside_the_hysteresis_a_level_stays(values: list[float]) -> None:
    stage = levels(0.0)
    stage.push(0.6, RATE)
    assert {stage.push(value, (2 + n) * RATE) for n, value in enumerate(values)} == {Level.ELEVATED}


def test_the_level_is_low_until_another_one_has_held() -> None:
    stage = levels(2.0)
    assert stage.level is None
    times = [n * RATE // 2 for n in range(6)]
    assert [stage.push(0.9, now) for now in times] == [Level.LOW] * 4 + [Level.HIGH] * 2


def test_high_waits_for_another_dwell_after_elevated() -> None:
    stage = levels(2.0)
    got = [stage.push(0.6 if n < 3 else 0.9, n * RATE // 2) for n in range(10)]
    assert got == [Level.LOW] * 4 + [Level.ELEVATED] * 5 + [Level.HIGH]


def test_what_wavers_above_a_level_makes_that_level() -> None:
    stage = levels(2.0)
    got = [stage.push(0.9 if n % 2 else 0.6, n * RATE // 2) for n in range(5)]
    assert got[-1] is Level.ELEVATED


def test_a_dip_restarts_the_dwell() -> None:
    stage = levels(2.0)
    for n in range(30):
        assert stage.push(0.3 if n % 4 == 3 else 0.9, n * RATE // 2) is Level.LOW


def test_a_level_is_left_only_below_its_hysteresis_and_can_fall_by_two() -> None:
    stage = levels(0.0)
    assert stage.push(0.75, 1) is Level.HIGH
    assert stage.push(0.66, 2) is Level.HIGH
    assert stage.push(0.64, 3) is Level.ELEVATED
    assert stage.push(0.74, 4) is Level.ELEVATED
    assert stage.push(0.80, 5) is Level.HIGH
    assert stage.push(0.39, 6) is Level.LOW
    assert stage.push(0.49, 7) is Level.LOW


def test_the_settings_come_before_the_models_card() -> None:
    card = {"elevated": 0.4, "high": 0.7}
    assert Thresholds.of(RollingSettings(), **card, hysteresis=0.08) == Thresholds(
        elevated=0.4, high=0.7, hysteresis=0.08
    )
    mine = Thresholds.of(
        RollingSettings(
            elevated=0.5,
            high=0.9,
        ),
        **card,
        hysteresis=0.2,
    )
    assert mine == Thresholds(elevated=0.5, high=0.9, hysteresis=0.2)
    assert Thresholds.of(RollingSettings(high=0.9), **card, hysteresis=0.08).elevated == 0.4


def test_settings_and_card_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"rolling.elevated is 0.8 and rolling.high is 0.7 .*: set both"):
        Thresholds.of(RollingSettings(elevated=0.8), elevated=0.4, high=0.7, hysteresis=0.08)
    with pytest.raises(SettingsError, match=r"rolling.hysteresis is 0.45, rolling.elevated 0.4: "):
        Thresholds.of(RollingSettings(), elevated=0.4, high=0.7, hysteresis=0.45)
