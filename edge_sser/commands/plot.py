"""Plot of a recording: spectrogram, loudness, speech, stress and levels."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE, AudioBlock
from edge_sser.errors import SinkError, UsageError, need_package
from edge_sser.events import Episode, Event, Level, Phase, Reading
from edge_sser.pipeline.features import BLOCK_FRAMES, FEATURES, LogMel, hertz_to_mel
from edge_sser.pipeline.rolling import Thresholds

COLUMN_SECONDS = BLOCK_FRAMES * FEATURES.hop_samples / SAMPLE_RATE  # of the spectrogram: 0.1 s
COLOURS = {Level.LOW: "#4c9f70", Level.ELEVATED: "#e0a030", Level.HIGH: "#c8402f"}
TICKS_HZ = (100, 300, 1000, 2000, 4000, 7000)  # of the spectrogram
SHOWN_DB = 70.0  # range of the spectrogram below its loudest band


def check_plot(path: Path) -> None:
    """Checks that a plot can be written, before an hour is spent on the analysis.

    Raises:
        MissingComponentError: matplotlib is not installed.
        UsageError: the file type is not supported.
        SinkError: there is no such folder.
    """
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise UsageError(f"--plot {path}: expected a name that ends in .png, .pdf or .svg")
    if not path.parent.is_dir():
        raise SinkError(f"--plot {path}: there is no folder {path.parent}: make it first")
    need_package("matplotlib", "plot", "--plot")


class Plot:
    """Collects one recording during its analysis, and draws it.

    Keeps 64 numbers for each 0.1 s, 9 MB an hour, and no audio.
    """

    def __init__(self) -> None:
        self._log_mel = LogMel()
        self._columns: list[NDArray[np.float32]] = []
        self._readings: list[Reading] = []
        self._episodes: dict[str, Episode] = {}

    def push(self, block: AudioBlock, events: Sequence[Event]) -> None:
        """Adds a block and its events."""
        frames = self._log_mel.push(block.samples)
        if frames.size:
            self._columns.append(frames.reshape(-1, BLOCK_FRAMES, FEATURES.bands).mean(axis=1))
        self.add(events)

    def add(self, events: Sequence[Event]) -> None:
        """Adds events without a block, at the end of a recording."""
        for event in events:
            if isinstance(event, Reading):
                self._readings.append(event)
            elif isinstance(event, Episode):
                self._episodes[event.id] = event

    def draw(self, path: Path, title: str, thresholds: Thresholds) -> None:
        """Draws the plot into a file.

        Args:
            path: of the file.
            title: above the plot.
            thresholds: of the levels.

        Raises:
            SinkError: the file cannot be written.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(12, 7), layout="constrained")
        FigureCanvasAgg(figure)  # without a window system, for any matplotlibrc
        sound, loudness, speech, stress = figure.subplots(4, 1, sharex=True, height_ratios=[3, 1, 1, 3])
        figure.suptitle(title, parse_math=False)  # a file name may hold dollars
        self._draw_sound(sound)
        ends = [reading.end_s for reading in self._readings]
        loudness.plot(ends, [reading.dbfs for reading in self._readings], color="#444444")
        loudness.set_ylabel("dBFS")
        ratios = [reading.speech_ratio for reading in self._readings]
        speech.fill_between(ends, ratios, step="pre", color="#6b8fb5")
        speech.set(ylabel="speech", ylim=(0, 1))
        self._draw_stress(stress, thresholds)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Glyph")  # a title in a script that the font lacks
                figure.savefig(path, dpi=120)
        except OSError as error:
            raise SinkError(f"--plot {path}: cannot be written ({error.strerror}): choose another place") from None

    def _draw_sound(self, axes) -> None:  # type: ignore[no-untyped-def]
        mel = np.concatenate(self._columns) if self._columns else np.zeros((1, FEATURES.bands), np.float32)
        top = float(mel.max())
        axes.imshow(
            mel.T,
            origin="lower",
            aspect="auto",
            extent=(0.0, mel.shape[0] * COLUMN_SECONDS, 0, FEATURES.bands),
            vmin=top - SHOWN_DB,
            vmax=top,
            cmap="magma",
        )
        edges = hertz_to_mel(np.array([FEATURES.low_hz, FEATURES.high_hz, *TICKS_HZ]))
        places = (edges[2:] - edges[0]) / (edges[1] - edges[0]) * (
            FEATURES.bands + 1
        ) - 0.5  # as `mel_filters` places bands
        axes.set_yticks(places, [f"{hertz:g}" for hertz in TICKS_HZ])
        axes.set(ylabel="Hz", ylim=(0, FEATURES.bands))

    def _draw_stress(self, axes, thresholds: Thresholds) -> None:  # type: ignore[no-untyped-def]
        nan = float("nan")
        ends = [reading.end_s for reading in self._readings]
        single = [nan if reading.stress is None else reading.stress for reading in self._readings]
        rolling = [nan if reading.stress_rolling is None else reading.stress_rolling for reading in self._readings]
        axes.plot(ends, single, ".", color="#777777", markersize=4, label="one window")
        axes.plot(ends, rolling, color="black", label="rolling")
        # One label above its line and one below: the thresholds may be close together.
        for level, value, side in (
            (Level.ELEVATED, thresholds.elevated, "top"),
            (Level.HIGH, thresholds.high, "bottom"),
        ):
            axes.axhline(value, color=COLOURS[level], lw=1, ls="--")
            axes.annotate(
                f"{level.value} from {value:.2f}",
                (1.0, value),
                xycoords=("axes fraction", "data"),
                ha="right",
                va=side,
                fontsize="small",
                xytext=(-4, 1 if side == "bottom" else -2),
                textcoords="offset points",
            )
        labelled: set[Level] = set()
        for before, reading in zip([None, *self._readings], self._readings, strict=False):
            if reading.level is not None:
                start = reading.start_s if before is None else before.end_s
                label = None if reading.level in labelled else reading.level.value
                labelled.add(reading.level)
                axes.axvspan(start, reading.end_s, color=COLOURS[reading.level], alpha=0.25, lw=0, label=label)
        for episode in self._episodes.values():
            end = episode.end_s if episode.phase is Phase.END else max(ends, default=episode.end_s)
            axes.hlines(1.02, episode.start_s, end, color=COLOURS[episode.level], lw=4)
        axes.set(xlabel="seconds", ylabel="stress", ylim=(0, 1.05))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=5, fontsize="small", frameon=False)
