"""Selects thresholds: from a budget of false alarms and the operating points in the model's card, or by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from edge_sser.events import Expected
from edge_sser.model.card import Card, OperatingPoint
from edge_sser.pipeline.rolling import Thresholds
from edge_sser.settings.schema import BaselineMode, RollingSettings, Settings

DEFAULT_ELEVATED: Final = 0.35  # for a card without operating points
DEFAULT_HIGH: Final = 0.8
HYSTERESIS_LOG_ODDS: Final = 2.0  # of the filter, as in the measurement of operating points; about 0.25 at 0.35
AVERAGE_HYSTERESIS: Final = 0.08  # of the exponential average
AVERAGE_DWELL_SECONDS: Final = 2.0


class BaselineKind(str, Enum):
    """Knowledge of a source that a threshold was measured with."""

    OFF = "off"
    ADAPTIVE = "adaptive"
    DECLARED = "declared"


# Where a card has no points of a kind, those of less knowledge have the higher thresholds, and keep to the budget.
_FALLBACKS: Final = {
    BaselineKind.DECLARED: (BaselineKind.DECLARED, BaselineKind.ADAPTIVE, BaselineKind.OFF),
    BaselineKind.ADAPTIVE: (BaselineKind.ADAPTIVE, BaselineKind.OFF),
    BaselineKind.OFF: (BaselineKind.OFF,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRule:
    """Thresholds in force, and what to expect of them.

    Attributes:
        thresholds: of the levels.
        dwell_seconds: time that a new level must hold.
        expected: measured figures; None when they are not known.
        warning: one line for a person about settings that contradict each other or the card; empty when all is well.
    """

    thresholds: Thresholds
    dwell_seconds: float
    expected: Expected | None
    warning: str

    @property
    def outlook(self) -> str:
        """Figures to expect, in one line for a person."""
        if self.expected is None:
            return f"elevated from {self.thresholds.elevated:.3g}; no figures of these settings are in the model's card"
        figures = self.expected
        alarms = f"{figures.false_alarms_per_hour:g} false {episode_noun(figures.false_alarms_per_hour)}"
        delay = "" if figures.delay_median_s is None else f" after {figures.delay_median_s:.0f} s (median)"
        return (
            f"elevated from {self.thresholds.elevated:.3g}: expect {100.0 * figures.found:.0f} % of stressed parts of "
            f"30 s to be found{delay}, at {alarms} an hour of ordinary speech "
            f"(strangers' voices, baseline {figures.baseline})"
        )


def episode_noun(count: float) -> str:
    """Returns the noun for a number of episodes."""
    return "episode" if count == 1 else "episodes"


def baseline_kind(mode: BaselineMode, *, learned: bool = False, declared: bool = False) -> BaselineKind:
    """Returns the kind of baseline that a source has.

    Args:
        mode: of the settings.
        learned: True when the source's baseline is ready.
        declared: True when it was declared.
    """
    if mode is BaselineMode.OFF or (mode is BaselineMode.FIXED and not learned):
        return BaselineKind.OFF
    return BaselineKind.DECLARED if declared else BaselineKind.ADAPTIVE


def expected_rule(settings: Settings, card: Card) -> LevelRule:
    """Returns the rule of sources without a declared baseline.

    The rules of all baselines that a source may come to have are checked, so that none is refused while listening.

    Args:
        settings: rolling and baseline are used.
        card: of the model.

    Raises:
        SettingsError: as for `select_rule`.
    """
    own = baseline_kind(settings.baseline.mode)
    rule = select_rule(settings.rolling, card, own)  # first, so that a message names the thresholds in force
    for kind in BaselineKind if settings.baseline.mode is not BaselineMode.OFF else ():
        select_rule(settings.rolling, card, kind)
    return rule


def select_rule(rolling: RollingSettings, card: Card, kind: BaselineKind) -> LevelRule:
    """Selects the thresholds in force.

    A threshold given by hand wins over a budget. A budget takes the largest operating point within it.

    Args:
        rolling: settings.
        card: of the model.
        kind: of the source's baseline.

    Raises:
        SettingsError: together the thresholds do not rise, or the hysteresis is too large.
    """
    if rolling.time_constant_seconds is not None:
        return _average_rule(rolling, card)
    curve = _curve(card, kind)
    warning = ""
    if rolling.elevated is not None:
        elevated = rolling.elevated
        point = _nearest(curve, elevated)
        if rolling.false_alarms_per_hour is not None:
            warning = "rolling.elevated is given: it wins over rolling.false_alarms_per_hour, which is not used"
    else:
        point, warning = _within_budget(curve, rolling)
        elevated = DEFAULT_ELEVATED if point is None else point.threshold
    high = DEFAULT_HIGH if elevated < DEFAULT_HIGH else (1.0 + elevated) / 2.0
    hysteresis = _default_hysteresis(elevated) if rolling.hysteresis is None else rolling.hysteresis
    return LevelRule(
        thresholds=Thresholds.of(rolling, elevated=elevated, high=high, hysteresis=hysteresis),
        dwell_seconds=rolling.dwell_seconds or 0.0,
        expected=None if point is None else _expected(point),
        warning=warning,
    )


def manual_rule(rolling: RollingSettings, *, elevated: float, high: float) -> LevelRule:
    """Returns the rule of given thresholds, with the hysteresis and dwell of the settings.

    Args:
        rolling: settings; their thresholds are not used.
        elevated: rolling stress at which the level becomes elevated, 0..1.
        high: rolling stress at which the level becomes high, 0..1.

    Raises:
        SettingsError: the thresholds do not rise.
    """
    average = rolling.time_constant_seconds is not None
    hysteresis, dwell_seconds = rolling.hysteresis, rolling.dwell_seconds
    if hysteresis is None and not average:
        hysteresis = _default_hysteresis(elevated)
    else:
        hysteresis = min(AVERAGE_HYSTERESIS if hysteresis is None else hysteresis, elevated / 2.0)
    if dwell_seconds is None:
        dwell_seconds = AVERAGE_DWELL_SECONDS if average else 0.0
    unset = rolling.model_copy(update={"elevated": None, "high": None})
    thresholds = Thresholds.of(unset, elevated=elevated, high=high, hysteresis=hysteresis)
    return LevelRule(thresholds=thresholds, dwell_seconds=dwell_seconds, expected=None, warning="")


def _average_rule(rolling: RollingSettings, card: Card) -> LevelRule:
    hysteresis = AVERAGE_HYSTERESIS if rolling.hysteresis is None else rolling.hysteresis
    warning = ""
    if rolling.false_alarms_per_hour is not None:
        warning = (
            "rolling.time_constant_seconds is given: an average has no operating points, so that "
            "rolling.false_alarms_per_hour is not used"
        )
    return LevelRule(
        thresholds=Thresholds.of(rolling, elevated=card.elevated, high=card.high, hysteresis=hysteresis),
        dwell_seconds=AVERAGE_DWELL_SECONDS if rolling.dwell_seconds is None else rolling.dwell_seconds,
        expected=None,
        warning=warning,
    )


def _curve(card: Card, kind: BaselineKind) -> list[OperatingPoint]:
    points = card.operating_points or ()
    curves = ([point for point in points if point.baseline == each.value] for each in _FALLBACKS[kind])
    return next((curve for curve in curves if curve), [])


def _within_budget(curve: list[OperatingPoint], rolling: RollingSettings) -> tuple[OperatingPoint | None, str]:
    """Returns the operating point of a budget, and a warning when the card has none within it."""
    budget = rolling.budget
    if not curve:
        if rolling.false_alarms_per_hour is None:
            return None, ""
        return None, (
            f"the model's card has no operating points: rolling.false_alarms_per_hour is not used, elevated begins at "
            f"{DEFAULT_ELEVATED:g}"
        )
    least, most = curve[0], curve[-1]
    if not least.false_alarms_per_hour <= budget <= most.false_alarms_per_hour:
        point = least if budget < least.false_alarms_per_hour else most
        return point, (
            f"{budget:g} false alarms an hour lie outside the operating points of the model's card "
            f"({least.false_alarms_per_hour:g} to {most.false_alarms_per_hour:g} with baseline {point.baseline}): "
            f"the nearest, {point.false_alarms_per_hour:g}, is used"
        )
    return [point for point in curve if point.false_alarms_per_hour <= budget][-1], ""


def _nearest(curve: list[OperatingPoint], elevated: float) -> OperatingPoint | None:
    """Returns the operating point whose threshold is nearest in log-odds."""
    if not 0.0 < elevated < 1.0:
        return None
    return min(curve, key=lambda point: abs(_logit(point.threshold) - _logit(elevated)), default=None)


def _default_hysteresis(elevated: float) -> float:
    if not 0.0 < elevated < 1.0:
        return 0.0
    return elevated - 1.0 / (1.0 + math.exp(HYSTERESIS_LOG_ODDS - _logit(elevated)))


def _logit(probability: float) -> float:
    return math.log(probability / (1.0 - probability))


def _expected(point: OperatingPoint) -> Expected:
    kind: Literal["off", "adaptive", "declared"] = point.baseline
    return Expected(
        baseline=kind,
        false_alarms_per_hour=point.false_alarms_per_hour,
        found=point.found,
        delay_median_s=point.delay_median_s,
        delay_p95_s=point.delay_p95_s,
    )
