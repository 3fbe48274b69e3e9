"""Plot of the history: stress by the minute or hour, and episodes, one panel for each source."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Final

from edge_sser.commands.history.overview import range_text
from edge_sser.commands.plot import COLOURS
from edge_sser.errors import SinkError
from edge_sser.events import Level
from edge_sser.files import atomic_replace
from edge_sser.history.reader import EpisodeRow, Minute

STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440)  # minutes that one bar stands for
MAX_BARS: Final = 800  # about one for a pixel
MIN_EPISODE: Final = 1 / 300  # of the range: a shorter episode would not be seen
GAP_SECONDS: Final = 300  # without minutes: nobody listened


def draw_history(
    path: Path, minutes: Sequence[Minute], episodes: Sequence[EpisodeRow], since: float, until: float
) -> None:
    """Draws the plot into a file, whose suffix names the format. Times are local.

    Args:
        path: of the plot.
        minutes: by source and time; at least one.
        episodes: drawn above the curves.
        since: begin of the range, unix seconds.
        until: end of the range, likewise.

    Raises:
        SinkError: the file cannot be written.
    """
    from matplotlib import dates
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sources = [list(own) for _, own in groupby(minutes, key=_name)]
    figure = Figure(figsize=(12, 1.2 + 2.2 * len(sources)), layout="constrained")
    FigureCanvasAgg(figure)  # without a window system, for any matplotlibrc
    panels: list[Any] = list(figure.subplots(len(sources), 1, sharex=True, squeeze=False)[:, 0])
    figure.suptitle(range_text(since, until), parse_math=False)
    for axes, own in zip(panels, sources, strict=True):
        _draw_source(axes, own, since, until)
        _draw_episodes(axes, [each for each in episodes if _name(each) == _name(own[0])], since, until)
    zone = datetime.fromtimestamp(since).astimezone().tzinfo
    locator = dates.AutoDateLocator(tz=zone)  # type: ignore[no-untyped-call]
    formatter = dates.ConciseDateFormatter(locator, tz=zone, show_offset=False)  # type: ignore[no-untyped-call]
    formatter.formats[:3] = ["%Y", "%b %Y", "%a %d %b"]
    formatter.zero_formats[1:4] = ["%b %Y", "%a %d %b", "%a %d %b"]
    panels[-1].xaxis.set_major_locator(locator)
    panels[-1].xaxis.set_major_formatter(formatter)
    panels[-1].set_xlim(_time(since), _time(until))
    figure.legend(handles=_legend(), loc="outside lower center", ncols=6, fontsize="small", frameon=False)
    with atomic_replace(path, SinkError) as temporary:
        figure.savefig(temporary, dpi=120, format=path.suffix.lower().removeprefix("."))


def _draw_source(axes: Any, minutes: Sequence[Minute], since: float, until: float) -> None:
    step = 60 * next((step for step in STEPS if (until - since) / 60 / step <= MAX_BARS), STEPS[-1])
    heard = [since, *(each.minute for each in minutes), until]
    for before, after in pairwise(heard):
        if after - before > GAP_SECONDS:
            axes.axvspan(_time(before), _time(after), color="#dddddd", lw=0)
    times, means = [], []
    for start, group in groupby(minutes, key=lambda each: each.minute // step * step):
        own = [each for each in group if each.mean is not None and each.max is not None]
        times.append(_time(start + step / 2))
        means.append(sum(each.mean or 0.0 for each in own) / len(own) if own else float("nan"))
        if own:
            highest = max(own, key=lambda each: (each.level or Level.LOW).rank)
            top = max(each.max or 0.0 for each in own)
            colour = COLOURS[highest.level or Level.LOW]
            axes.bar(_time(start), top, width=step / 86_400, align="edge", color=colour, alpha=0.5, lw=0)
    axes.plot(times, means, color="black", lw=0.8)
    axes.set(ylim=(0, 1.1), ylabel=minutes[0].source)


def _draw_episodes(axes: Any, episodes: Sequence[EpisodeRow], since: float, until: float) -> None:
    for episode in episodes:
        end = episode.started + max(episode.duration_s, (until - since) * MIN_EPISODE)
        axes.hlines(1.04, _time(episode.started), _time(end), color=COLOURS[episode.level], lw=5)


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color="black", label="mean rolling stress")]
    handles += [Patch(color=COLOURS[level], alpha=0.5, label=f"highest: {level.value}") for level in Level]
    handles.append(Line2D([], [], color=COLOURS[Level.HIGH], lw=5, label="episode"))
    handles.append(Patch(color="#dddddd", label="nobody listened"))
    return handles


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds).astimezone()


def _name(row: Minute | EpisodeRow) -> tuple[str, str]:
    return row.node, row.source
