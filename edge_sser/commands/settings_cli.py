"""`edge-sser config` and `edge-sser notify`: checks and shows settings, and tests whom they tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_sser.commands.options import ConfigOption, load_with_flags
from edge_sser.errors import EdgeSserError, is_bare

config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Checks and shows settings.")
notify_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Tests notifications ([[notify]]).")


@config_app.command("check")
def config_check(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Settings file (TOML); the one that listen takes.")
    ] = None,
) -> None:
    """Lists the faults of a settings file.

    Without FILE, checks what listen would take, with the environment; with FILE, the file alone.
    """
    from edge_sser.model.card_file import card_of
    from edge_sser.monitor.operating import expected_rule
    from edge_sser.settings.faults import WrongSettingsError
    from edge_sser.settings.file import find_file, places
    from edge_sser.settings.load import load_settings

    path = file or find_file(os.environ)
    try:
        settings = load_settings(path, environ={} if file else os.environ).settings
    except WrongSettingsError as error:
        for fault in error.faults:
            typer.echo(f"edge-sser: error: {fault}", err=True)
        raise typer.Exit(error.exit_status) from None
    model = settings.model.path
    if model is None or is_bare(str(model)) or os.path.exists(model):  # else it is of another device
        expected_rule(settings, card_of(model))
    if path is None:
        where = " or ".join(map(str, places(os.environ)))
        typer.echo(f"no settings file: there is no {where}, and listen takes the defaults and the environment")
        return
    typer.echo(f"{path}: valid{'' if file else ', and what listen takes'}")


@config_app.command("show")
def config_show(config: ConfigOption = None) -> None:
    """Prints the settings in effect, with their origins, as TOML."""
    from edge_sser.model.model import Model
    from edge_sser.monitor.operating import expected_rule
    from edge_sser.settings.show import as_toml

    loaded = load_with_flags(config, {})
    try:
        model = Model.of_settings(loaded.settings.model)
        rule = expected_rule(loaded.settings, model.card)
        outlook = "\n# ".join(filter(None, (rule.outlook, rule.warning)))
    except EdgeSserError as error:
        outlook = f"what to expect is not known: {error}"
    typer.echo(f"# {outlook}\n{as_toml(loaded)}", nl=False)


@config_app.command("schema")
def config_schema() -> None:
    """Prints the JSON Schema of the settings."""
    from edge_sser.settings.schema import Settings

    print_json(Settings.model_json_schema())


@notify_app.command("test")
def notify_test(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Target to test; all of them.")] = None,
    config: ConfigOption = None,
) -> None:
    """Sends one message, marked as a test, to each target."""
    from edge_sser.commands.notify import send_test

    raise typer.Exit(send_test(load_with_flags(config, {}).settings, name))


def print_json(value: Any) -> None:
    """Prints a value as JSON, indented."""
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
