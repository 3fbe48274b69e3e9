"""Replays the decision over kept windows: the model hears each stream once, baselines and thresholds are tried after.

The pieces are the monitor's own: `Windower`, `Judge` with filter and baseline, `Levels` and `Episodes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.model.calibration import sigmoid
from edge_sser.model.card import Card
from edge_sser.model.model import Model, Score
from edge_sser.monitor.judge import Judge, min_speech_ratio
from edge_sser.monitor.operating import manual_rule
from edge_sser.pipeline.baseline import Baseline
from edge_sser.pipeline.windows import Windower
from edge_sser.settings.schema import Settings
from edge_sser.train.evaluate.alarms import collar_samples, episode_spans, match_alarms
from edge_sser.train.evaluate.strangers import Kind, StrangerStream
from edge_sser.train.evaluate.streams import Span

DECLARED_SECONDS = 30.0  # of calm speech that is known
LEAST_DECLARED_SECONDS = 25.0  # a stream with less of it in front of its stress has no declared baseline
_BATCH = 64  # windows
_NO_EMOTIONS = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardStream:
    """Windows of a stream, one a hop, with their scores.

    Attributes:
        corpus: of the stream.
        speaker: of the stream.
        sex: F, M, or empty when unknown.
        kind: of the stream.
        events: its stressed parts.
        length: of the stream, samples.
        ends: end of each window, samples.
        scored: True for each window with enough speech.
        log_odds: calibrated log-odds of each scored window.
        speech_seconds: speech in each window's hop.
    """

    corpus: str
    speaker: str
    sex: str
    kind: Kind
    events: Sequence[Span]
    length: int
    ends: Sequence[int]
    scored: Sequence[bool]
    log_odds: Sequence[float]
    speech_seconds: Sequence[float]


def hear(stream: StrangerStream, model: Model, settings: Sequence[Settings]) -> list[HeardStream]:
    """Cuts a stream into the monitor's windows and scores them, once for all settings.

    Args:
        stream: any.
        model: calibrated, a stranger to the speaker.
        settings: of gates to compare; the windows of all must be the same.

    Returns:
        The windows under each of the settings; empty for a stream that is shorter than a window.
    """
    gates = [Windower(window=each.window, gate=each.gate).push(stream.samples) for each in settings]
    if not gates[0]:
        return []
    scored = [
        [window.speech_ratio >= least for window in windows]
        for least, windows in zip([min_speech_ratio(each.gate, model) for each in settings], gates, strict=True)
    ]
    places = np.flatnonzero(np.any(scored, axis=0))
    log_odds = np.zeros(len(gates[0]))
    for first in range(0, places.size, _BATCH):
        batch = places[first : first + _BATCH]
        logits, _ = model.logits(np.stack([gates[0][place].log_mel for place in batch]))
        log_odds[batch] = [model.card.calibration.log_odds(float(logit)) for logit in logits]
    return [
        HeardStream(
            corpus=stream.corpus,
            speaker=stream.speaker,
            sex=stream.sex,
            kind=stream.kind,
            events=stream.events,
            length=stream.samples.size,
            ends=[window.end for window in windows],
            scored=enough,
            log_odds=log_odds.tolist(),
            speech_seconds=[each.window.hop_seconds * window.speech_ratio for window in windows],
        )
        for each, windows, enough in zip(settings, gates, scored, strict=True)
    ]


def rolling_stress(
    heard: HeardStream, settings: Settings, card: Card, baseline: Baseline | None = None
) -> list[float | None]:
    """Replays the judgement of a stream.

    Args:
        heard: windows of the stream.
        settings: of rolling stress and baseline.
        card: of the model.
        baseline: declared before; None to start as a stranger.

    Returns:
        The rolling stress after each window; None before the first speech.
    """
    judge = Judge(settings, card, baseline)
    out: list[float | None] = []
    windows = zip(heard.ends, heard.scored, heard.log_odds, heard.speech_seconds, strict=True)
    for end, scored, log_odds, seconds in windows:
        if scored:
            judge.speech(Score(sigmoid(log_odds), log_odds, _NO_EMOTIONS), seconds, end)
        else:
            judge.silence(end)
        out.append(judge.stress)
    return out


def declared_baseline(heard: HeardStream) -> Baseline | None:
    """Returns a baseline of a stream's first 30 s of speech, in front of its stressed part; None for too little."""
    until = heard.events[0].start if heard.events else heard.length
    log_odds: list[float] = []
    seconds: list[float] = []
    for place, end in enumerate(heard.ends):
        if not heard.scored[place]:
            continue
        if end > until or sum(seconds) + heard.speech_seconds[place] > DECLARED_SECONDS:
            break
        log_odds.append(heard.log_odds[place])
        seconds.append(heard.speech_seconds[place])
    if sum(seconds) < LEAST_DECLARED_SECONDS:
        return None
    baseline = Baseline()
    baseline.declare(log_odds, seconds)
    return baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Episodes of a stream at several thresholds.

    Attributes:
        heard: the stream.
        delays: float64 [thresholds, events], seconds from the start of a stressed part to the first episode that began
            in it; NaN where none did.
        masked: int64 [thresholds], stressed parts that began in an episode.
        false: int64 [thresholds], episodes that began outside stressed parts.
        calm_seconds: time outside stressed parts and the collars behind them.
        alarm_seconds: float64 [thresholds], calm time inside episodes.
    """

    heard: HeardStream
    delays: NDArray[np.float64]
    masked: NDArray[np.int64]
    false: NDArray[np.int64]
    calm_seconds: float
    alarm_seconds: NDArray[np.float64]


def try_thresholds(
    heard: HeardStream, stress: Sequence[float | None], thresholds: Sequence[float], settings: Settings
) -> Outcome:
    """Finds the episodes of a stream at several thresholds.

    Args:
        heard: the stream.
        stress: rolling stress after each window.
        thresholds: of elevated.
        settings: of window, rolling stress and episodes.
    """
    collar = collar_samples(settings)
    windows = list(zip(heard.ends, heard.scored, stress, strict=True))
    highest = max((value for value in stress if value is not None), default=0.0)
    count, events = len(thresholds), len(heard.events)
    delays = np.full((count, events), np.nan)
    masked, false = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    alarm_seconds = np.zeros(count)
    parts = [Span(event.start, min(event.end + collar, heard.length)) for event in heard.events]
    for place, elevated in enumerate(thresholds):
        if highest < elevated:
            continue
        rule = manual_rule(settings.rolling, elevated=elevated, high=(1.0 + elevated) / 2.0)
        spans = episode_spans(windows, rule, settings)
        latencies, right, masked[place] = match_alarms(heard.events, spans, collar)
        delays[place] = [np.nan if latency is None else latency / SAMPLE_RATE for latency in latencies]
        false[place] = right.count(False)
        alarm_seconds[place] = sum(span.end - span.start - _inside(span, parts) for span in spans) / SAMPLE_RATE
    calm = heard.length - sum(part.end - part.start for part in parts)
    return Outcome(
        heard=heard,
        delays=delays,
        masked=masked,
        false=false,
        calm_seconds=calm / SAMPLE_RATE,
        alarm_seconds=alarm_seconds,
    )


def _inside(span: Span, parts: Sequence[Span]) -> int:
    return sum(max(0, min(span.end, part.end) - max(span.start, part.start)) for part in parts)
