"""A model as an alarm, on the device's own monitor: assembled streams, calm speech, noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE, AudioBlock
from edge_sser.events import Reading
from edge_sser.model.backend import Backend, Logits
from edge_sser.model.model import Model
from edge_sser.monitor.monitor import Monitor
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.pipeline.highpass import high_pass
from edge_sser.settings.schema import Settings
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import Preset
from edge_sser.train.evaluate.alarms import Detection, Point, Rate, alarm_rate, detect, find_alarms
from edge_sser.train.evaluate.distortions import Samples
from edge_sser.train.evaluate.metrics import NAN
from edge_sser.train.evaluate.models import Models
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.evaluate.streams import Sound, SoundFiles, Span, assemble_streams, calm_streams, read_recordings

TARGET_RECALL = 0.7  # share of stressed clips that reach the chosen operating point
SWEEP = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # thresholds of the curve
FALSE_EPISODES_AN_HOUR = 2.0  # limit on calm speech


@dataclass(frozen=True, slots=True)
class Quiet:
    """False episodes on recordings without stress: calm speech, or noise.

    Attributes:
        sound: calm speech or noise.
        name: of the file or folder.
        point: name of the operating point.
        rate: of episodes.
        speech_share: share of windows with enough speech to be scored, 0..1.
    """

    sound: Sound
    name: str
    point: str
    rate: Rate
    speech_share: float


@dataclass(frozen=True, slots=True)
class Streaming:
    """Alarm figures of a system.

    Attributes:
        system: its name.
        points: operating points.
        detections: by corpus and point.
        sweep: by corpus, at thresholds from 0.2 to 0.9.
        quiet: by recordings and point, with the thresholds of the sweep; corpora without stress come first.
        compared: number of windows scored both streaming and offline.
        differing: number of these whose two scores differ in any bit.
        left_out: number of speakers with too few clips for a stream.
    """

    system: str
    points: Sequence[Point]
    detections: Sequence[Detection]
    sweep: Sequence[Detection]
    quiet: Sequence[Quiet]
    compared: int
    differing: int
    left_out: int


def threshold_at_recall(table: ScoreTable, share: float = TARGET_RECALL) -> float:
    """Returns the calibrated probability that a share of the stressed clips reach; each corpus weighs the same.

    NaN when no clip is stressed.
    """
    chosen = table.judged & (table.stress == 1)
    if not chosen.any():
        return NAN
    _, place, sizes = np.unique(table.corpus[chosen], return_inverse=True, return_counts=True)
    order = np.argsort(-table.probability[chosen], kind="stable")
    reached = np.cumsum((1.0 / sizes[place])[order]) / sizes.size
    first = min(int(np.searchsorted(reached, share - 1e-9)), reached.size - 1)
    return float(table.probability[chosen][order][first])


def try_streams(
    models: Models,
    utterances: Sequence[Utterance],
    preset: Preset,
    sounds: SoundFiles,
    points: Sequence[Point],
    *,
    settings: Settings | None = None,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Streaming:
    """Plays assembled streams, calm speech and noise to the monitor.

    Args:
        models: calibrated; a stream is scored by the model that was not trained on its speaker.
        utterances: clips of the streams; may be empty.
        preset: turns labels into stress.
        sounds: noise, to play behind streams and alone; calm speech.
        points: operating points.
        settings: of the device; its defaults when None.
        progress: called with the seconds of each stream played.

    Raises:
        SourceError: a recording cannot be read.
    """
    device = settings or Settings()
    played: dict[str, list[tuple[Sequence[Span], Sequence[Reading]]]] = {}
    compared = different = 0
    noise = read_recordings(sounds.get(Sound.NOISE, {}))
    for stream in assemble_streams(utterances, preset, noise):
        model = models.model_for(stream.clip)
        stream_played = play_stream(stream.samples, model, device)
        if stream.corpus not in played:  # one stream of a corpus shows a difference
            windows, differ = compare_offline(stream.samples, model, device, stream_played)
            compared, different = compared + windows, different + differ
        played.setdefault(stream.corpus, []).append((stream.events, stream_played.readings))
        progress(stream.samples.size / SAMPLE_RATE)
    sweep = [Point(f"{threshold:.1f}", threshold) for threshold in SWEEP]
    calm: dict[str, list[Sequence[Reading]]] = {}
    for stream in calm_streams(utterances, preset, noise):
        readings = play_stream(stream.samples, models.model_for(stream.clip), device).readings
        if readings:
            calm.setdefault(stream.corpus, []).append(readings)
        progress(stream.samples.size / SAMPLE_RATE)
    quiet = [
        _quiet_at(Sound.CALM, f"{corpus}, each speaker alone", point, streams, device)
        for corpus, streams in calm.items()
        for point in [*points, *sweep]
    ]
    speakers = {(clip.corpus, clip.speaker) for clip in utterances if clip.corpus not in calm}
    return Streaming(
        system=models.origin.system,
        points=points,
        detections=[detect(corpus, each, point, device) for corpus, each in played.items() for point in points],
        sweep=[detect(corpus, each, point, device) for corpus, each in played.items() for point in sweep],
        quiet=[*quiet, *_quiet(models, sounds, [*points, *sweep], device, progress)],
        compared=compared,
        differing=different,
        left_out=len(speakers) - sum(len(each) for each in played.values()),
    )


def _quiet(
    models: Models,
    sounds: SoundFiles,
    points: Sequence[Point],
    settings: Settings,
    progress: Callable[[float], None],
) -> Iterable[Quiet]:
    for sound in (Sound.CALM, Sound.NOISE):
        for group, paths in sounds.get(sound, {}).items():
            for name, recordings in _recordings(sound, group, paths):
                played = []
                for samples in recordings:
                    readings = play_stream(samples, models.final, settings).readings
                    if readings:  # a stream shorter than a window has none
                        played.append(readings)
                    progress(samples.size / SAMPLE_RATE)
                yield from (_quiet_at(sound, name, point, played, settings) for point in points)


def _quiet_at(sound: Sound, name: str, point: Point, streams: Sequence[Sequence[Reading]], settings: Settings) -> Quiet:
    found = [
        alarm
        for readings in streams
        for alarm in find_alarms(readings, settings, elevated=point.elevated, high=point.high)
    ]
    hours = sum(readings[-1].end_s for readings in streams) / 3600.0
    alarmed = sum(alarm.end - alarm.start for alarm in found) / SAMPLE_RATE / 3600.0
    scored = [reading.stress is not None for readings in streams for reading in readings]
    return Quiet(
        sound, name, point.name, alarm_rate(len(found), hours, alarmed), float(np.mean(scored)) if scored else NAN
    )


def _recordings(sound: Sound, name: str, paths: Sequence[Path]) -> Iterator[tuple[str, Iterable[Samples]]]:
    """Yields calm recordings one by one, as speakers differ, and joined, as on a device; noise only joined."""
    if sound is Sound.CALM:
        yield name, (read_audio(path) for path in paths)
    if sound is Sound.NOISE or len(paths) > 1:
        title = name if sound is Sound.NOISE else f"{name}, end to end"
        yield title, [np.concatenate([read_audio(path) for path in paths])]


BLOCK_SAMPLES = 1_600  # 100 ms, as a microphone brings them


@dataclass(frozen=True, slots=True)
class PlayedStream:
    """Output of the monitor for a stream.

    Attributes:
        readings: one a hop.
        scores: unrounded stress of each scored window.
    """

    readings: Sequence[Reading]
    scores: Sequence[float]


class _Recorder:
    """Backend that records the stress logits of another one; see `Backend`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.provider = backend.provider
        self.logits: list[float] = []

    def run(self, log_mel: NDArray[np.float32], *, limit_seconds: float | None = None) -> Logits:
        """Computes a batch; see `Backend.run`."""
        stress, emotions = self._backend.run(log_mel, limit_seconds=limit_seconds)
        self.logits += map(float, stress)
        return stress, emotions

    def close(self) -> None:
        """Does nothing: the wrapped backend belongs to its model."""


def play_stream(samples: Samples, model: Model, settings: Settings) -> PlayedStream:
    """Plays a stream to a fresh monitor, in blocks as they come from a microphone.

    Args:
        samples: float32 [n], mono, 16 kHz.
        model: calibrated.
        settings: of gate, window, rolling stress and episodes.
    """
    recorder = _Recorder(model.backend)
    recorded = Model(recorder, model.card, path=model.path, sha256=model.sha256)
    monitor = Monitor(
        node="evaluation", source_name="stream", started_at=0.0, live=False, model=recorded, settings=settings
    )
    events = []
    for start in range(0, samples.size, BLOCK_SAMPLES):
        events += monitor.push(AudioBlock(samples[start : start + BLOCK_SAMPLES]))
    scores = [model.card.calibration.probability(logit) for logit in recorder.logits]
    return PlayedStream([event for event in events if isinstance(event, Reading)], scores)


def compare_offline(samples: Samples, model: Model, settings: Settings, played: PlayedStream) -> tuple[int, int]:
    """Compares the streaming scores of a stream with offline scores, bit by bit.

    Offline, the whole recording is filtered and its features are computed at once, cut into the same windows, and
    scored one by one.

    Returns:
        Number of windows compared, and of those whose score differs in any bit.
    """
    features = log_mel(high_pass(samples))
    hop = round(settings.window.hop_seconds * SAMPLE_RATE) // FEATURES.hop_samples
    scored = [place for place, reading in enumerate(played.readings) if reading.stress is not None]
    offline = [
        model.score(np.ascontiguousarray(features[place * hop : place * hop + FEATURES.frames])).stress
        for place in scored
    ]
    return len(scored), sum(one != other for one, other in zip(offline, played.scores, strict=True))
