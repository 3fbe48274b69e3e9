"""Result of `train operating`: settings and figures as plain values, points for a card, table, picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import TrainingError
from edge_sser.model.card import OperatingPoint
from edge_sser.monitor.operating import HYSTERESIS_LOG_ODDS, BaselineKind
from edge_sser.pipeline import baseline, calm_level, decision
from edge_sser.pipeline.gate import NETWORK_LEAST_RATIO
from edge_sser.settings.schema import Settings
from edge_sser.train.evaluate.budgets import BUDGETS, LOG_ODDS
from edge_sser.train.evaluate.replay import DECLARED_SECONDS, LEAST_DECLARED_SECONDS, HeardStream
from edge_sser.train.evaluate.strangers import SETTINGS, Kind

PROTOCOL = "30 s angry or fearful; false in calm, happy, sad speech; strangers, acted; docs/results/decision.md"
_TITLES = {"off": "no baseline", "adaptive": "adaptive baseline", "declared": "30 s of calm declared"}


def operating_points(result: Mapping[str, Any]) -> tuple[OperatingPoint, ...]:
    """Returns the operating points for the model's card.

    Args:
        result: content of a result file.

    Raises:
        TrainingError: nobody was stressed in the measurement.
    """
    if not result["before"]["events"]:
        raise TrainingError("the result has no stressed parts, so that it says nothing of what is found: give --table")
    return tuple(
        OperatingPoint(
            baseline=kind.value,
            false_alarms_per_hour=point["budget"],
            threshold=point["threshold"],
            found=point["found_share"],
            delay_median_s=point["delay_median_s"],
            delay_p95_s=point["delay_p95_s"],
            hours=point["hours"],
            protocol=PROTOCOL,
        )
        for kind in BaselineKind
        for point in result["modes"][kind.value]
    )


def summary(result: Mapping[str, Any]) -> Iterator[str]:
    """Yields the lines of a table for people (Markdown)."""
    yield "| baseline | false an hour, at most | threshold | found | delay median, p95 (s) | false [95 % an hour] |"
    yield "|---|---|---|---|---|---|"
    rows = [
        (mode, point["budget"], point["threshold"], point) for mode, own in result["modes"].items() for point in own
    ]
    before = ("settings of before", "-", result["settings"]["before"]["rolling"]["elevated"], result["before"])
    for mode, budget, threshold, point in [before, *rows]:
        low, high = point["false_per_hour_95"]
        share = "-" if point["found_share"] is None else f"{100 * point['found_share']:.0f} %"
        delays = [point["delay_median_s"], point["delay_p95_s"]]
        times = ", ".join("-" if delay is None else f"{delay:.1f}" for delay in delays)
        yield (
            f"| {mode} | {budget} | {threshold:.3f} | {share} ({point['found']}/{point['events']}) | {times} | "
            f"{point['false']}/{point['hours']:.2f} h [{low:.2f}, {high:.2f}] |"
        )


def settings_used(device: Settings, before: Settings) -> dict[str, Any]:
    """Returns every setting of a measurement.

    Args:
        device: settings of now.
        before: settings to compare with.
    """
    sections = {"gate", "window", "rolling", "baseline", "episode"}
    now = device.model_dump(mode="json", include=sections)
    now["gate"]["min_speech_ratio"] = NETWORK_LEAST_RATIO
    return {
        "streams": SETTINGS,
        "device": now,
        "before": before.model_dump(mode="json", include=sections - {"baseline"}),
        "filter": {
            "weight": decision.WEIGHT,
            "weight_of_strangers": decision.WEIGHT_OF_STRANGERS,
            "clip": decision.CLIP,
            "state_seconds": decision.STATE_SECONDS,
            "change_seconds": decision.CHANGE_SECONDS,
            "shares": decision.SHARES.ravel().tolist(),
            "means": decision.MEANS.round(3).tolist(),
            "deviations": decision.DEVIATIONS.ravel().tolist(),
        },
        "calm_level": {
            "centre": calm_level.CENTRE,
            "spread": calm_level.SPREAD,
            "levels": calm_level.LEVELS.round(3).tolist(),
        },
        "declared_deviation": baseline.DECLARED_DEVIATION,
        "declared_seconds": [LEAST_DECLARED_SECONDS, DECLARED_SECONDS],
        "hysteresis_log_odds": HYSTERESIS_LOG_ODDS,
        "thresholds_log_odds": [float(LOG_ODDS[0]), float(LOG_ODDS[-1]), int(LOG_ODDS.size)],
    }


def streams_heard(heard: Sequence[HeardStream]) -> dict[str, Any]:
    """Returns numbers and hours of the streams, by kind and corpus."""
    return {
        kind.value: {
            corpus: {
                "streams": len(own),
                "speakers": len({each.speaker for each in own}),
                "events": sum(len(each.events) for each in own),
                "hours": round(sum(each.length for each in own) / SAMPLE_RATE / 3600.0, 4),
                "windows": sum(len(each.ends) for each in own),
                "scored": sum(sum(each.scored) for each in own),
            }
            for corpus in sorted({each.corpus for each in heard})
            if (own := [each for each in heard if each.corpus == corpus and each.kind is kind])
        }
        for kind in Kind
    }


def draw(path: Path, result: Mapping[str, Any]) -> None:
    """Draws the share of stressed parts found and the delay against the budget.

    Args:
        path: of the picture.
        result: content of a result file.

    Raises:
        TrainingError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)  # without a window system, for any matplotlibrc
    found, delay = figure.subplots(1, 2)
    for (mode, points), style in zip(result["modes"].items(), ("o:", "o-", "o--"), strict=True):
        budgets = [point["budget"] for point in points]
        found.plot(budgets, [100.0 * (point["found_share"] or 0.0) for point in points], style, label=_TITLES[mode])
        delay.plot(budgets, [point["delay_median_s"] for point in points], style, label=_TITLES[mode])
    before = result["before"]
    rate = max(before["false_per_hour"], BUDGETS[0])
    if before["events"]:
        found.plot(rate, 100.0 * before["found_share"], "kx", label="settings of before")
        delay.plot(rate, before["delay_median_s"], "kx")
    for axes, title, top in ((found, "stressed parts found, %", 100.0), (delay, "median delay, s", None)):
        axes.set_xscale("log", base=2)
        axes.set_xticks(BUDGETS, [f"{budget:g}" for budget in BUDGETS])
        axes.set(xlabel="false episodes an hour, at most", ylabel=title, ylim=(0.0, top))
        axes.grid(alpha=0.3)
    found.legend(loc="lower right")  # the curves rise towards the upper right
    try:
        figure.savefig(path, dpi=110)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error.strerror}): choose another place") from None
