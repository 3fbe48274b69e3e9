"""The commands: parse, call, print.

A command's modules are imported when the command is called, so that `--help` is quick and `listen` never imports torch.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from edge_sser import __version__
from edge_sser.commands.archive.options import DaskOption, OutOption, RecursiveOption, TimesOption
from edge_sser.commands.calibration_cli import baseline_app, calibrate
from edge_sser.commands.history.cli import app as history_app
from edge_sser.commands.options import (
    ChannelOption,
    ConfigOption,
    ModelOption,
    NodeOption,
    RuntimeOption,
    check_raw_flags,
    given_flags,
    load_with_flags,
)
from edge_sser.commands.order import OrderedCommands
from edge_sser.commands.service.cli import app as service_app
from edge_sser.commands.settings_cli import config_app, notify_app, print_json
from edge_sser.errors import ModelError, UsageError, missing_extra, run_command, run_program
from edge_sser.web.cli import web

NOTICE = (
    "The model was trained on acted emotion. It says how stressed speech sounds, not how a person is: this is not a "
    "medical device, and it does not detect lies."
)
VERSION_TEXT = (
    f"edge-sser {__version__}\n"
    "code: Apache-2.0\n"
    "weights that ship: CC BY-NC-SA 4.0, not for commercial use (the licence of the corpora they were trained on)"
)

app = typer.Typer(
    cls=OrderedCommands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    help=f"How stressed speech sounds: a microphone in, rolling levels out.\n\n{NOTICE}",
)
app.add_typer(notify_app, name="notify", short_help="Sends test notifications.")
app.add_typer(config_app, name="config")
app.add_typer(service_app, name="service")
app.add_typer(baseline_app, name="baseline", short_help="Learns, shows and removes baselines of calm speech.")
app.add_typer(history_app, name="history", short_help="Shows levels, episodes and health of the past.")


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo("\n".join([VERSION_TEXT, *_models_that_ship()]))
        raise typer.Exit


def _models_that_ship() -> Iterator[str]:
    """Yields name, version and licences of each model, as its card has them; of a damaged file, what is wrong."""
    from edge_sser.model.card_file import card_of
    from edge_sser.model.shipped import MODELS

    for model in MODELS.values():
        try:
            card = card_of(model.int8)
        except ModelError as error:
            yield str(error)
        else:
            yield f"{card.name} {card.version}: {card.licence}"


VersionOption = Annotated[
    bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print version and licences.")
]


@app.callback()
def _root(context: typer.Context, version: VersionOption = False) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(UsageError.exit_status)


@app.command(epilog=NOTICE)
def listen(
    source: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            metavar="mic|mic:ID|FILE|-",
            help="Source of the audio: the default microphone, another one (see `edge-sser devices`), a recording, "
            "or raw PCM on standard input. May be repeated.",
        ),
    ] = None,
    config: ConfigOption = None,
    model: ModelOption = None,
    runtime: RuntimeOption = None,
    node: NodeOption = None,
    mqtt: Annotated[
        str | None,
        typer.Option(
            "--mqtt",
            metavar="URL",
            help="Broker to publish to as well: mqtts://USER@HOST:PORT. The password stands in a file or credential, "
            "never here.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="jsonl, text, or auto (the default): a live view on a terminal, JSON Lines when it is not one.",
        ),
    ] = None,
    channel: ChannelOption = None,
    raw_rate: Annotated[
        int | None, typer.Option("--raw-rate", metavar="HZ", help="Rate of raw PCM; else 16000.")
    ] = None,
    raw_channels: Annotated[
        int | None,
        typer.Option("--raw-channels", metavar="N", help="Interleaved channels of raw PCM; else 1."),
    ] = None,
    raw_format: Annotated[
        str | None,
        typer.Option("--raw-format", metavar="CODING", help="Of raw PCM: s16le (default), s32le or f32le."),
    ] = None,
    pace: Annotated[
        bool, typer.Option("--pace/--no-pace", help="Play a recording in real time, or as fast as it goes.")
    ] = True,
    log_level: Annotated[
        str, typer.Option("--log-level", metavar="LEVEL", help="On standard error: debug, info, warning or error.")
    ] = "warning",
    version: VersionOption = False,
) -> None:
    """Listens until Ctrl-C: a live view, or JSON Lines in a pipe.

    Each reading describes the last 3 s, every half second. At the end of a recording or pipe it ends by itself.
    """
    from edge_sser.daemon.listen import default_interrupt, run_listen

    flags = given_flags(
        ("source.device", "--source", source),
        ("source.channel", "--channel", channel),
        ("source.raw_rate_hz", "--raw-rate", raw_rate),
        ("source.raw_channels", "--raw-channels", raw_channels),
        ("source.raw_format", "--raw-format", raw_format),
        ("model.path", "--model", model and str(model)),
        ("model.runtime", "--runtime", runtime),
        ("node", "--node", node),
        ("mqtt.url", "--mqtt", mqtt),
        ("output.format", "--format", output),
    )
    with default_interrupt():
        loaded = load_with_flags(config, flags)
    check_raw_flags(loaded, flags)
    file = loaded.path
    load = None if file is None else lambda: load_with_flags(file, flags).settings
    raise typer.Exit(run_listen(loaded.settings, paced=pace, log_level=log_level, load=load))


@app.command(epilog=NOTICE)
def analyze(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Recordings, in any format; with --out also folders."),
    ],
    config: ConfigOption = None,
    model: ModelOption = None,
    runtime: RuntimeOption = None,
    node: NodeOption = None,
    output: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="jsonl (readings and episodes), csv (readings), text (a summary), or auto: text on a terminal, jsonl "
            "elsewhere.",
        ),
    ] = "auto",
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="PNG", help="Also draw sound, speech, stress and levels; needs the extra plot."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Recordings analysed at a time.")] = 1,
    channel: ChannelOption = None,
    out: OutOption = None,
    recursive: RecursiveOption = False,
    times: TimesOption = None,
    dask: DaskOption = None,
) -> None:
    """Analyses recordings, faster than real time.

    The readings and episodes are those that `listen` would give.
    """
    from edge_sser.commands.analyze import run_analyze

    flags = given_flags(
        ("model.path", "--model", model and str(model)),
        ("model.runtime", "--runtime", runtime),
        ("node", "--node", node),
    )
    settings = load_with_flags(config, flags).settings
    if out is not None or recursive or times or dask:
        from edge_sser.commands.archive.run import archive_request, run_archive

        request = archive_request(files, recursive, out, jobs, dask, channel, times, form=output, plot=plot)
        raise typer.Exit(run_archive(request, settings))
    raise typer.Exit(run_analyze(files, settings=settings, form=output, plot=plot, jobs=jobs, channel=channel))


app.command(epilog=NOTICE, short_help="Learns the calm voice of a place, and chooses thresholds.")(calibrate)


@app.command()
def devices(
    level: Annotated[bool, typer.Option("--level/--no-level", help="Listen to each for a second.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a microphone.")] = False,
) -> None:
    """Lists microphones, their ids, and their sound level."""
    from edge_sser.commands.devices import print_devices

    raise typer.Exit(print_devices(level=level, as_json=as_json))


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    help="Makes models: index, fit, evaluate (extra: train).",
)
def train(context: typer.Context) -> None:
    """Runs the commands of training, which are imported only now."""
    _run_extra("edge_sser.train.cli", "train", "Training", context.args)


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    help="Turns a checkpoint into a model file (extra: export).",
)
def export(context: typer.Context) -> None:
    """Runs the commands of export, which are imported only now."""
    _run_extra("edge_sser.export.cli", "export", "Export", context.args)


@app.command()
def bench(
    models: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL", help="Model files; the default one when none is given.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", hidden=True)] = False,  # of version 0.1
    as_json: Annotated[bool, typer.Option("--json", help="Figures as JSON.")] = False,
    runtime: RuntimeOption = None,
) -> None:
    """Measures the cost of a model on this machine."""
    from edge_sser.commands.bench import print_bench

    if quick:
        typer.echo("edge-sser: warning: bench is always quick, so --quick has no effect and will go", err=True)
    print_bench(models or [], as_json=as_json, runtime=runtime or "auto")


@app.command()
def doctor(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array.")] = False,
    passive: Annotated[
        bool, typer.Option("--passive", help="Leave out checks that open a microphone or a connection.")
    ] = False,
) -> None:
    """Checks this machine, and names a remedy for each fault."""
    from edge_sser.commands.doctor.checkup import print_checks

    raise typer.Exit(print_checks(config, as_json=as_json, passive=passive))


app.command(short_help="Serves a page with live levels and history (extra: web).")(web)


@app.command()
def schema() -> None:
    """Prints the JSON Schema of the events."""
    from edge_sser.events import json_schema

    print_json(json_schema())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status. An error that a user can cause is one line on standard error.

    Args:
        arguments: those of the process when None.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump of memory would hold sound
    return run_program(app, sys.argv[1:] if arguments is None else arguments)


def _run_extra(module: str, command: str, purpose: str, arguments: Sequence[str]) -> None:
    """Runs the commands of a package that needs an extra of its own."""
    from importlib import import_module

    try:
        status = run_command(import_module(module).app, f"edge-sser {command}", arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "edge_sser"):
            raise
        raise missing_extra(package, command, purpose) from None
    raise typer.Exit(status)


if __name__ == "__main__":
    sys.exit(main())
