"""`edge-sser calibrate`: settings and a baseline for one place, from minutes of ordinary speech in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import typer

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.scored import (
    Material,
    check_baseline_used,
    check_calm,
    check_writable,
    evidence,
    find_source,
    mean_log_odds,
    score_live,
    score_recordings,
)
from edge_sser.commands.threshold import Choice, Replay, choose, rate_interval, replay, with_threshold
from edge_sser.errors import SinkError, SourceError, UsageError
from edge_sser.files import atomic_replace
from edge_sser.model.model import Model
from edge_sser.monitor.baselines import baseline_path, save_baseline
from edge_sser.monitor.operating import episode_noun
from edge_sser.pipeline.baseline import Baseline
from edge_sser.settings.load import Loaded
from edge_sser.settings.names import source_name
from edge_sser.settings.schema import Settings, SourceSettings
from edge_sser.settings.show import set_values_as_toml

LEAST_SPEECH_SECONDS: Final = 60.0
DEFAULT_MINUTES: Final = 5.0
HIGH_LOG_ODDS: Final = -0.5  # mean of calm speech from which on the report asks if it was calm
MARK: Final = "# Written by edge-sser calibrate"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateRequest:
    """Arguments of the command.

    Attributes:
        recordings: ordinary, calm speech; empty to listen to the source.
        minutes: to listen; None for the default.
        stressed: recordings of stressed speech, each of which should give an episode.
        source: name of the source; None to make one.
        out: settings file to write.
        plot: picture to draw; None for none.
    """

    recordings: Sequence[Path]
    minutes: float | None
    stressed: Sequence[Path]
    source: str | None
    out: Path
    plot: Path | None


def run_calibrate(request: CalibrateRequest, loaded: Loaded) -> None:
    """Learns a baseline, chooses a threshold, writes both, and prints a report. Writes nothing when anything fails.

    Args:
        request: arguments.
        loaded: settings to start from.

    Raises:
        EdgeSserError: wrong arguments, speech that cannot be used, or a file that cannot be written.
    """
    settings = loaded.settings
    _check_arguments(request, settings)
    source = find_source(loaded, request.source, request.recordings)
    check_writable(request.out)
    check_writable(baseline_path(source_name(source)))
    model = Model.of_settings(settings.model)
    stressed = score_recordings(request.stressed, model, settings, source.channel)
    for material in stressed:
        if not material.speech_seconds:
            raise SourceError(f"{material.name}: no speech was found in this stressed recording: take it out")
    if request.recordings:
        materials = score_recordings(request.recordings, model, settings, source.channel)
    else:
        minutes = DEFAULT_MINUTES if request.minutes is None else request.minutes
        materials = [score_live(source, 60.0 * minutes, model, settings)]
    check_calm(materials, LEAST_SPEECH_SECONDS)
    baseline = Baseline()
    baseline.declare(*evidence(materials))
    choice = choose(materials, settings, model.card, baseline)
    found = [replay(each, with_threshold(settings, choice.trial.elevated), model.card, baseline) for each in stressed]
    _write(request, settings, source, model, materials, baseline, choice)
    for line in _report(request, source, materials, baseline, choice, found):
        typer.echo(line)


def _check_arguments(request: CalibrateRequest, settings: Settings) -> None:
    if request.recordings and request.minutes is not None:
        raise UsageError("--minutes is for listening to a source: leave it out, or leave out the recordings")
    for name in ("elevated", "high"):
        if getattr(settings.rolling, name) is not None:
            raise UsageError(
                f"rolling.{name} is given, but calibrate chooses the thresholds by the budget of false alarms: "
                "remove it from the settings"
            )
    check_baseline_used(settings)
    repeated = {path for path in request.stressed if path in request.recordings}
    if repeated:
        raise UsageError(f"{repeated.pop()} is given as calm and as stressed speech: decide for one")
    if not request.out.parent.is_dir():
        raise SinkError(f"--out {request.out}: there is no folder {request.out.parent}: make it first")
    if request.out.exists() and not _is_own(request.out):
        raise UsageError(f"--out {request.out}: calibrate did not write what is there: choose another name")
    if request.plot is not None and request.plot == request.out:
        raise UsageError("--out and --plot name the same file: choose another name")
    if request.plot is not None:
        from edge_sser.commands.plot import check_plot

        check_plot(request.plot)


def _is_own(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError:
        return False


def _write(
    request: CalibrateRequest,
    settings: Settings,
    source: SourceSettings,
    model: Model,
    materials: Sequence[Material],
    baseline: Baseline,
    choice: Choice,
) -> None:
    text = settings_text(settings, source, choice)
    with atomic_replace(request.out, SinkError) as temporary:
        temporary.write_text(text, encoding="utf-8")
        if request.plot is not None:
            from edge_sser.commands.calibration_plot import draw_calibration

            draw_calibration(request.plot, materials, choice)
        save_baseline(source_name(source), model.label, baseline)


def settings_text(settings: Settings, source: SourceSettings, choice: Choice) -> str:
    """Returns the settings file: the settings that calibration began with, and what it chose.

    Args:
        settings: at the beginning.
        source: that the baseline belongs to.
        choice: of the threshold.
    """
    values: dict[str, Any] = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    own = source.model_dump(mode="json", exclude_unset=True, exclude_none=True) | {"device": source.device}
    name = own["name"]
    known = values.get("source", [])
    others = [other for each, other in zip(settings.source, known, strict=False) if source_name(each) != name]
    values["source"] = [own, *others]
    rolling = {key: value for key, value in values.get("rolling", {}).items() if key != "false_alarms_per_hour"}
    if choice.of_card:
        rolling["false_alarms_per_hour"] = choice.budget
    else:
        thresholds = choice.rule.thresholds
        rolling |= {"elevated": round(thresholds.elevated, 4), "high": round(thresholds.high, 4)}
    values["rolling"] = rolling
    values["baseline"] = {"mode": settings.baseline.mode.value}
    budget = f"at most {choice.budget:g} false {episode_noun(choice.budget)} an hour"
    head = f"{MARK} for {budget}.\n# {_evidence_line(choice)}\n"
    return head + set_values_as_toml(values)


def _evidence_line(choice: Choice) -> str:
    count, minutes = choice.trial.episodes, 60.0 * choice.hours
    most = rate_interval(count, choice.hours)[1]
    return f"{count} {episode_noun(count)} in {minutes:.1f} minutes of calm sound: at most {most:.3g} an hour (95 %)"


def _report(
    request: CalibrateRequest,
    source: SourceSettings,
    materials: Sequence[Material],
    baseline: Baseline,
    choice: Choice,
    found: Sequence[Replay],
) -> list[str]:
    speech = sum(material.speech_seconds for material in materials)
    thresholds = choice.rule.thresholds
    enough = 60.0 * rate_interval(0, 1.0)[1] / choice.budget
    lines = [
        f"heard      {60.0 * choice.hours:.1f} minutes of sound with {speech:.0f} s of speech",
        f"baseline   {source.name}: shift {baseline.shift:+.2f}, saved for the model in use",
        f"threshold  elevated {thresholds.elevated:.2f}, high {thresholds.high:.2f}, {choice.origin}",
        f"kept to    {_evidence_line(choice)}",
        f"to prove   {choice.budget:g} an hour takes {enough:.0f} minutes of calm sound without an episode",
    ]
    if mean_log_odds(materials) > HIGH_LOG_ODDS:
        lines.append("mind       this speech sounds more stressed than most calm speech: make sure that it was calm")
    if found:
        delays = [each.starts[0] / SAMPLE_RATE for each in found if each.starts]
        after = f", after {median(delays):.1f} s (median)" if delays else ""
        lines.append(f"found      {len(delays)} of {len(found)} stressed recordings{after}")
    plot = f" and {request.plot}" if request.plot is not None else ""
    return [
        *lines,
        f"written    {request.out}{plot}",
        f"next       edge-sser listen --config {request.out}",
    ]
