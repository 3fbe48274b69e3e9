"""The parts of the page that need audio: robustness, alarms, seconds of speech."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from edge_sser.events import Level

from ..battery.alarms import Detection, Rate
from ..battery.conditions import SNRS_DB
from ..battery.limits import Check, Sense
from ..battery.robustness import Effect, Robustness
from ..battery.seconds import Share
from ..battery.sounds import Sound
from ..battery.streaming import FALSE_EPISODES_AN_HOUR, SWEEP, Quiet, Streaming
from .markup import (
    Cell,
    figure,
    grid,
    judged,
    legend,
    notes,
    number,
    paragraph,
    part,
    percent,
    section,
    signed,
    table,
)
from .svg import Chart


def robustness(found: Robustness) -> str:
    """What distortions do."""
    headers = ("condition", "UA", "emotions unchanged %", "stress AUROC", "stress UAR", "stress unchanged %")
    parts = []
    for clean in found.clean:
        effects = [effect for effect in found.effects if effect.corpus == clean.corpus]
        rows = [_effect(effect) for effect in effects]
        about = (
            f"{clean.clips} clips; as they are: UA {percent(clean.ua)} %, stress AUROC {number(clean.auroc)}, "
            f"UAR {percent(clean.uar)} %"
        )
        pictures = [
            figure("UA by signal-to-noise ratio", _by_snr(effects, "ua", clean.ua)),
            figure("Stress AUROC by signal-to-noise ratio", _by_snr(effects, "auroc", clean.auroc)),
        ]
        kinds = legend([(kind, f"s{place}") for place, kind in enumerate(_noises(effects))])
        parts.append(part(clean.corpus, paragraph(about, "about"), table(headers, rows), kinds, grid(pictures)))
    explain = (
        "Change of each score, and share of the decisions that stay as they were. A cell with a mark has a limit, "
        "which pointing at it tells."
    )
    missing = notes([f"Not measured: {line}" for line in found.missing])
    return section("robustness", f"Robustness of {found.system}", paragraph(explain), missing, *parts)


def streaming(found: Streaming) -> str:
    """The system as an alarm."""
    points = {point.name for point in found.points}
    parts = [
        table(
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
        parts.append(_quiet(found.quiet, points))
    if found.compared:
        same = (
            f"Streaming equals offline: {found.compared} windows scored both ways, {found.differing} differ in any bit."
        )
        parts.append(paragraph(same, "kept" if not found.differing else "missed"))
    return section("streaming", f"{found.system} as an alarm", *parts)


def seconds(shares: Sequence[Share]) -> str:
    """Scores by the seconds of speech in a window."""
    corpora = list(dict.fromkeys(share.corpus for share in shares))
    pictures = []
    for title, name in (("Stress AUROC", "auroc"), ("Stress UAR", "uar"), ("UA of the emotions", "ua"),
                        ("Mean confidence of a reading", "confidence")):  # fmt: skip
        low = 0.0 if name in ("ua", "confidence") else 0.4
        chart = Chart(title, x=(0.0, 3.0), y=(low, 1.0), x_label="seconds of speech in a window of 3 s", y_label=title)
        for place, corpus in enumerate(corpora):
            points = [(share.seconds, getattr(share, name)) for share in shares if share.corpus == corpus]
            chart.line(points, f"s{place}", corpus)
            chart.dots(points, f"s{place}", [f"{corpus}: {y:.2f}" for _, y in points])
        pictures.append(figure(title, chart.svg()))
    rows = [
        [share.corpus, f"{share.seconds:g}", str(share.windows), number(share.auroc), percent(share.uar),
         percent(share.ua), number(share.confidence), number(share.ece)]
        for share in shares
    ]  # fmt: skip
    headers = ("corpus", "speech s", "windows", "stress AUROC", "UAR %", "UA %", "confidence", "ECE")
    explain = (
        "Utterances in noise 20 dB below them; the device's own window slides over them, its own gate counts the "
        "speech. Windows of one utterance count one by one."
    )
    return section(
        "seconds",
        "Seconds of speech in a window",
        paragraph(explain),
        legend([(corpus, f"s{place}") for place, corpus in enumerate(corpora)]),
        grid(pictures),
        table(headers, rows),
    )


def false_limit(rate: Rate) -> Check:
    """False episodes an hour on calm speech, with their limit."""
    return Check("false episodes an hour", rate.an_hour, Sense.AT_MOST, FALSE_EPISODES_AN_HOUR)


def _effect(effect: Effect) -> list[Cell | str]:
    def worst(*names: str) -> Check | None:
        """The check of a cell; of two the one that was missed."""
        found = [check for check in effect.checks if check.name in names]
        return next((check for check in found if check.passed is False), found[0] if found else None)

    return [
        effect.condition,
        judged(signed(effect.ua_change), worst("UA change", "UA moved by")),
        judged(percent(effect.emotions_unchanged), worst("emotions unchanged")),
        judged(signed(effect.auroc_change), worst("AUROC moved by")),
        judged(signed(effect.uar_change), worst("UAR change of stress")),
        judged(percent(effect.stress_unchanged), worst("stress unchanged")),
    ]


def _noises(effects: Sequence[Effect]) -> list[str]:
    """Kinds of noise that were tried at several ratios."""
    kinds = [
        effect.condition.rpartition(", ")[0] for effect in effects if effect.condition.endswith(f", {SNRS_DB[-1]} dB")
    ]
    return list(dict.fromkeys(kinds))


def _by_snr(effects: Sequence[Effect], name: str, clean: float) -> str:
    ticks = [*((place, f"{snr}") for place, snr in enumerate(reversed(SNRS_DB))), (len(SNRS_DB), "clean")]
    chart = Chart(
        f"{name} by SNR", x=(0.0, float(len(SNRS_DB))), y=(0.4 if name == "auroc" else 0.0, 1.0), x_label="SNR, dB",
        y_label=name.upper(), x_ticks=[(float(place), text) for place, text in ticks],
    )  # fmt: skip
    for number_, kind in enumerate(_noises(effects)):
        points = []
        for place, snr in enumerate(reversed(SNRS_DB)):
            effect = next(effect for effect in effects if effect.condition == f"{kind}, {snr} dB")
            points.append((float(place), clean + getattr(effect, f"{name}_change")))
        points.append((float(len(SNRS_DB)), clean))
        chart.line(points, f"s{number_}", kind)
        chart.dots(points, f"s{number_}")
    return chart.svg()


def _detections(found: Streaming, points: set[str]) -> str:
    headers = (
        "streams of", "point", "streams", "events", "found %", "at onset %", "precision %", "latency s, median", "p95",
        "false alarms an hour", "calm time in alarm %", "masked",
    )  # fmt: skip
    rows = [
        [detection.corpus, detection.point, str(detection.streams), f"{detection.events} of {detection.event_s:.0f} s",
         percent(detection.recall, 0), percent(detection.at_onset / detection.events, 0),
         percent(detection.precision, 0), number(detection.latency_median_s, 1), number(detection.latency_p95_s, 1),
         _rate(detection.false), percent(detection.false.share, 0), str(detection.masked)]
        for detection in found.detections
        if detection.point in points
    ]  # fmt: skip
    corpora = list(dict.fromkeys(detection.corpus for detection in found.sweep))
    alarms, time = _sweep(found.sweep, corpora)
    explain = (
        "One stream a speaker: calm and stressed clips by turns, all equally loud, over noise 20 dB below. Found: an "
        "alarm began in the event, or within window and hop (3.5 s) of its end; at onset: within 3.5 s of its start. "
        "Latency is from the event's start to the alarm. Masked events began while an alarm was on. "
        f"{found.left_out} speakers had too few clips for a stream."
    )
    return part(
        "Assembled streams",
        paragraph(explain),
        table(headers, rows),
        legend([(corpus, f"s{place}") for place, corpus in enumerate(corpora)]),
        grid(
            [
                figure(
                    "Events found and false alarms", alarms, f"Thresholds {SWEEP[0]} to {SWEEP[-1]}, from the right."
                ),
                figure("Events found and calm time in alarm", time),
            ]
        ),
    )


def _sweep(sweep: Sequence[Detection], corpora: Sequence[str]) -> tuple[str, str]:
    top = max([detection.false.an_hour for detection in sweep if detection.false.hours] or [1.0]) or 1.0
    alarms = Chart(
        "Recall and false alarms",
        x=(0.0, top * 1.05),
        y=(0.0, 1.0),
        x_label="false alarms an hour",
        y_label="events found",
    )
    time = Chart(
        "Recall and time in alarm",
        x=(0.0, 1.0),
        y=(0.0, 1.0),
        x_label="share of calm time in alarm",
        y_label="events found",
    )
    for place, corpus in enumerate(corpora):
        own = [detection for detection in sweep if detection.corpus == corpus]
        names = [f"{corpus}, threshold {detection.point}" for detection in own]
        for chart, points in (
            (alarms, [(detection.false.an_hour, detection.recall) for detection in own]),
            (time, [(detection.false.share, detection.recall) for detection in own]),
        ):
            chart.line(points, f"s{place}", corpus)
            chart.dots(points, f"s{place}", names)
    return alarms.svg(), time.svg()


def _quiet(quiet: Sequence[Quiet], points: set[str]) -> str:
    headers = ("recordings", "point", "hours", "episodes", "an hour [95 %]", "time in episodes %", "windows scored %")
    rows: list[list[Cell | str]] = []
    for each in quiet:
        if each.point not in points:
            continue
        rate = _rate(each.rate)
        rows.append(
            [f"{each.name} ({each.sound.value})", each.point, number(each.rate.hours, 2), str(each.rate.alarms),
             judged(rate, false_limit(each.rate)) if each.sound is Sound.CALM else rate,
             percent(each.rate.share), percent(each.speech_share, 0)]
        )  # fmt: skip
    sweep = []
    names: list[str] = []
    for (sound, name), group in groupby(quiet, lambda each: (each.sound, each.name)):
        points_ = [(float(each.point), each.rate.share) for each in group if each.point not in points]
        sweep.append(points_)
        names.append(f"{name} ({sound.value})")
    chart = Chart(
        "Time in false episodes",
        x=(SWEEP[0], SWEEP[-1]),
        y=(0.0, 1.0),
        x_label="threshold of elevated",
        y_label="share of time",
    )
    for place, (name, line) in enumerate(zip(names, sweep, strict=True)):
        chart.line(line, f"s{place % 6}", name)
        chart.dots(line, f"s{place % 6}", [f"{name}: {x}: {y:.2f}" for x, y in line])
    explain = (
        "Recordings that hold no acted stress. Each calm recording is a stream of its own, noise is played end to end. "
        f"Limit on calm speech: {FALSE_EPISODES_AN_HOUR:.0f} episodes an hour at the point that catches 70 % of the "
        "stressed clips."
    )
    return part(
        "Calm speech and noise",
        paragraph(explain),
        table(headers, rows),
        legend([(name, f"s{place % 6}") for place, name in enumerate(names)]),
        grid([figure("Time in false episodes by threshold", chart.svg())]),
    )


def _rate(rate: Rate) -> str:
    if not rate.hours:
        return "\N{EN DASH}"
    return f"{rate.an_hour:.1f} [{rate.low:.1f}, {rate.high:.1f}]"
