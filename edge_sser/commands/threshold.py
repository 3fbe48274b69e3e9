"""Chooses the threshold of a place: replays the decision over its calm speech at a grid of thresholds."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_sser.commands.scored import Material
from edge_sser.errors import SourceError
from edge_sser.events import Phase
from edge_sser.model.card import Card
from edge_sser.monitor.judge import Judge
from edge_sser.monitor.operating import BaselineKind, LevelRule, episode_noun, select_rule
from edge_sser.pipeline.baseline import Baseline
from edge_sser.pipeline.episodes import Episodes
from edge_sser.settings.schema import Settings

# Up to what stressed speech reaches: the filter fades at the rate at which steady evidence raises it near 0.98.
GRID: Final = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
_TAIL: Final = 0.025  # of a 95 % interval, on either side


@dataclass(frozen=True, slots=True)
class Replay:
    """Decision over one stream.

    Attributes:
        stress: rolling stress after each window; None before the first speech.
        starts: stream time in samples at which each episode was declared.
    """

    stress: Sequence[float | None]
    starts: Sequence[int]


@dataclass(frozen=True, slots=True)
class Trial:
    """Decision over all calm speech at one threshold.

    Attributes:
        elevated: the threshold.
        replays: one for each stream.
    """

    elevated: float
    replays: Sequence[Replay]

    @property
    def episodes(self) -> int:
        """Number of episodes, all of which are false."""
        return sum(len(replay.starts) for replay in self.replays)


@dataclass(frozen=True, slots=True)
class Choice:
    """Threshold chosen, and its evidence.

    Attributes:
        trial: at this threshold.
        trials: all of them, by rising threshold.
        rule: levels in force with the threshold.
        of_card: True when the threshold is the one of the model's card for the budget.
        own: threshold without calibration.
        budget: false episodes an hour.
        hours: of calm sound.
    """

    trial: Trial
    trials: Sequence[Trial]
    rule: LevelRule
    of_card: bool
    own: float
    budget: float
    hours: float

    @property
    def origin(self) -> str:
        """Origin of the threshold, for a person."""
        if self.trial.elevated == self.own:
            return "of the model's card" if self.of_card else "the default"
        return f"{'raised' if self.trial.elevated > self.own else 'lowered'} for this place from {self.own:.2f}"


def replay(material: Material, settings: Settings, card: Card, baseline: Baseline) -> Replay:
    """Plays the decision of `listen` over a stream that was scored before.

    Args:
        material: the stream.
        settings: rolling, baseline and episode are used.
        card: of the model.
        baseline: at the start; stays as it is.
    """
    judge, episodes = Judge(settings, card, copy.copy(baseline)), Episodes(settings.episode)
    stress: list[float | None] = []
    starts = []
    for window in material.windows:
        if window.score is None:
            judge.silence(window.end)
            report = episodes.silence(window.end)
        else:
            rolling, level = judge.speech(window.score, window.speech_seconds, window.end)
            report = episodes.speech(rolling, level, window.end)
        stress.append(judge.stress)
        if report is not None and report.phase is Phase.START:
            starts.append(report.start)
    return Replay(stress, starts)


def choose(materials: Sequence[Material], settings: Settings, card: Card, baseline: Baseline) -> Choice:
    """Chooses the threshold for a budget.

    The threshold of the model's card was measured on hours of speech, and minutes of this place say less. So it is
    raised where this place needs a higher one, and lowered only where the interval of this place is within the budget.

    Args:
        materials: calm speech.
        settings: with the budget.
        card: of the model.
        baseline: declared from the same speech.

    Raises:
        SourceError: no threshold keeps to the budget.
    """
    rolling = settings.rolling
    budget, hysteresis = rolling.budget, rolling.hysteresis or 0.0
    hours = sum(material.seconds for material in materials) / 3600.0
    own = select_rule(rolling, card, BaselineKind.DECLARED)
    trials = []
    for elevated in sorted({*(value for value in GRID if value > hysteresis), own.thresholds.elevated}):
        changed = with_threshold(settings, elevated)
        trials.append(Trial(elevated, [replay(each, changed, card, baseline) for each in materials]))
    kept: list[Trial] = []
    for trial in reversed(trials):  # a threshold counts when it and all higher ones keep to the budget
        if trial.episodes > budget * hours:
            break
        kept.insert(0, trial)
    if not kept:
        raise SourceError(
            f"no threshold keeps to {budget:g} false {episode_noun(budget)} an hour: {trials[-1].episodes} "
            f"{episode_noun(trials[-1].episodes)} at {trials[-1].elevated:g}: "
            "give calm speech only, or allow more false alarms"
        )
    trial = next(
        trial
        for trial in kept
        if trial.elevated >= own.thresholds.elevated or rate_interval(trial.episodes, hours)[1] <= budget
    )
    return Choice(
        trial=trial,
        trials=trials,
        rule=select_rule(with_threshold(settings, trial.elevated).rolling, card, BaselineKind.DECLARED),
        own=own.thresholds.elevated,
        of_card=trial.elevated == own.thresholds.elevated and own.expected is not None,
        budget=budget,
        hours=hours,
    )


def rate_interval(count: int, hours: float) -> tuple[float, float]:
    """Returns the exact 95 % interval of a Poisson rate (Garwood, 1936), an hour.

    Examples:
        >>> low, high = rate_interval(0, 1.0)
        >>> f"{low:.2f} {high:.2f}"
        '0.00 3.69'
    """
    low = 0.0 if count == 0 else _mean_with(count - 1, 1.0 - _TAIL)
    return low / hours, _mean_with(count, _TAIL) / hours


def _mean_with(count: int, probability: float) -> float:
    """Returns the mean of the Poisson distribution that gives at most `count` with this probability, by bisection."""
    low, high = 0.0, count + 10.0 + 10.0 * math.sqrt(count + 1.0)
    for _ in range(60):
        mean = (low + high) / 2.0
        at_most = sum(math.exp(n * math.log(mean) - mean - math.lgamma(n + 1.0)) for n in range(count + 1))
        low, high = (mean, high) if at_most > probability else (low, mean)
    return (low + high) / 2.0


def with_threshold(settings: Settings, elevated: float) -> Settings:
    """Returns the settings with a threshold by hand in place of the budget."""
    rolling = settings.rolling.model_copy(update={"elevated": elevated, "false_alarms_per_hour": None})
    return settings.model_copy(update={"rolling": rolling})
