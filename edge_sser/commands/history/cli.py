"""Command `edge-sser history`: parse and call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edge_sser.commands.options import ConfigOption, load_with_flags

app = typer.Typer(
    rich_markup_mode=None,
    invoke_without_command=True,
    help="Shows levels, episodes and health of the past: today, unless told otherwise.\n\nMoments are local time: now, "
    'today, yesterday, monday, "2 hours ago", 14:30, 2026-11-28, "2026-11-28 14:30". A day is its first moment.',
)

SinceOption = Annotated[str | None, typer.Option("--since", metavar="MOMENT", help="Begin of the range; else today.")]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="MOMENT", help="End of the range; else now.")]
DayOption = Annotated[str | None, typer.Option("--day", metavar="DAY", help="A whole day, as yesterday.")]
SourceOption = Annotated[str | None, typer.Option("--source", metavar="NAME", help="Of one source only.")]
FormatOption = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help="table, jsonl, csv or parquet (extra: parquet).")
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="File to write, not standard output.")]
FileOption = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help="History file in place of the settings'.")
]


@app.callback()
def history(
    context: typer.Context,
    since: SinceOption = None,
    until: UntilOption = None,
    day: DayOption = None,
    source: SourceOption = None,
    level: Annotated[
        str | None,
        typer.Option("--level", metavar="LEVEL", help="Lowest level of episodes and minutes: elevated or high."),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="KIND",
            help="minutes, episodes or health; in jsonl also readings, or all with their type.",
        ),
    ] = None,
    form: FormatOption = "table",
    out: OutOption = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw the range; needs the extra plot.")
    ] = None,
    file: FileOption = None,
    config: ConfigOption = None,
) -> None:
    """Shows a range of the history."""
    if context.invoked_subcommand is not None:
        return
    from edge_sser.commands.history.run import HistoryRequest, show_history

    show_history(_file(file, config), HistoryRequest(since, until, day, source, level, rows, form, out, plot))


@app.command()
def summary(
    by: Annotated[str, typer.Option("--by", metavar="UNIT", help="hour or day.")] = "hour",
    since: SinceOption = None,
    until: UntilOption = None,
    day: DayOption = None,
    source: SourceOption = None,
    form: FormatOption = "table",
    out: OutOption = None,
    file: FileOption = None,
    config: ConfigOption = None,
) -> None:
    """Sums up each hour or day: time listened, speech, levels, episodes."""
    from edge_sser.commands.history.run import HistoryRequest, show_summary

    request = HistoryRequest(since=since, until=until, day=day, source=source, form=form, out=out)
    show_summary(_file(file, config), request, by)


def _file(file: Path | None, config: Path | None) -> Any:
    if file is not None:
        return file
    from edge_sser.history.place import existing_history

    return existing_history(load_with_flags(config, {}))
