"""Prints what the filter of the decision finds on kept windows, as Markdown: docs/results/filter.md.

    python scripts/filter_figures.py MODEL WINDOWS.json

WINDOWS.json is made by `train operating MODEL … --windows WINDOWS.json`. The parts: log-odds by state; stress from the
first second, ten minutes of stress, and another voice after a silence; the constants and thresholds of one half of the
speakers on the other half.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import EdgeSserError, TrainingError, UsageError
from edge_sser.events import Level
from edge_sser.model.card import Card
from edge_sser.model.model import Model
from edge_sser.model.shipped import model_file
from edge_sser.monitor.operating import BaselineKind, manual_rule
from edge_sser.pipeline import baseline, calm_level, decision
from edge_sser.pipeline.rolling import Levels
from edge_sser.train.evaluate.alarms import episode_spans
from edge_sser.train.evaluate.budgets import BUDGETS, THRESHOLDS, choose_thresholds, half
from edge_sser.train.evaluate.kept_windows import probe, read_windows
from edge_sser.train.evaluate.operating import DEVICE, judge_streams
from edge_sser.train.evaluate.replay import HeardStream, rolling_stress, try_thresholds
from edge_sser.train.evaluate.strangers import Kind
from edge_sser.train.evaluate.streams import Span

SHOWN = (0.25, 1.0, 4.0)  # budgets
LEAST_WINDOWS = 12  # of a speaker in a state, to count
WHOLE_SECONDS = 2.5  # of stress in a window that counts as stressed
AFTER_SECONDS = 3.0  # until a window has none of it
BETWEEN = 0.8  # deviations between speakers by which the two stressed states lie from their mean
LATE_MINUTES = 10
PAUSE_WINDOWS = 40  # 20 s
PAIRS = 30
COLUMNS = ("scored", "log_odds", "speech_seconds")  # of a stream, one value a window

LogOdds = Mapping[tuple[str, str], NDArray[np.float64]]


@dataclass(frozen=True)
class States:
    """Log-odds of the windows of each speaker, by state: (corpus, speaker) -> float64 [windows]."""

    calm: LogOdds
    lively: LogOdds
    stressed: LogOdds


def states(streams: Sequence[HeardStream]) -> States:
    """Returns the log-odds of calm, lively and stressed speech."""
    found: tuple[dict[tuple[str, str], list[float]], ...] = ({}, {}, {})
    for stream in streams:
        ends, log_odds = np.array(stream.ends), np.array(stream.log_odds)
        inside, outside = np.zeros(ends.size, dtype=bool), np.array(stream.scored)
        for event in stream.events:
            inside |= (ends > event.start + WHOLE_SECONDS * SAMPLE_RATE) & (ends <= event.end)
            outside &= (ends <= event.start) | (ends > event.end + AFTER_SECONDS * SAMPLE_RATE)
        ordinary = found[1] if stream.kind is Kind.LIVELY else found[0]
        speaker = (stream.corpus, stream.speaker)
        ordinary.setdefault(speaker, []).extend(log_odds[outside])
        found[2].setdefault(speaker, []).extend(log_odds[inside & np.array(stream.scored)])
    return States(*({name: np.array(own) for name, own in each.items() if len(own) >= LEAST_WINDOWS} for each in found))


def spread(levels: LogOdds) -> tuple[float, float, float]:
    """Returns the mean of the speakers' means, their deviation, and the mean deviation of a speaker's windows."""
    means = [own.mean() for own in levels.values()]
    return float(np.mean(means)), float(np.std(means)), float(np.mean([own.std() for own in levels.values()]))


def line(levels: LogOdds, calm: LogOdds) -> tuple[float, float, float]:
    """Returns slope and intercept of the speakers' means over those of their calm speech, and the correlation."""
    both = sorted(set(levels) & set(calm))
    x, y = [calm[name].mean() for name in both], [levels[name].mean() for name in both]
    slope, intercept = np.polyfit(x, y, 1)
    return float(slope), float(intercept), float(np.corrcoef(x, y)[0, 1])


def use_constants(found: States) -> None:
    """Replaces means and deviations of filter and declared baselines by those of the states found, in this process.

    The grid of calm levels, the shares of the states and the weights stay.
    """
    centre, between, within = spread(found.calm)
    slope, intercept, _ = line(found.lively, found.calm)
    stressed, apart, own = spread(found.stressed)
    baseline.CENTRE = decision.CENTRE = centre
    baseline.SPREAD = between
    calm_level.STRANGERS[:] = calm_level.normal(centre, between)
    levels = calm_level.LEVELS
    decision.MEANS[1] = np.maximum(slope * levels + intercept, levels + 0.3)
    for row, side in ((2, -BETWEEN), (3, BETWEEN)):
        decision.MEANS[row] = np.maximum(0.3 * (levels - centre) + stressed + side * apart, levels + 0.7)
    decision.DEVIATIONS[:, 0] = (within, float(np.hypot(spread(found.lively)[2], 0.3)), own, own)
    decision._LOG_DEVIATIONS[:] = np.log(decision.DEVIATIONS)


def on_other_half(streams: Sequence[HeardStream], card: Card) -> Iterator[str]:
    """Yields what constants and thresholds of one half of the speakers find in the other half, both ways."""
    yield "| baseline | false an hour, at most | found | delay median | false |"
    yield "|---|---|---|---|---|"
    judged = {}
    for side in (0, 1):
        use_constants(states([each for each in streams if half(each) == side]))
        for kind in (BaselineKind.ADAPTIVE, BaselineKind.DECLARED):
            judged[kind, side] = judge_streams(streams, kind, card)
    for kind in (BaselineKind.ADAPTIVE, BaselineKind.DECLARED):
        pairs = []
        for side in (0, 1):
            places = choose_thresholds([each for each in judged[kind, side] if half(each.heard) == side])
            pairs += [(each, places) for each in judged[kind, side] if half(each.heard) != side]
        hours = sum(each.calm_seconds for each, _ in pairs) / 3600.0
        for budget in SHOWN:
            number = BUDGETS.index(budget)
            delays = np.concatenate([each.delays[places[number]] for each, places in pairs])
            false = sum(int(each.false[places[number]]) for each, places in pairs)
            yield (f"| {kind.value} | {budget} | {share(delays)} | {median(delays)} | {false} in {hours:.1f} h |")


def share(delays: NDArray[np.float64]) -> str:
    """Returns how many were found, in words."""
    return f"{100 * np.mean(~np.isnan(delays)):.0f} % ({np.sum(~np.isnan(delays))}/{delays.size})"


def median(delays: NDArray[np.float64]) -> str:
    """Returns the median delay of those found, in words."""
    return "-" if np.isnan(delays).all() else f"{np.nanmedian(delays):.1f} s"


def from_start(stream: HeardStream) -> HeardStream:
    """Returns a stream that begins with its first stressed part."""
    event = stream.events[0]
    places = [place for place, end in enumerate(stream.ends) if end > event.start]
    return replace(
        stream,
        events=[Span(0, event.end - event.start)],
        length=stream.length - event.start,
        ends=[stream.ends[place] - event.start for place in places],
        **{name: [getattr(stream, name)[place] for place in places] for name in COLUMNS},
    )


def minutes_of_stress(stream: HeardStream) -> tuple[HeardStream, int]:
    """Returns the first minute of a stream and ten minutes of its stressed windows, and the windows of the first."""
    event = stream.events[0]
    hop = stream.ends[1] - stream.ends[0]
    minute = 60 * SAMPLE_RATE // hop
    before = [place for place, end in enumerate(stream.ends) if end <= event.start][:minute]
    inside = scored_stress(stream)
    count = LATE_MINUTES * minute
    places = before + (inside * (count // len(inside) + 1))[:count]
    ends = [hop * (1 + number) for number in range(len(places))]
    columns = {name: [getattr(stream, name)[place] for place in places] for name in COLUMNS}
    events = [Span(ends[len(before)], ends[-1])]
    return replace(stream, events=events, length=ends[-1], ends=ends, **columns), len(before)


def after_silence(first: HeardStream, second: HeardStream) -> HeardStream:
    """Returns a stream of one voice, 20 s of silence and another voice."""
    hop = first.ends[1] - first.ends[0]
    pause = [first.ends[-1] + hop * (1 + number) for number in range(PAUSE_WINDOWS)]
    return replace(
        first,
        length=pause[-1] + second.length,
        ends=[*first.ends, *pause, *(pause[-1] + end for end in second.ends)],
        scored=[*first.scored, *[False] * PAUSE_WINDOWS, *second.scored],
        log_odds=[*first.log_odds, *[0.0] * PAUSE_WINDOWS, *second.log_odds],
        speech_seconds=[*first.speech_seconds, *[0.0] * PAUSE_WINDOWS, *second.speech_seconds],
    )


def behaviour(streams: Sequence[HeardStream], card: Card, threshold: float) -> Iterator[str]:
    """Yields how the filter takes stress from the start, ten minutes of it, and another voice."""
    rule = manual_rule(DEVICE.rolling, elevated=threshold, high=(1.0 + threshold) / 2.0)
    stressed = [each for each in streams if each.events and scored_stress(each)]
    starts = [from_start(each) for each in stressed]
    delays = np.concatenate(
        [try_thresholds(each, rolling_stress(each, DEVICE, card), [threshold], DEVICE).delays[0] for each in starts]
    )
    yield f"- Stress from the first second: {share(delays)} found, after {median(delays)} (median)."
    minutes = []
    for stream in stressed:
        long, first = minutes_of_stress(stream)
        levels = Levels(rule.thresholds, dwell_seconds=rule.dwell_seconds)
        pairs = zip(rolling_stress(long, DEVICE, card), long.ends, strict=True)
        elevated = [stress is not None and levels.push(stress, end) is not Level.LOW for stress, end in pairs]
        minutes.append(np.reshape(elevated[first:], (LATE_MINUTES, -1)).mean(axis=1))
    shares = ", ".join(f"{100 * each:.0f}" for each in np.mean(minutes, axis=0))
    yield f"- Ten minutes of stress, elevated in % of each minute: {shares} ({len(minutes)} streams)."
    calm: dict[tuple[str, str], list[HeardStream]] = {}
    for stream in streams:
        if stream.kind is Kind.CALM:
            calm.setdefault((stream.corpus, stream.speaker), []).append(stream)
    chance = random.Random(0)  # noqa: S311
    false = 0
    for _ in range(PAIRS):
        one, other = (chance.choice(calm[voice]) for voice in chance.sample(sorted(calm), 2))
        joined = after_silence(one, other)
        heard = zip(joined.ends, joined.scored, rolling_stress(joined, DEVICE, card), strict=True)
        second = joined.length - other.length
        false += sum(span.start >= second for span in episode_spans(heard, rule, DEVICE))
    yield f"- Another voice after 20 s of silence: {false} false episodes in {PAIRS} pairs of {len(calm)} voices."


def scored_stress(stream: HeardStream) -> list[int]:
    """Returns the places of the scored windows that are full of stress."""
    event = stream.events[0]
    return [
        place
        for place, end in enumerate(stream.ends)
        if event.start + WHOLE_SECONDS * SAMPLE_RATE < end <= event.end and stream.scored[place]
    ]


def main(arguments: Sequence[str]) -> None:
    """Prints all parts.

    Raises:
        TrainingError: the windows are not of the model, or cannot be read.
        UsageError: there are not two arguments.
    """
    if len(arguments) != 2:
        raise UsageError("usage: python scripts/filter_figures.py MODEL WINDOWS.json")
    model, kept = Model.load(model_file(Path(arguments[0]))), read_windows(Path(arguments[1]))
    if kept.made_of.get("models", {}).get("file") != probe(model):
        raise TrainingError(f"{arguments[1]} was not made with {arguments[0]}: name the model of the measurement")
    found = states(kept.heard)
    print("| state | speakers | mean | between speakers | within | over calm: slope, correlation |")
    print("|---|---|---|---|---|---|")
    for state, levels in vars(found).items():
        mean, between, within = spread(levels)
        slope, _, correlation = line(levels, found.calm)
        print(
            f"| {state} | {len(levels)} | {mean:+.2f} | {between:.2f} | {within:.2f} | {slope:.2f}, {correlation:.2f} |"
        )
    judged = judge_streams(kept.heard, BaselineKind.ADAPTIVE, model.card)
    threshold = float(THRESHOLDS[choose_thresholds(judged)[BUDGETS.index(1.0)]])
    print("", *behaviour(kept.heard, model.card, threshold), "", sep="\n")
    print(*on_other_half(kept.heard, model.card), sep="\n")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EdgeSserError as error:
        sys.exit(f"error: {error}")
