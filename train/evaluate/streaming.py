"""How a system does as an alarm, on a device's own monitor: assembled streams, calm speech, noise."""

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
from edge_sser.monitor import Monitor
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.settings.schema import Settings
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import Preset
from edge_sser.train.evaluate.alarms import Detection, Point, Rate, alarms, detect, rate
from edge_sser.train.evaluate.distortions import Samples
from edge_sser.train.evaluate.metrics import NAN
from edge_sser.train.evaluate.models import Models
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.evaluate.streams import Sound, SoundFiles, Span, assemble, calm_speakers, read_all

CAUGHT = 0.7  # share of stressed clips that the operating point is chosen for
SWEEP = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # thresholds of the curve
FALSE_EPISODES_AN_HOUR = 2.0  # limit on calm speech


@dataclass(frozen=True, slots=True)
class Quiet:
    """False episodes on recordings without stress: calm speech, or noise.

    Attributes:
        sound: what they are.
        name: of the file or folder.
        point: of operation.
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
    """Everything about alarms.

    Attributes:
        system: whose.
        points: of operation.
        detections: by corpus and point.
        sweep: by corpus, at thresholds from 0.2 to 0.9.
        quiet: by recordings and point, those of the sweep included; first the corpora in which nobody is stressed.
        compared: windows scored both streaming and offline.
        differing: those whose two scores differ in any bit.
        left_out: speakers with too few clips for a stream.
    """

    system: str
    points: Sequence[Point]
    detections: Sequence[Detection]
    sweep: Sequence[Detection]
    quiet: Sequence[Quiet]
    compared: int
    differing: int
    left_out: int


def catching(columns: ScoreTable, share: float = CAUGHT) -> float:
    """The calibrated probability that this share of the stressed clips reach, each corpus weighing the same, 0..1.

    NaN when no clip is stressed.
    """
    chosen = columns.judged & (columns.stress == 1)
    if not chosen.any():
        return NAN
    _, place, sizes = np.unique(columns.corpus[chosen], return_inverse=True, return_counts=True)
    order = np.argsort(-columns.probability[chosen], kind="stable")
    reached = np.cumsum((1.0 / sizes[place])[order]) / sizes.size
    first = min(int(np.searchsorted(reached, share - 1e-9)), reached.size - 1)
    return float(columns.probability[chosen][order][first])


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
        models: calibrated; a stream is heard by the model that never heard its speaker.
        utterances: that streams are made of; may be empty.
        preset: says which clips are stressed.
        sounds: noise to lie behind streams and to be played alone; calm speech to be played.
        points: of operation.
        settings: of the device; its defaults when None.
        progress: called with the seconds that were played.

    Raises:
        SourceError: a recording cannot be read.
    """
    device = settings or Settings()
    played: dict[str, list[tuple[Sequence[Span], Sequence[Reading]]]] = {}
    compared = different = 0
    noise = read_all(sounds.get(Sound.NOISE, {}))
    for stream in assemble(utterances, preset, noise):
        model = models.judge(stream.clip)
        heard = listen(stream.samples, model, device)
        if stream.corpus not in played:  # once a corpus is enough to see a difference
            windows, differ = differing(stream.samples, model, device, heard)
            compared, different = compared + windows, different + differ
        played.setdefault(stream.corpus, []).append((stream.events, heard.readings))
        progress(stream.samples.size / SAMPLE_RATE)
    sweep = [Point(f"{threshold:.1f}", threshold) for threshold in SWEEP]
    calm: dict[str, list[Sequence[Reading]]] = {}
    for stream in calm_speakers(utterances, preset, noise):
        readings = listen(stream.samples, models.judge(stream.clip), device).readings
        if readings:
            calm.setdefault(stream.corpus, []).append(readings)
        progress(stream.samples.size / SAMPLE_RATE)
    speakers = {(clip.corpus, clip.speaker) for clip in utterances if clip.corpus not in calm}
    return Streaming(
        system=models.origin.system,
        points=points,
        detections=[detect(corpus, each, point, device) for corpus, each in played.items() for point in points],
        sweep=[detect(corpus, each, point, device) for corpus, each in played.items() for point in sweep],
        quiet=[
            *(
                _quiet_at(Sound.CALM, f"{corpus}, each speaker alone", point, heard, device)
                for corpus, heard in calm.items()
                for point in [*points, *sweep]
            ),
            *_quiet(models, sounds, [*points, *sweep], device, progress),
        ],
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
            for name, streams in _recordings(sound, group, paths):
                heard = []
                for samples in streams:
                    readings = listen(samples, models.whole, settings).readings
                    if readings:  # shorter than a window: nothing is said of it
                        heard.append(readings)
                    progress(samples.size / SAMPLE_RATE)
                yield from (_quiet_at(sound, name, point, heard, settings) for point in points)


def _quiet_at(sound: Sound, name: str, point: Point, heard: Sequence[Sequence[Reading]], settings: Settings) -> Quiet:
    found = [
        alarm for readings in heard for alarm in alarms(readings, settings, elevated=point.elevated, high=point.high)
    ]
    hours = sum(readings[-1].end_s for readings in heard) / 3600.0
    alarmed = sum(alarm.end - alarm.start for alarm in found) / SAMPLE_RATE / 3600.0
    scored = [reading.stress is not None for readings in heard for reading in readings]
    return Quiet(sound, name, point.name, rate(len(found), hours, alarmed), float(np.mean(scored)) if scored else NAN)


def _recordings(sound: Sound, name: str, paths: Sequence[Path]) -> Iterator[tuple[str, Iterable[Samples]]]:
    """Calm recordings each by itself, as speakers differ, and end to end, as a device hears them; noise only so."""
    if sound is Sound.CALM:
        yield name, (read_audio(path) for path in paths)
    if sound is Sound.NOISE or len(paths) > 1:
        title = name if sound is Sound.NOISE else f"{name}, end to end"
        yield title, [np.concatenate([read_audio(path) for path in paths])]


BLOCK_SAMPLES = 1_600  # 100 ms, as a microphone brings them


@dataclass(frozen=True, slots=True)
class Heard:
    """What the monitor said of a stream.

    Attributes:
        readings: every hop.
        scores: stress of each window that was scored, not rounded.
    """

    readings: Sequence[Reading]
    scores: Sequence[float]


class _Recorder:
    """A backend that keeps the stress logits of another. See `Backend`."""

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
        """Does nothing: the other backend belongs to its model."""


def listen(samples: Samples, model: Model, settings: Settings) -> Heard:
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
    return Heard([event for event in events if isinstance(event, Reading)], scores)


def differing(samples: Samples, model: Model, settings: Settings, heard: Heard) -> tuple[int, int]:
    """Compares streaming with offline, bit by bit.

    The features of the whole recording are computed at once, cut into the same windows, and scored one by one.

    Returns:
        Windows compared, and those whose score differs in any bit.
    """
    features = log_mel(samples)
    hop = round(settings.window.hop_seconds * SAMPLE_RATE) // FEATURES.hop_samples
    scored = [place for place, reading in enumerate(heard.readings) if reading.stress is not None]
    offline = [
        model.score(np.ascontiguousarray(features[place * hop : place * hop + FEATURES.frames])).stress
        for place in scored
    ]
    return len(scored), sum(one != other for one, other in zip(offline, heard.scores, strict=True))
