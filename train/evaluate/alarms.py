"""Alarms against ground truth: false alarms an hour, events found, latency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.events import Phase, Reading
from edge_sser.monitor.operating import LevelRule, manual_rule
from edge_sser.pipeline.episodes import EpisodeReport, Episodes
from edge_sser.pipeline.features import FEATURES
from edge_sser.pipeline.rolling import Levels
from edge_sser.settings.schema import Settings
from edge_sser.train.evaluate.metrics import NAN
from edge_sser.train.evaluate.streams import Span


@dataclass(frozen=True, slots=True)
class Point:
    """Operating point of the alarm.

    Attributes:
        name: for people.
        elevated: rolling stress from which the level is elevated, 0..1.
        high: rolling stress from which the level is high; half-way to 1 when None.
        limited: True when the limit on false episodes applies to this point.
    """

    name: str
    elevated: float
    high: float | None = None
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """False alarms an hour.

    Attributes:
        alarms: number of alarms.
        hours: of audio.
        an_hour: alarms by hours; NaN without audio.
        low: of the 95 % interval of a Poisson rate (Garwood, 1936).
        high: of the same interval.
        share: of the time with an alarm on, 0..1: a few alarms that never end are no better than many.
    """

    alarms: int
    hours: float
    an_hour: float
    low: float
    high: float
    share: float


@dataclass(frozen=True, slots=True)
class Detection:
    """Figures of alarms in streams with known stressed parts, the events.

    Attributes:
        corpus: of the streams' clips.
        point: name of the operating point.
        streams: number of streams, one a speaker.
        events: number of events.
        event_s: their mean length, seconds.
        found: events in which an alarm began, up to a collar (window and hop) after their end.
        at_onset: events in which an alarm began within a collar of their start.
        masked: events that began while an alarm was still on.
        recall: found by events, 0..1.
        precision: alarms that began in an event by all alarms, 0..1; NaN without alarms.
        latency_median_s: from an event's start to the first alarm in it, over the events found.
        latency_p95_s: 95th percentile of the same.
        event_share: share of the events' time, with a collar after each, with an alarm on, 0..1.
        false: alarms outside events, over the time outside them.
    """

    corpus: str
    point: str
    streams: int
    events: int
    event_s: float
    found: int
    at_onset: int
    masked: int
    recall: float
    precision: float
    latency_median_s: float
    latency_p95_s: float
    event_share: float
    false: Rate


def find_alarms(
    readings: Sequence[Reading], settings: Settings, *, elevated: float, high: float | None = None
) -> list[Span]:
    """Returns the episodes of a stream's readings at a threshold, by the monitor's own levels and episodes.

    Args:
        readings: of one stream, in order.
        settings: of rolling stress and episodes; their thresholds are not used.
        elevated: rolling stress from which the level is elevated, 0..1.
        high: rolling stress from which the level is high; half-way to 1 when None.

    Returns:
        Spans from the end of the first window of an episode to the end of its last window with speech.
    """
    high = (1.0 + elevated) / 2.0 if high is None else high
    rule = manual_rule(settings.rolling, elevated=elevated, high=high)
    heard = [
        (round(reading.end_s * SAMPLE_RATE), reading.stress is not None, reading.stress_rolling) for reading in readings
    ]
    return episode_spans(heard, rule, settings)


def episode_spans(heard: Iterable[tuple[int, bool, float | None]], rule: LevelRule, settings: Settings) -> list[Span]:
    """Returns the episodes of a stream, by the monitor's own levels and episodes.

    Args:
        heard: end of each window in samples, True when it has enough speech, and the rolling stress after it.
        rule: thresholds and dwell.
        settings: of rolling stress and episodes; thresholds are not used.
    """
    levels = Levels(rule.thresholds, dwell_seconds=rule.dwell_seconds)
    episodes = Episodes(settings.episode)
    fades = settings.rolling.time_constant_seconds is None  # as the filter does in silence
    silence_samples = round(settings.episode.silence_seconds * SAMPLE_RATE)
    spoken = 0
    reports: list[EpisodeReport | None] = []
    for now, speech, stress in heard:
        if speech and stress is not None:
            spoken = now
            reports.append(episodes.speech(stress, levels.push(stress, now), now))
            continue
        if fades and stress is not None:
            levels.fade(stress, now, long=now - spoken >= silence_samples)
        reports.append(episodes.silence(now))
    reports.append(episodes.finish())
    return [Span(report.start, report.end) for report in reports if report is not None and report.phase is Phase.END]


def alarm_rate(alarms: int, hours: float, alarm_hours: float) -> Rate:
    """Alarms an hour with the exact 95 % interval of a Poisson rate.

    Args:
        alarms: number of alarms.
        hours: of audio.
        alarm_hours: of audio with an alarm on.
    """
    from scipy.stats import chi2

    if hours <= 0.0:
        return Rate(alarms, 0.0, NAN, NAN, NAN, NAN)
    low = chi2.ppf(0.025, 2 * alarms) / 2.0 if alarms else 0.0
    high = chi2.ppf(0.975, 2 * alarms + 2) / 2.0
    return Rate(alarms, hours, alarms / hours, float(low) / hours, float(high) / hours, alarm_hours / hours)


def match_alarms(
    events: Sequence[Span], found: Sequence[Span], collar: int
) -> tuple[list[int | None], list[bool], int]:
    """Matches alarms with events.

    Args:
        events: in order, in samples.
        found: alarms, in order.
        collar: samples after an event's end in which an alarm still counts for it.

    Returns:
        Latency of each event, samples from its start to the first alarm that began in it, or None; for each alarm, True
        when it began in an event; and the number of events that began while an alarm was on.
    """
    latencies: list[int | None] = []
    for event in events:
        inside = [alarm.start - event.start for alarm in found if event.start <= alarm.start <= event.end + collar]
        latencies.append(min(inside, default=None))
    right = [any(event.start <= alarm.start <= event.end + collar for event in events) for alarm in found]
    masked = sum(any(alarm.start < event.start < alarm.end for alarm in found) for event in events)
    return latencies, right, masked


def collar_samples(settings: Settings) -> int:
    """Returns the length of a window and a hop: a change shows only at the end of a window that holds it."""
    return FEATURES.window_samples + round(settings.window.hop_seconds * SAMPLE_RATE)


def detect(
    corpus: str, played: Sequence[tuple[Sequence[Span], Sequence[Reading]]], point: Point, settings: Settings
) -> Detection:
    """Compares the alarms of streams with their events.

    Args:
        corpus: of the streams.
        played: events and readings of each stream.
        point: operating point.
        settings: of the monitor that made the readings.
    """
    collar = collar_samples(settings)
    latencies: list[int | None] = []
    right: list[bool] = []
    masked = 0
    calm = calm_alarmed = inside_events = event_alarmed = 0
    for events, readings in played:
        found = find_alarms(readings, settings, elevated=point.elevated, high=point.high)
        stream_latencies, stream_right, stream_masked = match_alarms(events, found, collar)
        latencies += stream_latencies
        right += stream_right
        masked += stream_masked
        length = round(readings[-1].end_s * SAMPLE_RATE)
        parts = [Span(event.start, min(event.end + collar, length)) for event in events]
        inside = sum(part.end - part.start for part in parts)
        both = sum(_overlap(alarm, part) for alarm in found for part in parts)
        calm += length - inside
        inside_events += inside
        calm_alarmed += sum(alarm.end - alarm.start for alarm in found) - both
        event_alarmed += both
    known = [latency / SAMPLE_RATE for latency in latencies if latency is not None]
    lengths = [event.end - event.start for events, _ in played for event in events]
    hour = 3600.0 * SAMPLE_RATE
    return Detection(
        corpus=corpus,
        point=point.name,
        streams=len(played),
        events=len(latencies),
        event_s=float(np.mean(lengths)) / SAMPLE_RATE,
        found=len(known),
        at_onset=sum(latency <= collar / SAMPLE_RATE for latency in known),
        masked=masked,
        recall=len(known) / len(latencies),
        precision=float(np.mean(right)) if right else NAN,
        latency_median_s=float(np.median(known)) if known else NAN,
        latency_p95_s=float(np.percentile(known, 95)) if known else NAN,
        event_share=event_alarmed / inside_events,
        false=alarm_rate(right.count(False), calm / hour, calm_alarmed / hour),
    )


def _overlap(first: Span, second: Span) -> int:
    return max(0, min(first.end, second.end) - max(first.start, second.start))
