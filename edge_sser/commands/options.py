"""Options that several commands have, and the settings that they change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edge_sser.settings.load import Flag, Loaded

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings file (TOML), in place of the one that is found."),
]
ModelOption = Annotated[
    Path | None,
    typer.Option("--model", metavar="FILE", help="Model: an .onnx file, sser-plus or sser-cnn. Default: sser-plus."),
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help="Backend for the model: engine (a TensorRT engine that export built here), tensorrt, cuda or cpu (ONNX "
        "Runtime), or auto.",
    ),
]
NodeOption = Annotated[str | None, typer.Option("--node", metavar="NAME", help="This device's name in events.")]
ChannelOption = Annotated[
    int | None,
    typer.Option(
        "--channel",
        min=0,
        metavar="N",
        help="Channel to take, from 0; without it their mean, or the best of a microphone's.",
    ),
]


def given_flags(*given: tuple[str, str, Any]) -> dict[str, Flag]:
    """Returns the flags that were given, by settings key.

    Args:
        given: settings key, flag and value of each flag.
    """
    from edge_sser.settings.load import Flag

    return {key: Flag(name, value) for key, name, value in given if value not in (None, [])}


def check_raw_flags(loaded: Loaded, flags: dict[str, Flag]) -> None:
    """Refuses a description of raw PCM where no source has any.

    Raises:
        UsageError: there is one.
    """
    from edge_sser.errors import UsageError
    from edge_sser.settings.names import STANDARD_INPUT

    raw = next((flag.name for key, flag in flags.items() if key.startswith("source.raw_")), None)
    if raw and all(source.device != STANDARD_INPUT for source in loaded.settings.source):
        raise UsageError(
            f"{raw} describes raw PCM on standard input, and is nothing to a recording or microphone: leave it out, or "
            "pipe the sound in and add --source -"
        )


def load_with_flags(config: Path | None, flags: dict[str, Flag]) -> Loaded:
    """Loads the settings; errors as for `load_settings`."""
    from edge_sser.settings.load import load_settings

    return load_settings(config, flags=flags)
