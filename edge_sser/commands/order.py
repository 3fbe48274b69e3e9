"""Order of the commands in the help."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

ORDER = (  # daily use first
    *("listen", "analyze", "devices", "doctor", "history", "web", "calibrate", "baseline"),
    *("config", "service", "notify", "bench", "train", "export", "schema"),
)


class OrderedCommands(TyperGroup):
    """The commands, listed in `ORDER`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Returns the names of the commands."""
        return sorted(super().list_commands(ctx), key=ORDER.index)
