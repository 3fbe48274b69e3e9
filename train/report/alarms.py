"""Section of the page on a system as an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from edge_sser.events import Level
from edge_sser.train.evaluate.alarms import Detection, Rate
from edge_sser.train.evaluate.metrics import Check, Sense
from edge_sser.train.evaluate.streaming import FALSE_EPISODES_AN_HOUR, SWEEP, Quiet, Streaming
from edge_sser.train.evaluate.streams import Sound
from edge_sser.train.report.blocks import (
    Block,
    Cell,
    Figure,
    Grid,
    Legend,
    Paragraph,
    Part,
    Section,
    Table,
    judged,
    number,
    percent,
)
from edge_sser.train.report.svg import Chart


def streaming(found: Streaming) -> Section:
    """Returns the section on streams: events found, delay, false alarms."""
    points = {point.name for point in found.points}
    parts: list[Block] = [
        Table(
            ["operating point", Level.ELEVATED.value, Level.HIGH.value],
            [
                [p.name, number(p.elevated), number(p.high if p.high is not None else (1 + p.elevated) / 2)]
                for p in found.points
            ],
            caption="Rolling stress at which a level begins",
        )
    ]
    if found.detections:
        parts.append(_detections(found, points))
    if found.quiet:
        parts.append(_quiet(found.quiet, points, {point.name for point in found.points if point.limited}))
    if found.compared:
        same = (
            f"Streaming equals offline: {found.compared} windows scored both ways, {found.differing} differ in any bit."
        )
        parts.append(Paragraph(same, "kept" if not found.differing else "missed"))
    return Section("streaming", f"{found.system} as an alarm", parts, link="Alarms")


def false_limits(found: Streaming) -> list[Check]:
    """False episodes an hour on calm speech, at the points that have a limit."""
    points = {point.name for point in found.points if point.limited}
    return [_false_limit(each.rate) for each in found.quiet if each.sound is Sound.CALM and each.point in points]


def _false_limit(rate: Rate) -> Check:
    return Check("false episodes an hour", rate.an_hour, Sense.AT_MOST, FALSE_EPISODES_AN_HOUR)


def _detections(found: Streaming, points: set[str]) -> Part:
    headers = (
        "streams of", "point", "events", "found %", "at onset %", "precision %", "latency s: median", "p95",
        "false alarms an hour", "events' time in alarm %", "calm time in alarm %", "masked",
    )  # fmt: skip
    rows = [_detection(detection) for detection in found.detections if detection.point in points]
    corpora = list(dict.fromkeys(detection.corpus for detection in found.sweep))
    alarms, time = _sweep(found.sweep, corpora)
    explain = (
        "One stream a speaker: calm and stressed clips by turns, all equally loud, over noise 20 dB below. Found: an "
        "alarm began in the event, or within window and hop (3.5 s) of its end; at onset: within 3.5 s of its start. "
        "Latency is from the event's start to the alarm. Masked events began while an alarm was on. "
        f"{found.left_out} speakers had too few clips for a stream."
    )
    pictures = [
        Figure("Time in alarm", [time], f"Thresholds {SWEEP[0]} to {SWEEP[-1]}, from the right."),
        Figure("Events found and false alarms", [alarms], "An alarm that never ends finds nothing new."),
    ]
    lines = Legend([(corpus, f"s{place}") for place, corpus in enumerate(corpora)])
    table = Table(headers, rows, style="words2")
    return Part("Assembled streams", [Paragraph(explain), table, lines, Grid(pictures)])


def _detection(found: Detection) -> list[Cell | str]:
    return [
        f"{found.corpus} ({found.streams})",
        found.point,
        f"{found.events} of {found.event_s:.0f} s",
        percent(found.recall, 0),
        percent(found.at_onset / found.events, 0),
        percent(found.precision, 0),
        number(found.latency_median_s, 1),
        number(found.latency_p95_s, 1),
        _rate(found.false),
        percent(found.event_share, 0),
        percent(found.false.share, 0),
        str(found.masked),
    ]


def _sweep(sweep: Sequence[Detection], corpora: Sequence[str]) -> tuple[Markup, Markup]:
    top = max([detection.false.an_hour for detection in sweep if detection.false.hours] or [1.0]) or 1.0
    alarms = Chart(
        "Recall and false alarms", x=(0.0, top * 1.05), x_label="false alarms an hour", y_label="events found"
    )
    calm, events = "share of calm time in alarm", "share of events' time in alarm"
    time = Chart("Recall and time in alarm", x_label=calm, y_label=events)
    for place, corpus in enumerate(corpora):
        own = [detection for detection in sweep if detection.corpus == corpus]
        names = [f"{corpus}, threshold {detection.point}" for detection in own]
        for chart, points in (
            (alarms, [(detection.false.an_hour, detection.recall) for detection in own]),
            (time, [(detection.false.share, detection.event_share) for detection in own]),
        ):
            chart.line(points, f"s{place}", corpus)
            chart.dots(points, f"s{place}", names)
    return alarms.svg(), time.svg()


def _quiet(quiet: Sequence[Quiet], points: set[str], limited: set[str]) -> Part:
    headers = ("recordings", "point", "hours", "episodes", "an hour [95 %]", "time in episodes %", "windows scored %")
    rows: list[list[Cell | str]] = []
    for each in quiet:
        if each.point not in points:
            continue
        rate = _rate(each.rate)
        rows.append(
            [f"{each.name} ({each.sound.value})", each.point, number(each.rate.hours, 2), str(each.rate.alarms),
             judged(rate, _false_limit(each.rate)) if each.sound is Sound.CALM and each.point in limited else rate,
             percent(each.rate.share), percent(each.speech_share, 0)]
        )  # fmt: skip
    chart = Chart(
        "Time in false episodes", x=(SWEEP[0], SWEEP[-1]), x_label="threshold of elevated", y_label="share of time"
    )
    lines: list[tuple[str, str]] = []  # name and style
    for (sound, name), group in groupby(quiet, lambda each: (each.sound, each.name)):
        line = [(float(each.point), each.rate.share) for each in group if each.point not in points]
        title, style = f"{name} ({sound.value})", f"s{len(lines) % 6}"
        chart.line(line, style, title)
        chart.dots(line, style, [f"{title}: {x}: {y:.2f}" for x, y in line])
        lines.append((title, style))
    explain = (
        "Recordings that hold no acted stress. Each calm recording is a stream of its own, and a folder of them is "
        "played end to end too, as noise is: smoothing over speakers hides short peaks. Each "
        "speaker of a corpus without stress is a stream, assembled as above and heard by the model of that fold. "
        f"Limit on calm speech: {FALSE_EPISODES_AN_HOUR:.0f} episodes an hour at the point that catches 70 % of the "
        "stressed clips."
    )
    picture = Figure("Time in false episodes by threshold", [chart.svg()])
    table = Table(headers, rows, style="words2")
    return Part("Calm speech and noise", [Paragraph(explain), table, Legend(lines), Grid([picture])])


def _rate(rate: Rate) -> str:
    if not rate.hours:
        return "\N{EN DASH}"
    return f"{rate.an_hour:.1f} [{rate.low:.1f}, {rate.high:.1f}]"
