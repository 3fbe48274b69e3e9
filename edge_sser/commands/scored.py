"""Windows of recordings and microphones with their scores: the material of baselines and calibration."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.file import FileSource
from edge_sser.audio.open import is_recording, open_source
from edge_sser.audio.source import SAMPLE_RATE, Source
from edge_sser.commands.progress import progress
from edge_sser.errors import SettingsError, SinkError, SourceError, UsageError
from edge_sser.model.model import Model, Score
from edge_sser.monitor.judge import min_speech_ratio
from edge_sser.pipeline.baseline import CALM_LIMIT
from edge_sser.pipeline.calm_level import POPULATION
from edge_sser.pipeline.windows import Windower
from edge_sser.settings.load import DEFAULT_ORIGIN, DEVICE, SOURCE, Loaded
from edge_sser.settings.names import slug, source_name
from edge_sser.settings.schema import BaselineMode, Settings, SourceSettings

SILENT_DBFS: Final = -60.0  # loudest window of a recording in which nobody speaks into the microphone
# Median range of loudness within scored windows. Speech has 30 dB, in noise of 5 dB SNR still 14; music mostly below 9.
LEAST_RANGE_DB: Final = 11.0


@dataclass(frozen=True, slots=True)
class ScoredWindow:
    """One window.

    Attributes:
        end: stream time of its end, samples.
        dbfs: level.
        speech_seconds: speech in the window's hop: the hop times the window's share of speech.
        score: of the model; None without enough speech.
        range_db: between the loudness that a tenth of the frames do not reach, and that a tenth exceed.
    """

    end: int
    dbfs: float
    speech_seconds: float
    score: Score | None
    range_db: float


@dataclass(frozen=True, slots=True)
class Material:
    """Windows of one stream.

    Attributes:
        name: of the recording or source, for messages.
        samples: length of the stream.
        windows: in order.
    """

    name: str
    samples: int
    windows: Sequence[ScoredWindow]

    @property
    def seconds(self) -> float:
        """Length of the stream."""
        return self.samples / SAMPLE_RATE

    @property
    def speech_seconds(self) -> float:
        """Speech in the scored windows, each second counted once."""
        return sum(window.speech_seconds for window in self.windows if window.score is not None)


def find_source(loaded: Loaded, name: str | None, recordings: Sequence[Path]) -> SourceSettings:
    """Returns the source that a baseline belongs to.

    Args:
        loaded: settings.
        name: of the source; None for the only one of the settings, or for a name made from the first recording.
        recordings: of the source; empty for live audio.

    Raises:
        UsageError: there is no such source, or the settings have several and none is named.
    """
    sources = loaded.settings.source
    if loaded.origin(SOURCE) == loaded.origin(DEVICE) == DEFAULT_ORIGIN:  # no settings name a source
        if name is None and recordings:
            name = slug(recordings[0].stem, "recording")
        if name is not None and name != slug(name, ""):
            raise UsageError(f"source {name}: expected lower-case letters, digits, - and _: try {slug(name, 'desk')}")
        return sources[0].model_copy(update={"name": name or source_name(sources[0])})
    names = [source_name(source) for source in sources]
    if name is None and len(sources) == 1:
        name = names[0]
    if name not in names:
        problem = "several sources: name one" if name is None else f"no source {name}: it has"
        raise UsageError(f"the settings have {problem} of {', '.join(names)}")
    return sources[names.index(name)].model_copy(update={"name": name})


def check_baseline_used(settings: Settings) -> None:
    """Checks that `listen` would use a baseline with these settings.

    Raises:
        SettingsError: the settings turn baselines off.
    """
    if settings.baseline.mode is BaselineMode.OFF:
        raise SettingsError('baseline.mode is "off", so that no baseline would be used: set it to "adaptive"')
    if settings.rolling.time_constant_seconds is not None:
        raise SettingsError(
            "rolling.time_constant_seconds selects an average, which has no baseline: remove it from the settings"
        )


def check_writable(path: Path) -> None:
    """Checks that a file can be written, before minutes are spent on its content.

    Raises:
        SinkError: its folder belongs to another user.
    """
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not os.access(folder, os.W_OK):
        raise SinkError(f"{path}: cannot be written: the folder {folder} belongs to another user")


def score_recordings(
    recordings: Sequence[Path], model: Model, settings: Settings, channel: int | None
) -> list[Material]:
    """Scores whole recordings.

    Args:
        recordings: files.
        model: to score with.
        settings: of gate and window.
        channel: to take, from 0; None for the average of all.

    Raises:
        SourceError: a recording cannot be read, or breaks off.
    """
    out = []
    for path in recordings:
        with closing(FileSource(path, name=slug(path.stem, "recording"), channel=channel)) as source:
            out.append(_score(source, path.name, model, settings, source.duration_seconds, None))
    return out


def score_live(source: SourceSettings, seconds: float, model: Model, settings: Settings) -> Material:
    """Listens to a source for some time, or to the end of its recording, and scores it.

    Args:
        source: to open.
        seconds: to listen.
        model: to score with.
        settings: of gate and window.

    Raises:
        EdgeSserError: the source cannot be opened, or breaks off.
    """
    name = source_name(source)
    with closing(open_source(source, paced=False)) as opened:
        if not is_recording(source):
            text = f"{seconds / 60.0:g} minutes" if seconds >= 120.0 else f"{seconds:g} s"
            print(f"edge-sser: listening to {source.device} for {text}: speak as usual", file=sys.stderr)
        return _score(opened, name, model, settings, seconds, round(seconds * SAMPLE_RATE))


def check_calm(materials: Sequence[Material], least_seconds: float) -> None:
    """Checks that recordings hold enough speech, and that it sounds calm.

    Args:
        materials: windows of calm speech.
        least_seconds: speech that is needed.

    Raises:
        SourceError: there is too little speech, silence, other sound, or the speaker sounds stressed.
    """
    windows = [window for material in materials for window in material.windows]
    scored = [window for window in windows if window.score is not None]
    speech = sum(material.speech_seconds for material in materials)
    length = _length(sum(material.seconds for material in materials))
    need = f"{least_seconds:.0f} s of ordinary speech are needed"
    loudest = max((window.dbfs for window in windows), default=SILENT_DBFS)
    if not scored and loudest < SILENT_DBFS:
        raise SourceError(
            f"the {length} of sound are silent ({loudest:.0f} dBFS at most): check the microphone or the "
            f"recording; {need}"
        )
    if windows and not scored:
        raise SourceError(f"no speech was found in {length} of sound: it seems to be music or noise; {need}")
    if speech < least_seconds:
        raise SourceError(
            f"{speech:.0f} s of speech were found in {length} of sound (music and noise do not count): {need}, so "
            "record more"
        )
    if median(window.range_db for window in scored) < LEAST_RANGE_DB:
        raise SourceError(
            f"the {length} of sound are as even as music or noise, unlike speech: speak nearer to the microphone, or "
            f"turn the music off; {need}"
        )
    mean = mean_log_odds(materials)
    if mean > CALM_LIMIT:
        raise SourceError(
            f"this speech sounds stressed (log-odds {mean:+.1f}; calm speakers have {POPULATION:+.1f}, at most "
            f"{CALM_LIMIT:+.1f}), so nothing was learned from it: give calm, ordinary speech"
        )


def mean_log_odds(materials: Sequence[Material]) -> float:
    """Returns the mean log-odds of the scored windows, each weighted by its speech."""
    log_odds, seconds = evidence(materials)
    return sum(one * weight for one, weight in zip(log_odds, seconds, strict=True)) / sum(seconds)


def evidence(materials: Sequence[Material]) -> tuple[list[float], list[float]]:
    """Returns log-odds and seconds of speech of the scored windows, as `Baseline.declare` takes them."""
    scored = [
        (window.score.log_odds, window.speech_seconds)
        for material in materials
        for window in material.windows
        if window.score is not None
    ]
    return [one for one, _ in scored], [seconds for _, seconds in scored]


def _score(
    source: Source, name: str, model: Model, settings: Settings, seconds: float | None, limit: int | None
) -> Material:
    windower = Windower(window=settings.window, gate=settings.gate)
    least = min_speech_ratio(settings.gate, model)
    hop_seconds = settings.window.hop_seconds
    windows: list[ScoredWindow] = []
    with progress(name, seconds) as work:
        for block in source.blocks():
            samples = block.samples if limit is None else block.samples[: max(0, limit - windower.now)]
            for window in windower.push(samples, block.dropped):
                score = model.score(window.log_mel) if window.speech_ratio >= least else None
                speech_seconds, loudness_range = hop_seconds * window.speech_ratio, _range_db(window.log_mel)
                windows.append(ScoredWindow(window.end, window.dbfs, speech_seconds, score, loudness_range))
            work.advance(samples.size / SAMPLE_RATE)
            if limit is not None and windower.now >= limit:
                break
    return Material(name, windower.now, windows)


def _range_db(log_mel: NDArray[np.float32]) -> float:
    loudness = 10.0 * np.log10(np.sum(10.0 ** (log_mel / 10.0), axis=1))
    quiet, loud = np.quantile(loudness, (0.1, 0.9))
    return float(loud - quiet)


def _length(seconds: float) -> str:
    return f"{seconds / 60.0:.1f} minutes" if seconds >= 60.0 else f"{seconds:.1f} s"
