"""A table of utterances as pictures: what to look at before anything is trained on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_sser.errors import SinkError, TrainingError
from edge_sser.pipeline.features import FEATURES
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.labels import LABELS
from edge_sser.train.data.presets import Preset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW_S = FEATURES.window_samples / FEATURES.sample_rate
UNLABELLED = "no emotion"
BY_STRESS = ("not stressed", "stressed")  # in the place of an emotion where a clip has none
MOST_NAMES = 100  # of speakers that can be read beside each other
_STRESSED, _CALM, _LEFT_OUT = "#c8402f", "#4c9f70", "#999999"
_ROW_INCHES, _WIDTH_INCHES = 3.2, 12.0

Panel = Callable[["Axes", Sequence[Utterance]], None]


def draw_table(utterances: Sequence[Utterance], preset: Preset, folder: Path) -> list[Path]:
    """Draws emotions, durations, levels and speakers, each corpus on a row of its own.

    Args:
        utterances: of any number of corpora.
        preset: decides which emotions are drawn as stress.
        folder: where the pictures go; it exists.

    Returns:
        The files.

    Raises:
        SinkError: a picture cannot be written.
    """
    colours = _Colours(preset)
    pages: list[tuple[str, str, Panel]] = [
        ("emotions.png", f"Clips by emotion (red: stress under {preset.name}, grey: left out)", colours.draw_emotions),
        ("durations.png", f"Durations; the window of the model is {WINDOW_S:g} s (dashed)", _draw_durations),
        (
            "levels.png",
            "Level by emotion, else by stress: where the boxes differ, a level meter can tell them apart",
            colours.draw_levels,
        ),
        ("speakers.png", "Clips by speaker, and how many of them are stress", colours.draw_speakers),
    ]
    return [_draw(utterances, folder / name, title, panel) for name, title, panel in pages]


def save(figure: Figure, path: Path) -> Path:
    """Writes a picture.

    Raises:
        SinkError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)  # no window system, whatever the user's matplotlibrc says
    try:
        figure.savefig(path, dpi=100)
    except OSError as error:
        raise SinkError(f"{path}: cannot be written ({error.strerror or error}): choose another folder") from None
    return path


def _draw(utterances: Sequence[Utterance], path: Path, title: str, panel: Panel) -> Path:
    from matplotlib.figure import Figure

    corpora = sorted({utterance.corpus for utterance in utterances})
    figure = Figure(figsize=(_WIDTH_INCHES, 1.0 + _ROW_INCHES * len(corpora)), layout="constrained")
    figure.suptitle(title)
    for corpus, axes in zip(corpora, np.ravel(figure.subplots(len(corpora), 1, squeeze=False)), strict=True):
        rows = [utterance for utterance in utterances if utterance.corpus == corpus]
        hours = sum(row.duration_s for row in rows) / 3600
        axes.set_title(f"{corpus}: {len(rows)} clips, {hours:.2f} h", loc="left", fontsize="medium")
        panel(axes, rows)
    return save(figure, path)


def _draw_durations(axes: Axes, rows: Sequence[Utterance]) -> None:
    seconds = [row.duration_s for row in rows]
    bins = np.arange(0.0, max(*seconds, WINDOW_S) + 0.2, 0.1).tolist()
    axes.hist(seconds, bins=bins, color="#4a6fa5")
    axes.axvline(WINDOW_S, color="black", linestyle="dashed")
    shorter = np.mean(np.array(seconds) < WINDOW_S)
    axes.set(xlabel=f"seconds; {100 * shorter:.0f} % are shorter than the window", ylabel="clips")


class _Colours:
    """Panels whose colours say what is stress under a preset."""

    def __init__(self, preset: Preset) -> None:
        self._preset = preset

    def draw_emotions(self, axes: Axes, rows: Sequence[Utterance]) -> None:
        count = Counter(self._name(row) for row in rows)
        names = _ordered(count)
        bars = axes.bar(names, [count[name] for name in names], color=[self._colour(name, rows) for name in names])
        axes.bar_label(bars)
        axes.margins(y=0.12)
        known = [value for value in map(self._preset.stress, rows) if value is not None]
        mean = f"mean stress {np.mean(known):.3f} over {len(known)} clips" if known else "no clip has a stress label"
        axes.set(ylabel="clips", xlabel=mean)

    def draw_levels(self, axes: Axes, rows: Sequence[Utterance]) -> None:
        known = [row for row in rows if row.level_dbfs is not None]
        if not known:
            raise TrainingError("the table has no levels, an older version wrote it: make it again with train index")
        names = _ordered(Counter(self._name(row) for row in known))
        levels = [[float(row.level_dbfs or 0.0) for row in known if self._name(row) == name] for name in names]
        boxes = axes.boxplot(levels, patch_artist=True, flierprops={"markersize": 2}, medianprops={"color": "black"})
        for box, name in zip(boxes["boxes"], names, strict=True):
            box.set_facecolor(self._colour(name, known))
        axes.set_xticks(range(1, len(names) + 1), names)
        axes.set(ylabel="dBFS")
        axes.grid(axis="y", alpha=0.3)

    def draw_speakers(self, axes: Axes, rows: Sequence[Utterance]) -> None:
        speakers = sorted({row.speaker for row in rows}, key=lambda name: (_fold(rows, name), name))
        total = Counter(row.speaker for row in rows)
        stressed = Counter(row.speaker for row in rows if (self._preset.stress(row) or 0.0) >= 0.5)
        places = range(len(speakers))
        axes.bar(places, [total[name] for name in speakers], color=_CALM, label="all")
        axes.bar(places, [stressed[name] for name in speakers], color=_STRESSED, label="stress")
        for place in places[1:]:
            if _fold(rows, speakers[place]) != _fold(rows, speakers[place - 1]):
                axes.axvline(place - 0.5, color="black", linewidth=0.8)
        sex = {row.speaker: row.sex for row in rows}
        labels = [f"{name[:8]} {sex[name]}".strip() for name in speakers]
        if len(speakers) <= MOST_NAMES:
            axes.set_xticks(places, labels, rotation=90, fontsize="x-small" if len(speakers) > 30 else "small")
        axes.set(ylabel="clips", xlabel="speaker and sex; lines part the folds")
        axes.margins(x=0.01)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    def _name(self, row: Utterance) -> str:
        """The clip's emotion, or where there is none whether it is stressed."""
        decision = self._preset.decision(row)
        return row.emotion or (UNLABELLED if decision is None else BY_STRESS[decision])

    def _colour(self, emotion: str, rows: Sequence[Utterance]) -> str:
        """By the mean stress of the clips of an emotion, since soft labels and given stress count before its name."""
        values = [self._preset.stress(row) for row in rows if self._name(row) == emotion]
        known = [value for value in values if value is not None]
        if not known:
            return _LEFT_OUT
        return _STRESSED if np.mean(known) >= 0.5 else _CALM


def _ordered(names: Counter[str]) -> list[str]:
    return [name for name in (*LABELS, *BY_STRESS, UNLABELLED) if name in names]


def _fold(rows: Sequence[Utterance], speaker: str) -> int:
    return next(row.fold for row in rows if row.speaker == speaker)
