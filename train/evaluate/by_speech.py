"""Scores of windows by the seconds of speech in them, to choose the gate's least share of speech."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.model.card import WINDOW_SECONDS
from edge_sser.pipeline.features import FEATURES
from edge_sser.pipeline.windows import Windower
from edge_sser.settings.schema import Settings
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import EMOTIONS, Preset, emotion_name
from edge_sser.train.evaluate.distortions import Samples
from edge_sser.train.evaluate.metrics import NAN, auroc, expected_calibration_error, uar, unweighted_accuracy
from edge_sser.train.evaluate.models import Models
from edge_sser.train.evaluate.streams import background_noise, normalise_level

CENTRES = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)  # seconds of speech
EDGES = (0.0, 0.375, 0.75, 1.25, 1.75, 2.25, 2.75, WINDOW_SECONDS + 0.01)
MIN_WINDOWS = 20  # in a bin; with fewer its figures are NaN
_GAP_SECONDS = 0.1  # between the two clips


@dataclass(frozen=True, slots=True)
class SpeechBin:
    """Scores of the windows with about so much speech, as the gate counts it; 0..1, NaN for too few windows.

    Attributes:
        corpus: of the clips.
        seconds: of speech, centre of the bin.
        windows: number of windows.
        auroc: of stress.
        uar: of the stress decision at calibrated probability 0.5.
        ua: of the emotions.
        confidence: mean of |2 stress - 1|, as in readings, before the card's trust in so much speech.
        ece: expected calibration error of stress.
    """

    corpus: str
    seconds: float
    windows: int
    auroc: float
    uar: float
    ua: float
    confidence: float
    ece: float


@dataclass(frozen=True, slots=True)
class _Window:
    speech: float
    emotion: int | None  # None where it is not scored
    decided: int
    stress: int | None
    predicted: float


def score_by_speech(
    models: Models,
    utterances: Sequence[Utterance],
    preset: Preset,
    noise: Sequence[Samples],
    *,
    settings: Settings | None = None,
    progress: Callable[[int], None] = lambda clips: None,
) -> list[SpeechBin]:
    """Slides the device's window over utterances in noise, and scores every window that holds any speech.

    Two clips of one speaker and emotion follow each other, so that windows hold anything from a word to speech alone.

    Args:
        models: calibrated; a window is scored by the model that was not trained on its speaker.
        utterances: clips to play.
        preset: turns labels into stress.
        noise: recordings behind the clips; pink noise when there are none.
        settings: of gate and window; the device's defaults when None.
        progress: called with the number of clips played.

    Raises:
        SourceError: a recording cannot be read.
    """
    device = settings or Settings()
    windows: dict[str, list[_Window]] = {}
    known = {
        corpus: {clip.emotion for clip in utterances if clip.corpus == corpus and clip.emotion in EMOTIONS}
        for corpus in {clip.corpus for clip in utterances}
    }
    for pair in _pairs(utterances, preset):
        windows.setdefault(pair[0].corpus, []).extend(
            _windows(models, pair, known[pair[0].corpus], preset, noise, device)
        )
        progress(len(pair))
    return [
        _share(corpus, centre, [window for window in each if low < window.speech <= high])
        for corpus, each in sorted(windows.items())
        for centre, low, high in zip(CENTRES, EDGES[:-1], EDGES[1:], strict=True)
    ]


def _pairs(utterances: Sequence[Utterance], preset: Preset) -> Iterator[list[Utterance]]:
    alike: dict[tuple[str, str, str, int | None], list[Utterance]] = {}
    for clip in utterances:
        alike.setdefault((clip.corpus, clip.speaker, clip.emotion, preset.decision(clip)), []).append(clip)
    for clips in alike.values():
        for start in range(0, len(clips), 2):
            yield clips[start : start + 2]


def _windows(
    models: Models,
    pair: Sequence[Utterance],
    emotions: Set[str],
    preset: Preset,
    noise: Sequence[Samples],
    settings: Settings,
) -> Iterator[_Window]:
    around = np.zeros(FEATURES.window_samples, dtype=np.float32)
    gap = np.zeros(round(_GAP_SECONDS * SAMPLE_RATE), dtype=np.float32)
    parts = [around]
    for clip in pair:
        parts += [normalise_level(read_audio(clip.path)), gap]
    samples = np.concatenate([*parts, around])
    samples += background_noise(samples.size, noise, np.random.default_rng(zlib.crc32(pair[0].sha256.encode())))
    model = models.model_for(pair[0])
    places = np.array([EMOTIONS.index(emotion_name(name)) for name in model.card.emotions])
    choices = np.flatnonzero([EMOTIONS[place] in emotions for place in places])  # the emotions of the corpus
    for window in Windower(window=settings.window, gate=settings.gate).push(samples):
        if window.speech_ratio > 0.0:
            score = model.score(window.log_mel)
            named = pair[0].emotion in emotions and choices.size > 1
            yield _Window(
                speech=window.speech_ratio * WINDOW_SECONDS,
                emotion=EMOTIONS.index(pair[0].emotion) if named else None,
                decided=int(places[choices[score.emotions[choices].argmax()]]) if named else -1,
                stress=preset.decision(pair[0]),
                predicted=score.stress,
            )


def _share(corpus: str, centre: float, windows: Sequence[_Window]) -> SpeechBin:
    judged = [window for window in windows if window.stress is not None]
    named = [(window.emotion, window.decided) for window in windows if window.emotion is not None]
    labels = np.array([window.stress for window in judged], dtype=np.int64)
    predicted = np.array([window.predicted for window in judged])
    enough = labels.size >= MIN_WINDOWS
    both = enough and 0 < labels.sum() < labels.size
    return SpeechBin(
        corpus=corpus,
        seconds=centre,
        windows=len(windows),
        auroc=auroc(labels, predicted) if both else NAN,
        uar=uar(labels, (predicted >= 0.5).astype(np.int64)) if both else NAN,
        ua=unweighted_accuracy(*np.array(named).T) if len(named) >= MIN_WINDOWS else NAN,
        confidence=float(np.mean(np.abs(2.0 * predicted - 1.0))) if enough else NAN,
        ece=expected_calibration_error(labels, predicted) if both else NAN,
    )
