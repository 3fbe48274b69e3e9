"""Analysis of a batch of recordings into tables, in whatever process or machine.

A recording is decoded, analysed and summed up as it is read; its rows are kept in columns, so that a day of audio takes
some megabytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_sser.audio.file import FileSource
from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.archive.find import Item
from edge_sser.commands.archive.tables import (
    Rows,
    episode_row,
    episode_schema,
    file_schema,
    milliseconds,
    reading_row,
    reading_schema,
)
from edge_sser.commands.archive.times import TimeRule
from edge_sser.errors import EdgeSserError, SettingsError, SourceError, printable, short
from edge_sser.events import Episode, Event, Level, Phase, Reading
from edge_sser.model.model import Model
from edge_sser.monitor.monitor import Monitor
from edge_sser.settings.names import node_name, slug
from edge_sser.settings.schema import ModelSettings, Settings

if TYPE_CHECKING:
    import pyarrow as pa

DONE, FAILED = "done", "failed"
KILLED: Final = "the process that analysed it was killed, or crashed: is there too little memory?"


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """Options for all recordings.

    Attributes:
        settings: of gate, window, rolling, episodes and model.
        channel: to take, from 0; None for the average of all.
        times: rule for the times of recordings.
    """

    settings: Settings
    channel: int | None
    times: TimeRule


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Tables of a batch: readings and episodes with the path in each row, and one row a file."""

    readings: pa.Table
    episodes: pa.Table
    files: pa.Table


def analyze_batch(
    items: Sequence[Item], options: ArchiveOptions, advance: Callable[[float], None] | None = None
) -> BatchResult:
    """Analyses recordings. One that fails is a row with its reason.

    Args:
        items: recordings.
        options: for all of them.
        advance: is told of the bytes that each step has analysed.

    Raises:
        SettingsError: the settings are wrong for every recording.
        ModelError: the model file cannot be used.
    """
    model = _model(options.settings.model, threading.get_ident())
    readings, episodes, files = Rows(reading_schema()), Rows(episode_schema()), Rows(file_schema())
    for item in items:
        analysis = _Analysis(item, options, model, readings, episodes)
        told = 0.0
        for done in analysis.steps():
            if advance is not None:
                advance((done - told) * item.size)
                told = done
        files.add(analysis.row())
        if advance is not None:
            advance((1.0 - told) * item.size)
    return BatchResult(readings.table(), episodes.table(), files.table())


def killed_batch(item: Item, model: str) -> BatchResult:
    """Returns the tables of a recording whose analysis ended its process."""
    files = Rows(file_schema())
    files.add(_FileRow(item, reason=KILLED).values(model))
    return BatchResult(Rows(reading_schema()).table(), Rows(episode_schema()).table(), files.table())


@dataclass(slots=True)
class _FileRow:
    """Sums over one recording."""

    item: Item
    reason: str = ""
    started: float | None = None
    seconds: float = 0.0
    speech: float = 0.0
    readings: int = 0
    episodes: int = 0
    levels: dict[Level, float] = field(default_factory=lambda: dict.fromkeys(Level, 0.0))

    def values(self, model: str) -> dict[str, Any]:
        return {
            "path": self.item.name,
            "status": FAILED if self.reason else DONE,
            "reason": self.reason or None,
            "started": milliseconds(self.started),
            "seconds": self.seconds,
            "speech_s": self.speech,
            **{f"{level.value}_s": seconds for level, seconds in self.levels.items()},
            "readings": self.readings,
            "episodes": self.episodes,
            "bytes": self.item.size,
            "modified": milliseconds(self.item.modified),
            "analyzed": milliseconds(time.time()),
            "model": model,
        }


class _Analysis:
    """Analysis of one recording."""

    def __init__(self, item: Item, options: ArchiveOptions, model: Model, readings: Rows, episodes: Rows) -> None:
        self._sums = _FileRow(item)
        self._options = options
        self._model = model
        self._readings = readings
        self._episodes = episodes
        self._hop = options.settings.window.hop_seconds

    def row(self) -> dict[str, Any]:
        return self._sums.values(self._model.label)

    def steps(self) -> Any:
        """Analyses block by block; yields the share that is done, 0..1. The reason of a failure goes into the row."""
        path = Path(self._sums.item.path)
        try:
            with closing(FileSource(path, name=slug(path.stem, "recording"), channel=self._options.channel)) as source:
                yield from self._blocks(source, path)
            if not self._sums.readings and not self._sums.reason:
                self._sums.reason = f"{self._sums.seconds:.1f} s long, shorter than the window of a reading"
        except SettingsError:
            raise
        except EdgeSserError as error:
            self._sums.reason = str(error)
        except Exception as error:  # of a library, about this recording: the others go on
            self._sums.reason = printable(f"{type(error).__name__}: {short(error)}")

    def _blocks(self, source: FileSource, path: Path) -> Any:
        length = source.duration_seconds or 0.0
        started = self._options.times.started(path, modified=self._sums.item.modified, seconds=length)
        self._sums.started = started
        monitor = Monitor(
            node=node_name(self._options.settings),
            source_name=source.name,
            started_at=started or 0.0,
            live=False,
            model=self._model,
            settings=self._options.settings,
        )
        try:
            for block in source.blocks():
                self._sums.seconds += block.samples.size / SAMPLE_RATE
                self._take(monitor.push(block))
                if length:
                    yield min(1.0, self._sums.seconds / length)
        except SourceError as error:  # the audio before it counts
            self._sums.reason = str(error)
        self._take(monitor.finish())

    def _take(self, events: Sequence[Event]) -> None:
        sums, path = self._sums, self._sums.item.name
        for event in events:
            if isinstance(event, Reading):
                sums.readings += 1
                sums.speech += event.speech_ratio * self._hop
                if event.stress is not None and event.level is not None:
                    sums.levels[event.level] += self._hop
                self._readings.add(reading_row(event, path, sums.started))
            elif isinstance(event, Episode) and event.phase is Phase.END:
                sums.episodes += 1
                self._episodes.add(episode_row(event, path, sums.started))


@lru_cache(maxsize=16)
def _model(settings: ModelSettings, thread: int) -> Model:
    """Returns the model of a thread: a process or worker loads it once."""
    return Model.of_settings(settings)
