"""Commands `edge-sser calibrate` and `edge-sser baseline`: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_sser.commands.options import ConfigOption, ModelOption, given_flags, load_with_flags

baseline_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Learns, shows and removes baselines: how a source sounds when its speaker is calm.",
)

SourceArgument = Annotated[str | None, typer.Argument(metavar="SOURCE", help="Name of the source, as in its events.")]


@baseline_app.command()
def learn(
    source: SourceArgument = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=1.0, max=3600.0, metavar="N", help="Seconds to listen to the source; 60."),
    ] = None,
    recording: Annotated[
        list[Path] | None,
        typer.Option("--recording", metavar="FILE", help="Recording of the source instead. May be repeated."),
    ] = None,
    config: ConfigOption = None,
    model: ModelOption = None,
) -> None:
    """Learns how a source sounds when its speaker is calm, from at least 30 s of calm speech.

    Listens to the source, or reads recordings of it. Speech that sounds stressed is refused.
    """
    from edge_sser.commands.baseline import learn as run

    flags = given_flags(("model.path", "--model", model and str(model)))
    run(load_with_flags(config, flags), source, recording or [], seconds)


@baseline_app.command()
def show(source: SourceArgument = None) -> None:
    """Prints the saved baselines: source, model, shift in log-odds, speech heard, date, declared or learned."""
    from edge_sser.commands.baseline import show as run

    raise typer.Exit(run(source))


@baseline_app.command()
def reset(source: SourceArgument = None) -> None:
    """Removes the baseline of a source; it is learned again while listening."""
    from edge_sser.commands.baseline import reset as run

    run(source)


def calibrate(
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RECORDING", help="Recordings of calm, ordinary speech; without any, listens."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Settings file to write (TOML).")] = ...,  # type: ignore[assignment]
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=1.0, max=600.0, metavar="N", help="Minutes to listen to the source; 5."),
    ] = None,
    stressed: Annotated[
        list[Path] | None,
        typer.Option("--stressed", metavar="FILE", help="Recording of stressed speech: was it found? May be repeated."),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="NAME", help="Name of the source in settings and events.")
    ] = None,
    false_alarms: Annotated[
        float | None,
        typer.Option("--false-alarms-per-hour", metavar="N", help="Budget of false episodes; the settings', or 1."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="PNG", help="Also draw level, stress and thresholds; needs the extra plot."),
    ] = None,
    config: ConfigOption = None,
    model: ModelOption = None,
) -> None:
    """Learns a baseline and chooses thresholds for one place, from minutes of calm speech in it.

    Plays the whole decision over the speech, and writes settings that would have kept to the budget of false alarms.
    At least 60 s of speech are needed. Nothing is written when the speech cannot be used.
    """
    from edge_sser.commands.calibrate import CalibrateRequest, run_calibrate

    request = CalibrateRequest(
        recordings=recordings or [], minutes=minutes, stressed=stressed or [], source=source, out=out, plot=plot
    )
    flags = given_flags(
        ("model.path", "--model", model and str(model)),
        ("rolling.false_alarms_per_hour", "--false-alarms-per-hour", false_alarms),
    )
    run_calibrate(request, load_with_flags(config, flags))
