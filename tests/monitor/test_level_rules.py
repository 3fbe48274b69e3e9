"""Thresholds from a budget of false alarms, from a hand, or from neither; and what to expect of them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import changed_card
from operating_points import CARD, POINTS, point
from streams import LAW

from edge_sser.errors import SettingsError
from edge_sser.model.card import Card, OperatingPoint
from edge_sser.monitor.operating import (
    AVERAGE_DWELL_SECONDS,
    DEFAULT_ELEVATED,
    BaselineKind,
    baseline_kind,
    expected_rule,
    manual_rule,
    select_rule,
)
from edge_sser.settings.schema import BaselineMode, BaselineSettings, RollingSettings, Sensitivity, Settings

ADAPTIVE = BaselineKind.ADAPTIVE


def rolling(**values: object) -> RollingSettings:
    return RollingSettings.model_validate(values)


@pytest.mark.parametrize(
    ("sensitivity", "elevated", "high"),
    [(Sensitivity.QUICK, 0.17, 0.8), (Sensitivity.NORMAL, 0.35, 0.8), (Sensitivity.STRICT, 0.95, 0.975)],
)
def test_a_sensitivity_is_a_budget(sensitivity: Sensitivity, elevated: float, high: float) -> None:
    rule = select_rule(rolling(sensitivity=sensitivity), CARD, ADAPTIVE)
    assert (rule.thresholds.elevated, rule.thresholds.high) == (elevated, pytest.approx(high))
    assert rule.dwell_seconds == 0.0
    assert rule.warning == ""
    assert rule.expected is not None
    assert rule.expected.false_alarms_per_hour == sensitivity.budget


def test_a_budget_between_two_points_takes_the_one_within_it() -> None:
    rule = select_rule(rolling(false_alarms_per_hour=3.9), CARD, ADAPTIVE)
    assert rule.thresholds.elevated == 0.35
    assert rule.warning == ""


@pytest.mark.parametrize(("budget", "elevated"), [(0.01, 0.95), (60.0, 0.17)])
def test_a_budget_outside_the_card_takes_the_nearest_point_with_one_warning(budget: float, elevated: float) -> None:
    rule = select_rule(rolling(false_alarms_per_hour=budget), CARD, ADAPTIVE)
    assert rule.thresholds.elevated == elevated
    assert rule.warning.startswith(f"{budget:g} false alarms an hour lie outside")
    assert "\n" not in rule.warning


def test_a_threshold_by_hand_wins_over_a_budget_with_one_warning() -> None:
    rule = select_rule(rolling(elevated=0.4, false_alarms_per_hour=4.0), CARD, ADAPTIVE)
    assert rule.thresholds.elevated == 0.4
    assert "wins over rolling.false_alarms_per_hour" in rule.warning
    assert rule.expected is not None
    assert rule.expected.false_alarms_per_hour == 1.0  # of the nearest point
    assert select_rule(rolling(elevated=0.4), CARD, ADAPTIVE).warning == ""


def test_a_kind_without_points_takes_those_of_less_knowledge() -> None:
    assert select_rule(rolling(), CARD, BaselineKind.DECLARED).thresholds.elevated == 0.35
    assert select_rule(rolling(), CARD, BaselineKind.OFF).thresholds.elevated == 0.91
    only_off = replace(CARD, operating_points=POINTS[:3])
    assert select_rule(rolling(), only_off, ADAPTIVE).thresholds.elevated == 0.91


def test_a_card_without_points_has_the_default_of_the_filter() -> None:
    rule = select_rule(rolling(), changed_card(), ADAPTIVE)
    assert rule.thresholds.elevated == DEFAULT_ELEVATED
    assert rule.expected is None
    assert "no figures" in rule.outlook
    assert "no operating points" in select_rule(rolling(false_alarms_per_hour=1.0), changed_card(), ADAPTIVE).warning


def test_a_time_constant_selects_the_levels_of_the_card() -> None:
    rule = select_rule(rolling(time_constant_seconds=8.0), CARD, ADAPTIVE)
    assert (rule.thresholds.elevated, rule.thresholds.high) == (CARD.elevated, CARD.high)
    assert (rule.thresholds.hysteresis, rule.dwell_seconds) == (0.08, AVERAGE_DWELL_SECONDS)
    assert rule.expected is None
    assert rule.warning == ""
    budget = select_rule(rolling(time_constant_seconds=8.0, false_alarms_per_hour=1.0), CARD, ADAPTIVE)
    assert "has no operating points" in budget.warning


def test_hysteresis_and_dwell_by_hand_hold_in_both() -> None:
    for more in ({}, {"time_constant_seconds": 8.0}):
        rule = select_rule(rolling(hysteresis=0.2, dwell_seconds=3.0, **more), CARD, ADAPTIVE)
        assert (rule.thresholds.hysteresis, rule.dwell_seconds) == (0.2, 3.0)
        with pytest.raises(SettingsError, match=r"rolling\.hysteresis is 0\.9"):
            select_rule(rolling(hysteresis=0.9, **more), CARD, ADAPTIVE)


@LAW
@given(elevated=st.floats(0.001, 0.99))
def test_every_threshold_of_the_filter_can_be_left_again(elevated: float) -> None:
    thresholds = select_rule(rolling(elevated=elevated), CARD, ADAPTIVE).thresholds
    assert 0.0 < thresholds.calm < elevated < thresholds.high < 1.0
    manual = manual_rule(rolling(elevated=0.123), elevated=elevated, high=thresholds.high)
    assert manual.thresholds == thresholds


@pytest.mark.parametrize(
    ("mode", "learned", "declared", "kind"),
    [
        (BaselineMode.OFF, True, True, BaselineKind.OFF),
        (BaselineMode.FIXED, False, False, BaselineKind.OFF),
        (BaselineMode.FIXED, True, False, BaselineKind.ADAPTIVE),
        (BaselineMode.FIXED, True, True, BaselineKind.DECLARED),
        (BaselineMode.ADAPTIVE, False, False, BaselineKind.ADAPTIVE),
        (BaselineMode.ADAPTIVE, True, True, BaselineKind.DECLARED),
    ],
)
def test_the_kind_follows_what_is_known_of_a_source(
    mode: BaselineMode, learned: bool, declared: bool, kind: BaselineKind
) -> None:
    assert baseline_kind(mode, learned=learned, declared=declared) is kind


def test_the_outlook_is_one_line_with_the_figures() -> None:
    rule = expected_rule(Settings(), CARD)
    assert rule.outlook == (
        "elevated from 0.35: expect 63 % of stressed parts of 30 s to be found after 10 s (median), at 1 false episode "
        "an hour of ordinary speech (strangers' voices, baseline adaptive)"
    )
    off = expected_rule(Settings(baseline=BaselineSettings(mode=BaselineMode.OFF)), CARD)
    assert "baseline off" in off.outlook


def test_points_survive_the_text_of_a_card() -> None:
    assert Card.from_json(CARD.to_json()) == CARD


@pytest.mark.parametrize(
    "points",
    [
        (),
        POINTS * 9,
        (POINTS[1], POINTS[0]),
        (point("off", 1.0, 0.5), point("off", 2.0, 0.6)),
        (point("off", 1.0, 1.0),),
        (point("off", 1.0, float("nan")),),
        (point("off", 0.0, 0.5),),
        (point("off", 1.0, 0.5, found=1.5),),
        (replace(POINTS[0], hours=float("inf")),),
        (replace(POINTS[0], delay_median_s=-1.0),),
        (replace(POINTS[0], protocol="x" * 1000),),
        (replace(POINTS[0], baseline="guessed"),),  # type: ignore[arg-type]
    ],
)
def test_points_that_make_no_sense_are_refused(points: tuple[OperatingPoint, ...]) -> None:
    text = changed_card(operating_points=POINTS).to_json()
    assert Card.from_json(text)

    values = json.loads(text) | {"operating_points": [asdict(each) for each in points]}
    with pytest.raises(ValueError, match="operating_points"):
        Card.from_json(json.dumps(values))


@pytest.mark.parametrize("mode", [BaselineMode.ADAPTIVE, BaselineMode.FIXED])
def test_a_hysteresis_that_a_declared_baseline_would_refuse_is_refused_at_the_start(mode: BaselineMode) -> None:
    points = [point("off", 1.0, 0.9), point("adaptive", 1.0, 0.6), point("declared", 1.0, 0.1)]
    card = changed_card(operating_points=points)
    settings = Settings(rolling=rolling(hysteresis=0.2), baseline=BaselineSettings(mode=mode))
    assert select_rule(settings.rolling, card, ADAPTIVE)
    with pytest.raises(SettingsError, match="hysteresis"):
        expected_rule(settings, card)
    assert expected_rule(settings.model_copy(update={"baseline": BaselineSettings(mode=BaselineMode.OFF)}), card)
