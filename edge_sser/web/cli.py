"""Command `edge-sser web`: parse, call."""

from __future__ import annotations

from typing import Annotated

import typer

from edge_sser.commands.options import ConfigOption, given_flags, load_with_flags
from edge_sser.errors import need_package


def web(
    config: ConfigOption = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="IP",
            help="Address to serve at; 127.0.0.1 when not given. Any but this machine's own needs a password.",
        ),
    ] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="N", help="Port; 8321 when not given.")] = None,
) -> None:
    """Serves a page with live levels, history, episodes and health (extra: web), until Ctrl-C.

    It reads the history that `listen` writes, see [history] and [web] in the settings.
    """
    for package in ("starlette", "uvicorn"):
        need_package(package, "web", "The web page")
    from edge_sser.web.serve import run_web

    flags = given_flags(("web.address", "--address", address), ("web.port", "--port", port))
    run_web(load_with_flags(config, flags))
