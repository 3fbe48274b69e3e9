"""StressMonitor: the interface for other Python programs. Audio in, events out, through the Monitor of `listen`."""

from __future__ import annotations

import json
import operator
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from edge_sser.audio.array import as_frames
from edge_sser.audio.convert import InputConverter
from edge_sser.audio.file import FileSource
from edge_sser.errors import AudioInputError, EdgeSserError, SettingsError, SourceError, short
from edge_sser.events import Episode, Event, Level, Phase, Reading, as_dict
from edge_sser.model.model import Model
from edge_sser.monitor.monitor import Monitor, too_short
from edge_sser.monitor.operating import expected_rule
from edge_sser.settings.load import load_settings
from edge_sser.settings.names import node_name, slug, source_name
from edge_sser.settings.schema import Settings

MIN_RATE_HZ: Final = 8_000
MAX_RATE_HZ: Final = 192_000
BLOCK_SECONDS: Final = 1.0  # processed at a time: bounds memory for long arrays
_TABLES: Final = {"node", "gate", "window", "rolling", "baseline", "episode", "model"}  # that a monitor uses


@dataclass(frozen=True, slots=True)
class Analysis:
    """Result for a recording, in rows of plain values: `pandas.DataFrame(analysis.readings)`.

    Attributes:
        readings: one row a window, every hop; the fields of `Reading`.
        episodes: one row an episode, as it ended; the fields of `Episode`.
    """

    readings: list[dict[str, Any]]
    episodes: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _Stream:
    rate: int
    channels: int
    converter: InputConverter
    monitor: Monitor


class StressMonitor:
    """Says how stressed the speech in a stream of audio sounds.

    Feed a stream with `push`, in chunks of any size, and end it with `flush`; `analyze` takes a whole recording. The
    events are those of `edge-sser listen` and `edge-sser analyze`. How a stream is cut into chunks changes no event.
    No settings file and no environment variable is read unless you give a file. A monitor is for one stream and one
    thread at a time; several may share a `Model` within a thread.

    Examples:
        >>> from importlib.resources import files
        >>> import soundfile
        >>> from edge_sser import Reading, StressMonitor
        >>> demo = files("edge_sser") / "data" / "demo.flac"
        >>> samples, rate = soundfile.read(demo, dtype="float32")
        >>> with StressMonitor(sensitivity="normal") as monitor:
        ...     events = monitor.push(samples[:5 * rate], rate)
        ...     events += monitor.push(samples[5 * rate:], rate)
        ...     events += monitor.flush()
        >>> readings = [event for event in events if isinstance(event, Reading)]
        >>> readings[0].start_s, readings[0].end_s
        (0.0, 3.0)
    """

    def __init__(
        self,
        settings: Settings | Path | str | None = None,
        *,
        sensitivity: str | None = None,
        hop_seconds: float | None = None,
        model: Model | Path | str | None = None,
        source: str = "audio",
        channel: int | None = None,
        started_at: datetime | float | None = None,
    ) -> None:
        """Loads the model.

        Args:
            settings: a settings file (TOML) or an object; the defaults when None. Gate, window, rolling, baseline,
                episode, model and node are used.
            sensitivity: `quick`, `normal` or `strict`, in place of `rolling.sensitivity`.
            hop_seconds: step between readings, a multiple of 0.1, in place of `window.hop_seconds`.
            model: a model file in place of `model.path`, or a loaded model, which `close` leaves open.
            source: the stream's name in events: lower-case letters, digits, '-' and '_'.
            channel: channel to take, from 0; None averages all.
            started_at: time of a stream's first sample, as a datetime or in seconds since the epoch, for audio of
                another time. None for live audio: the clock is read at the first `push`.

        Raises:
            SettingsError: a settings file, keyword or value is wrong.
            ModelError: the model cannot be loaded.
        """
        self._settings = _settings(settings, sensitivity, hop_seconds, {"name": source, "channel": channel})
        self._source = source_name(self._settings.source[0])
        self._channel = self._settings.source[0].channel
        self._started_at = started_at.timestamp() if isinstance(started_at, datetime) else started_at
        self._owns_model = not isinstance(model, Model)
        self._model = model if isinstance(model, Model) else _load(model, self._settings)
        self._stream: _Stream | None = None
        self._closed = False
        expected_rule(self._settings, self._model.card)  # levels that do not fit together are an error now

    @property
    def model(self) -> Model:
        """Model in use; `Model.score` scores a single window of features."""
        return self._model

    @property
    def settings(self) -> Settings:
        """Settings in effect."""
        return self._settings

    @property
    def level(self) -> Level | None:
        """Stress level of the stream now; None before its first speech."""
        return None if self._stream is None else self._stream.monitor.level

    def push(self, samples: ArrayLike, rate: int) -> list[Event]:
        """Returns the events that the samples complete, in order: readings, episodes, changes of health.

        A chunk that raises AudioInputError is left out as a whole, and the stream goes on with the next.

        Args:
            samples: the next of the stream, [n] or [n, channels]: floats from -1 to 1, or int16.
            rate: sample rate, 8000 to 192000 Hz, the same for the whole stream.

        Raises:
            AudioInputError: wrong type, shape or rate, samples that are not numbers, no channel of the number that was
                asked for, or a change within the stream.
            ModelError: the model cannot score a window.
        """
        frames = as_frames(samples)
        stream = self._open_stream(frames, rate)
        events: list[Event] = []
        step = round(stream.rate * BLOCK_SECONDS)
        for first in range(0, frames.shape[0], step):
            events += stream.monitor.push(stream.converter.push(frames[first : first + step]))
        return events

    def flush(self) -> list[Event]:
        """Ends the stream and returns its last events, such as the end of an open episode. The next `push` begins anew.

        Raises:
            ModelError: the model cannot score a window.
        """
        stream, self._stream = self._stream, None
        if stream is None:
            return []
        return [*stream.monitor.push(stream.converter.finish()), *stream.monitor.finish()]

    def reset(self) -> None:
        """Forgets the stream, with what was learned of its speaker. The next `push` begins anew."""
        self._stream = None

    def close(self) -> None:
        """Forgets the stream and releases the model. Safe to call twice."""
        self.reset()
        if self._owns_model and not self._closed:
            self._model.backend.close()
        self._closed = True

    def __enter__(self) -> StressMonitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def analyze(self, path: Path | str) -> Analysis:
        """Analyses a recording, faster than real time; the stream of `push` is left alone.

        Args:
            path: a file in any format that libsndfile or ffmpeg reads.

        Raises:
            SourceError: the file is missing, damaged, no audio, or shorter than 3 s.
            ModelError: the model cannot score a window.

        Examples:
            >>> from importlib.resources import files
            >>> from edge_sser import StressMonitor
            >>> analysis = StressMonitor().analyze(files("edge_sser") / "data" / "demo.flac")
            >>> analysis.readings[0]["end_s"], len(analysis.readings) > 50
            (3.0, True)
        """
        path = Path(path)
        readings, episodes = [], []
        for event in self._recording_events(path):
            if isinstance(event, Reading):
                readings.append(as_dict(event))
            elif isinstance(event, Episode) and event.phase is Phase.END:
                episodes.append(as_dict(event))
        return Analysis(readings, episodes)

    def _recording_events(self, path: Path) -> Iterator[Event]:
        self._check_open()
        with closing(FileSource(path, name=slug(path.stem, "recording"), channel=self._channel)) as source:
            started_at = source.started_at if self._started_at is None else self._started_at
            monitor = self._monitor(source.name, started_at=started_at, live=False)
            for block in source.blocks():
                yield from monitor.push(block)
            yield from monitor.finish()
        if not monitor.readings:
            raise too_short(path, monitor.read)

    def _open_stream(self, frames: NDArray[np.float32], rate: int) -> _Stream:
        """Returns the stream that frames belong to, begun if need be."""
        self._check_open()
        stream, channels = self._stream, frames.shape[1]
        if not isinstance(rate, (int, np.integer)) or not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
            raise AudioInputError(f"rate is {rate!r}: pass the sample rate in Hz, {MIN_RATE_HZ} to {MAX_RATE_HZ}")
        if stream is None:
            live, started_at = self._started_at is None, self._started_at
            if started_at is None:
                started_at = time.time() - frames.shape[0] / rate
            try:
                converter = InputConverter(
                    rate_hz=int(rate), channels=channels, channel=self._channel, origin=f"stream {self._source}"
                )
            except SourceError as error:
                raise AudioInputError(str(error)) from None
            stream = _Stream(int(rate), channels, converter, self._monitor(self._source, started_at, live))
            if frames.size:
                self._stream = stream
        elif rate != stream.rate:
            raise AudioInputError(
                f"the rate changes from {stream.rate} to {rate} Hz within a stream: call flush() before another one"
            )
        elif channels != stream.channels:
            raise AudioInputError(
                f"the number of channels changes from {stream.channels} to {channels} within a stream: call flush() "
                "before another one"
            )
        return stream

    def _monitor(self, name: str, started_at: float, live: bool) -> Monitor:
        return Monitor(
            node=node_name(self._settings),
            source_name=name,
            started_at=started_at,
            live=live,
            model=self._model,
            settings=self._settings,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise EdgeSserError("this StressMonitor is closed: make a new one")


def _settings(
    given: Settings | Path | str | None, sensitivity: str | None, hop_seconds: float | None, source: dict[str, Any]
) -> Settings:
    if given is not None and not isinstance(given, (Settings, Path, str)):
        raise SettingsError(f"settings is a {type(given).__name__}: give the path of a file, or a Settings object")
    if isinstance(given, (Path, str)):  # the environment is not read
        given = load_settings(Path(given), environ={}).settings
    values = (given or Settings()).model_dump(mode="json", include=_TABLES, exclude_unset=True)
    values["source"] = [source]
    if sensitivity is not None:
        values["rolling"] = values.get("rolling", {}) | {"sensitivity": sensitivity, "false_alarms_per_hour": None}
    if hop_seconds is not None:
        values["window"] = {"hop_seconds": hop_seconds}
    try:
        return Settings.model_validate_json(json.dumps(values, default=operator.index), strict=True)
    except (ValidationError, TypeError) as error:
        if isinstance(error, TypeError):
            raise SettingsError(f"a keyword of StressMonitor is no plain value: {error}") from None
        first = error.errors()[0]
        name = {"name": "source"}.get(str(first["loc"][-1]), str(first["loc"][-1]))
        raise SettingsError(f"{name} is {first['input']!r}: {short(first['msg'])}") from None


def _load(model: Path | str | None, settings: Settings) -> Model:
    chosen = settings.model if model is None else settings.model.model_copy(update={"path": Path(model)})
    return Model.of_settings(chosen)
