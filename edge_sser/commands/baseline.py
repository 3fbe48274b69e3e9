"""`edge-sser baseline`: learns, shows and removes the baselines of sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import typer

from edge_sser.commands.scored import (
    check_baseline_used,
    check_calm,
    check_writable,
    evidence,
    find_source,
    score_live,
    score_recordings,
)
from edge_sser.errors import EdgeSserError, UsageError
from edge_sser.model.model import Model
from edge_sser.monitor.baselines import baseline_path, load_baseline, remove_baseline, save_baseline, saved_names
from edge_sser.pipeline.baseline import READY_SECONDS, Baseline
from edge_sser.settings.load import Loaded
from edge_sser.settings.names import source_name

DEFAULT_SECONDS: Final = 60.0


def learn(loaded: Loaded, name: str | None, recordings: Sequence[Path], seconds: float | None) -> None:
    """Learns the baseline of a source from calm speech, and saves it.

    Args:
        loaded: settings.
        name: of the source; None for the only one of the settings.
        recordings: of the source; empty to listen to it.
        seconds: to listen; None for the default.

    Raises:
        EdgeSserError: wrong arguments, or speech that cannot be used. The baseline from before stays then.
    """
    if recordings and seconds is not None:
        raise UsageError("--seconds is for listening to a source: leave it out, or leave out --recording")
    settings = loaded.settings
    check_baseline_used(settings)
    source = find_source(loaded, name, recordings)
    check_writable(baseline_path(source_name(source)))
    model = Model.of_settings(settings.model)
    if recordings:
        materials = score_recordings(recordings, model, settings, source.channel)
    else:
        materials = [score_live(source, DEFAULT_SECONDS if seconds is None else seconds, model, settings)]
    check_calm(materials, READY_SECONDS)
    baseline = Baseline()
    baseline.declare(*evidence(materials))
    path = save_baseline(source_name(source), model.label, baseline)
    speech = sum(material.speech_seconds for material in materials)
    typer.echo(
        f"{source_name(source)}: shift {baseline.shift:+.2f} from {speech:.0f} s of calm speech, saved in {path}"
    )


def show(name: str | None) -> int:
    """Prints a table of baselines. Returns the exit status: 1 when a file is damaged, after the others.

    Args:
        name: of one source; None for all.

    Raises:
        UsageError: there is no baseline of that name.
    """
    names = _named(name) if name is not None else saved_names()
    rows = [("source", "model", "shift", "speech", "date", "kind")]
    failures = []
    for each in names:
        try:
            saved = load_baseline(each)
        except EdgeSserError as error:
            failures.append(error)
            continue
        baseline = saved.baseline
        kind = "declared" if baseline.declared else "learned"
        rows.append(
            (each, saved.model, f"{baseline.shift:+.2f}", f"{baseline.heard_seconds:.0f} s", saved.updated, kind)
        )
    if len(rows) == 1 and not failures:
        typer.echo("no baseline is saved yet: edge-sser baseline learn, or listen for a minute of speech")
        return 0
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    for failure in failures:
        typer.echo(f"edge-sser: error: {failure}", err=True)
    return EdgeSserError.exit_status if failures else 0


def reset(name: str | None) -> None:
    """Removes the baseline of a source, also a damaged one.

    Args:
        name: of the source; None for the only one that is saved.

    Raises:
        UsageError: there is no such baseline, or none is named of several.
    """
    (removed,) = _named(name)
    remove_baseline(removed)
    typer.echo(f"{removed}: the baseline is removed, and is learned again while listening")


def _named(name: str | None) -> list[str]:
    names = saved_names()
    if name is None and len(names) == 1:
        return names
    if name is None and not names:
        raise UsageError("there is no baseline to remove: none is saved")
    if name not in names:
        known = f": there are those of {', '.join(names)}" if names else ": none is saved"
        raise UsageError((f"there is no baseline of {name}" if name is not None else "name one source") + known)
    return [name]
