"""Budgets of false episodes: the threshold that keeps to each, and its figures, by corpus, by sex and held out."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sser.train.evaluate.alarms import alarm_rate
from edge_sser.train.evaluate.replay import HeardStream, Outcome

BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # false episodes an hour
LOG_ODDS = np.linspace(-3.0, 8.0, 177)  # of the thresholds tried
THRESHOLDS: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-LOG_ODDS))
_DIGITS = 4


def choose_thresholds(outcomes: Sequence[Outcome], budgets: Sequence[float] = BUDGETS) -> list[int]:
    """Returns the place of the lowest threshold that keeps to each budget.

    The rate of false episodes is made monotone first: a threshold counts with the highest rate of those above it, as
    episodes that run into each other are no fewer alarms.

    Args:
        outcomes: of the streams at `THRESHOLDS`.
        budgets: false episodes an hour.
    """
    hours = sum(outcome.calm_seconds for outcome in outcomes) / 3600.0
    false = np.sum([outcome.false for outcome in outcomes], axis=0)
    rate = np.maximum.accumulate(false[::-1])[::-1] / hours
    last = THRESHOLDS.size - 1
    return [int(np.flatnonzero(rate <= budget + 1e-9)[0]) if rate[-1] <= budget else last for budget in budgets]


def figures(outcomes: Sequence[Outcome], place: int) -> dict[str, Any]:
    """Returns the figures of a threshold: of all streams, by corpus, and by sex.

    Args:
        outcomes: of the streams.
        place: of the threshold.
    """
    corpora = _grouped(outcomes, lambda outcome: outcome.heard.corpus)
    by_corpus = {name: _group(own, place) for name, own in corpora.items()}
    shares = [each["found_share"] for each in by_corpus.values() if each["events"]]
    sexes = _grouped(outcomes, lambda outcome: outcome.heard.sex)
    return {
        **_group(outcomes, place),
        "found_share_mean_of_corpora": round(float(np.mean(shares)), _DIGITS) if shares else None,
        "by_corpus": by_corpus,
        "by_sex": {sex: _group(own, place) for sex, own in sexes.items() if sex},
    }


def held_out(outcomes: Sequence[Outcome], budgets: Sequence[float] = BUDGETS) -> list[dict[str, Any]]:
    """Returns the figures of each budget with the threshold of one half of the speakers, on the other half, both ways.

    Args:
        outcomes: of the streams at `THRESHOLDS`.
        budgets: false episodes an hour.
    """
    halves: tuple[list[Outcome], list[Outcome]] = ([], [])
    for outcome in outcomes:
        halves[half(outcome.heard)].append(outcome)
    if not all(halves):
        return [{} for _ in budgets]
    chosen = [choose_thresholds(each, budgets) for each in halves]
    out = []
    for budget in range(len(budgets)):
        places = [chosen[1 - half(outcome.heard)][budget] for outcome in outcomes]
        out.append({"thresholds": [_round(THRESHOLDS[each[budget]]) for each in chosen], **_count(outcomes, places)})
    return out


def half(heard: HeardStream) -> int:
    """Returns the half of the speakers that a stream belongs to, 0 or 1."""
    return zlib.crc32(f"{heard.corpus}/{heard.speaker}".encode()) % 2


def _grouped(outcomes: Sequence[Outcome], name: Callable[[Outcome], str]) -> Mapping[str, list[Outcome]]:
    out: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        out.setdefault(name(outcome), []).append(outcome)
    return dict(sorted(out.items()))


def _group(outcomes: Sequence[Outcome], place: int) -> dict[str, Any]:
    return _count(outcomes, [place] * len(outcomes))


def _count(outcomes: Sequence[Outcome], places: Sequence[int]) -> dict[str, Any]:
    pairs = list(zip(outcomes, places, strict=True))
    delays = np.concatenate([outcome.delays[place] for outcome, place in pairs])
    found = delays[~np.isnan(delays)]
    hours = sum(outcome.calm_seconds for outcome in outcomes) / 3600.0
    alarmed = sum(float(outcome.alarm_seconds[place]) for outcome, place in pairs) / 3600.0
    rate = alarm_rate(sum(int(outcome.false[place]) for outcome, place in pairs), hours, alarmed)
    return {
        "found": int(found.size),
        "events": int(delays.size),
        "found_share": _round(found.size / delays.size) if delays.size else None,
        "masked": sum(int(outcome.masked[place]) for outcome, place in pairs),
        "delay_median_s": _round(np.median(found)) if found.size else None,
        "delay_p95_s": _round(np.percentile(found, 95)) if found.size else None,
        "false": rate.alarms,
        "hours": _round(hours),
        "false_per_hour": _round(rate.an_hour),
        "false_per_hour_95": [_round(rate.low), _round(rate.high)],
        "calm_time_in_alarm": _round(rate.share),
    }


def _round(value: float) -> float:
    return round(float(value), _DIGITS)
