"""Commands `edge-sser service install | status | uninstall`: parse, call, print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edge_sser.commands.service.layout import Layout
    from edge_sser.commands.service.systemctl import Systemctl

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Runs edge-sser as a service of systemd.")

UserOption = Annotated[
    bool,
    typer.Option("--user", help="A service of your user, for PulseAudio or PipeWire; not of the system."),
]
RootOption = Annotated[
    Path | None, typer.Option("--root", metavar="DIR", help="Work on an image of a device; nothing is started.")
]


@app.command()
def install(
    user: UserOption = False,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings to install (TOML).")] = None,
    mqtt_password: Annotated[
        Path | None, typer.Option("--mqtt-password", metavar="FILE", help="A file with the broker's password to copy.")
    ] = None,
    web: Annotated[bool, typer.Option("--web", help="Also the web page, a service of its own (extra: web).")] = False,
    web_password: Annotated[
        Path | None, typer.Option("--web-password", metavar="FILE", help="A file with the page's password to copy.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Replace settings and password without asking.")] = False,
    root: RootOption = None,
) -> None:
    """Writes unit, settings and password, and starts the service."""
    from edge_sser.commands.service.install import install as run
    from edge_sser.commands.service.layout import running_installation

    def ask(question: str) -> bool:
        if yes:
            return True
        if sys.stdin is not None and sys.stdin.isatty():
            return typer.confirm(question, err=True)
        typer.echo(f"{question} There is no terminal to ask on: kept. --yes replaces it.", err=True)
        return False

    target, systemctl = _layout_and_systemctl(user, root)
    for line in run(
        target,
        running_installation(),
        systemctl,
        config=config,
        password_file=mqtt_password,
        web=web or web_password is not None,
        web_password_file=web_password,
        ask=ask,
    ):
        typer.echo(line)


@app.command()
def status(user: UserOption = False, root: RootOption = None) -> None:
    """Prints the state of the service, and its reason. Exit status 0 when it runs, 1 when it does not."""
    from edge_sser.commands.service.install import status as run

    running, lines = run(*_layout_and_systemctl(user, root))
    for line in lines:
        typer.echo(line)
    raise typer.Exit(0 if running else 1)


@app.command()
def uninstall(
    user: UserOption = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also remove settings, password and events that wait for the broker.")
    ] = False,
    root: RootOption = None,
) -> None:
    """Stops and removes the service; settings, password and state stay."""
    from edge_sser.commands.service.install import uninstall as run

    for line in run(*_layout_and_systemctl(user, root), purge=purge):
        typer.echo(line)


def _layout_and_systemctl(user: bool, root: Path | None) -> tuple[Layout, Systemctl]:
    from edge_sser.commands.service.layout import layout
    from edge_sser.commands.service.systemctl import Systemctl

    return layout(user=user, root=root), Systemctl(user=user)
