"""Pictures of a table of utterances and of a recording, to look at before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, signal

from edge_sser.errors import SinkError, SourceError, TrainingError
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.pipeline.level import dbfs
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import LABELS, Preset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW_S = FEATURES.window_samples / FEATURES.sample_rate
UNLABELLED = "no emotion"
BY_STRESS = ("not stressed", "stressed")  # groups of clips without an emotion
MOST_NAMES = 100  # speakers whose names fit side by side
_STRESSED, _CALM, _LEFT_OUT = "#c8402f", "#4c9f70", "#999999"
_ROW_INCHES, _WIDTH_INCHES = 3.2, 12.0

Panel = Callable[["Axes", Sequence[Utterance]], None]


def draw_table(utterances: Sequence[Utterance], preset: Preset, folder: Path) -> list[Path]:
    """Draws emotions, durations, levels and speakers, one row a corpus, into an existing folder. Returns the files.

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
    """Panels coloured by stress under a preset."""

    def __init__(self, preset: Preset) -> None:
        self._preset = preset

    def draw_emotions(self, axes: Axes, rows: Sequence[Utterance]) -> None:
        count = Counter(self._name(row) for row in rows)
        names = _in_order(count)
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
        names = _in_order(Counter(self._name(row) for row in known))
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
        positions = range(len(speakers))
        axes.bar(positions, [total[name] for name in speakers], color=_CALM, label="all")
        axes.bar(positions, [stressed[name] for name in speakers], color=_STRESSED, label="stress")
        for position in positions[1:]:
            if _fold(rows, speakers[position]) != _fold(rows, speakers[position - 1]):
                axes.axvline(position - 0.5, color="black", linewidth=0.8)
        sex = {row.speaker: row.sex for row in rows}
        labels = [f"{name[:8]} {sex[name]}".strip() for name in speakers]
        if len(speakers) <= MOST_NAMES:
            axes.set_xticks(positions, labels, rotation=90, fontsize="x-small" if len(speakers) > 30 else "small")
        axes.set(ylabel="clips", xlabel="speaker and sex; lines part the folds")
        axes.margins(x=0.01)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    def _name(self, row: Utterance) -> str:
        """Returns the emotion of a clip, or its stress class without an emotion."""
        decision = self._preset.decision(row)
        return row.emotion or (UNLABELLED if decision is None else BY_STRESS[decision])

    def _colour(self, emotion: str, rows: Sequence[Utterance]) -> str:
        """Returns the colour of an emotion by the mean stress of its clips."""
        values = [self._preset.stress(row) for row in rows if self._name(row) == emotion]
        known = [value for value in values if value is not None]
        if not known:
            return _LEFT_OUT
        return _STRESSED if np.mean(known) >= 0.5 else _CALM


def _in_order(names: Counter[str]) -> list[str]:
    return [name for name in (*LABELS, *BY_STRESS, UNLABELLED) if name in names]


def _fold(rows: Sequence[Utterance], speaker: str) -> int:
    return next(row.fold for row in rows if row.speaker == speaker)


RATE = FEATURES.sample_rate
COEFFICIENTS = 13
CHROMA_FRAME = 2048  # samples: 7.8 Hz a bin, below a semitone from 130 Hz on
CHROMA_HZ = (130.0, 2_000.0)  # where pitch and its first harmonics are
PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_SHOWN_DB = 80.0  # from the loudest value down

Array = NDArray[np.floating[Any]]


def spectrogram_db(samples: Array) -> Array:
    """Returns power spectra of the frames of the features: [bins, frames], dB."""
    transform = signal.ShortTimeFFT(
        np.hanning(FEATURES.frame_samples), FEATURES.hop_samples, RATE, mfft=FEATURES.n_fft, scale_to="magnitude"
    )
    power = transform.spectrogram(samples, p0=0, p1=samples.size // FEATURES.hop_samples + 1)
    return np.asarray(10.0 * np.log10(np.maximum(power, 1e-12)))


def mfcc(features: Array, coefficients: int = COEFFICIENTS) -> Array:
    """Returns mel-frequency cepstral coefficients [coefficients, frames] of log-mel [frames, bands], dB.

    Coefficient 0, the level, is one of them.
    """
    return np.asarray(fft.dct(features, type=2, norm="ortho", axis=1)[:, :coefficients].T)


def chroma(samples: Array) -> Array:
    """Returns the power in each pitch class over all octaves: [12, frames], relative to the loudest."""
    transform = signal.ShortTimeFFT(np.hanning(CHROMA_FRAME), CHROMA_FRAME // 4, RATE, scale_to="magnitude")
    power = transform.spectrogram(samples, p0=0, p1=samples.size // transform.hop + 1)
    hertz = transform.f
    inside = (hertz >= CHROMA_HZ[0]) & (hertz <= CHROMA_HZ[1])
    pitch = np.round(69 + 12 * np.log2(hertz[inside] / 440.0)).astype(int) % 12  # MIDI: A4 is 69, C is 0 modulo 12
    folded = np.stack([power[inside][pitch == number].sum(axis=0) for number in range(12)])
    return np.asarray(folded / np.maximum(folded.max(axis=0), 1e-12))


def draw_clip(recording: Path, folder: Path) -> Path:
    """Draws a recording into `NAME.png` of an existing folder, as training hears it: 16 kHz mono.

    Raises:
        SourceError: the recording cannot be read, or holds less than one frame.
        SinkError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    samples = read_audio(recording)
    if samples.size < CHROMA_FRAME:
        raise SourceError(f"{recording}: {samples.size / RATE:.3f} s long, too short to draw: give 0.13 s or more")
    seconds = samples.size / RATE
    features = log_mel(samples)
    figure = Figure(figsize=(12, 13), layout="constrained")
    wave, *others = figure.subplots(5, 1, sharex=True)
    level = dbfs(float(np.mean(samples.astype(np.float64) ** 2)))
    figure.suptitle(f"{recording.name}: {seconds:.2f} s, {level:.1f} dBFS")
    wave.plot(np.arange(samples.size) / RATE, samples, linewidth=0.5, color="#4a6fa5")
    peak = max(float(np.abs(samples).max()), 1e-4)
    wave.set(ylabel="waveform", ylim=(-peak, peak), xlim=(0.0, seconds))
    spectrogram = spectrogram_db(samples)
    pictures: list[tuple[str, Array, tuple[float, float], tuple[float, float]]] = [
        ("spectrogram, Hz", spectrogram, (0.0, RATE / 2), (spectrogram.max() - _SHOWN_DB, spectrogram.max())),
        ("log-mel, band", features.T, (0, FEATURES.bands), (features.max() - _SHOWN_DB, features.max())),
        # without coefficient 0, the level, which hides the rest
        ("MFCC 1 to 12", mfcc(features)[1:], (0.5, COEFFICIENTS - 0.5), (-60.0, 60.0)),
        ("chroma", chroma(samples), (-0.5, 11.5), (0.0, 1.0)),
    ]
    for axes, (name, values, heights, colours) in zip(others, pictures, strict=True):
        image = axes.imshow(
            values, origin="lower", aspect="auto", extent=(0.0, seconds, *heights), vmin=colours[0], vmax=colours[1]
        )
        axes.set(ylabel=name)
        figure.colorbar(image, ax=axes, pad=0.01)
    others[-1].set_yticks(range(12), PITCH_CLASSES)
    others[-1].set(xlabel="seconds")
    return save(figure, folder / f"{recording.stem}.png")
