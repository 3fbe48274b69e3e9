"""Plot of a calibration: sound level, stress, thresholds, and episodes by threshold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.scored import Material
from edge_sser.commands.threshold import Choice, rate_interval
from edge_sser.errors import SinkError
from edge_sser.files import atomic_replace

_NAN = float("nan")


def draw_calibration(path: Path, materials: Sequence[Material], choice: Choice) -> None:
    """Draws the plot into a file, whose suffix names the format. Recordings follow each other in time.

    Raises:
        SinkError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), layout="constrained")
    FigureCanvasAgg(figure)  # without a window system, for any matplotlibrc
    loudness, stress, grid = figure.subplots(3, 1, height_ratios=[1, 2, 1.5])
    loudness.sharex(stress)
    ends, levels, curve, starts = [], [], [], []
    before = 0.0
    for material, replay in zip(materials, choice.trial.replays, strict=True):
        ends += [before + window.end / SAMPLE_RATE for window in material.windows] + [before + material.seconds]
        levels += [window.dbfs for window in material.windows] + [_NAN]  # a gap between recordings
        curve += [_NAN if value is None else value for value in replay.stress] + [_NAN]
        starts += [before + start / SAMPLE_RATE for start in replay.starts]
        before += material.seconds
    loudness.plot(ends, levels, color="#444444")
    loudness.set_ylabel("dBFS")
    stress.plot(ends, curve, color="black", label="rolling stress")
    stress.axhline(choice.rule.thresholds.elevated, color="#e0a030", label="elevated")
    stress.axhline(choice.rule.thresholds.high, color="#c8402f", label="high")
    stress.plot(starts, [1.02] * len(starts), "v", color="#c8402f", label="episode")
    stress.set(xlabel="seconds", ylabel="stress", ylim=(0, 1.06))
    stress.legend(loc="upper left", ncols=4, fontsize="small")
    _draw_grid(grid, choice)
    kind = path.suffix.lower().removeprefix(".")
    with atomic_replace(path, SinkError) as temporary:
        figure.savefig(temporary, dpi=120, format=kind)


def _draw_grid(axes, choice: Choice) -> None:  # type: ignore[no-untyped-def]
    thresholds = [trial.elevated for trial in choice.trials]
    rates = [trial.episodes / choice.hours for trial in choice.trials]
    intervals = [rate_interval(trial.episodes, choice.hours) for trial in choice.trials]
    below = [rate - low for rate, (low, _) in zip(rates, intervals, strict=True)]
    above = [high - rate for rate, (_, high) in zip(rates, intervals, strict=True)]
    axes.errorbar(thresholds, rates, yerr=[below, above], fmt="o", color="#6b8fb5", capsize=3, label="95 % interval")
    axes.axhline(choice.budget, color="#444444", ls="--", label="budget")
    axes.axvline(choice.trial.elevated, color="#e0a030", label="chosen")
    axes.set(xlabel="threshold of elevated", ylabel="episodes an hour", xlim=(0, 1))
    axes.legend(loc="upper right", ncols=3, fontsize="small")
