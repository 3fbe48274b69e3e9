"""Charts of predictions; each overlays the systems of one corpus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from edge_sser.train.evaluate.metrics import Floats
from edge_sser.train.evaluate.models import History
from edge_sser.train.evaluate.offline import Measures
from edge_sser.train.report.svg import Chart, Points, radar

CURVE_POINTS = 120  # of a drawn curve; more cannot be seen


@dataclass(frozen=True, slots=True)
class Series:
    """A system in a chart."""

    name: str
    style: str
    measures: Measures


def emotions(series: Sequence[Series]) -> list[str]:
    """Returns the emotions that any system was scored on: systems may have different clips of a corpus."""
    return list(dict.fromkeys(name for each in series for name in each.measures.emotions.classes))


def class_bars(series: Sequence[Series]) -> Markup:
    """Draws the recall of each emotion as bars."""
    classes = emotions(series)
    chart = Chart(
        "Recall of each emotion",
        x=(-0.5, len(classes) - 0.5),
        x_label="",
        y_label="recall",
        x_ticks=[(place, name[:5]) for place, name in enumerate(classes)],
    )
    width = 0.8 / len(series)
    for number, each in enumerate(series):
        scored = each.measures.emotions
        for name, recall in zip(scored.classes, scored.recall, strict=True):
            x = classes.index(name) + (number - (len(series) - 1) / 2) * width
            chart.bar(x, float(recall), width * 0.92, each.style, f"{each.name}: {name} {recall:.2f}")
    return chart.svg()


def recall_radar(series: Sequence[Series]) -> Markup:
    """Draws the recall of each emotion as a radar, for systems that were scored on all emotions."""
    classes = emotions(series)
    values = [
        (each.name, each.style, [float(recalls[name]) for name in classes])
        for each in series
        for recalls in [dict(zip(each.measures.emotions.classes, each.measures.emotions.recall, strict=True))]
        if recalls.keys() == set(classes)
    ]
    return radar("Recall of each emotion", classes, values)


def roc(series: Sequence[Series]) -> Markup:
    """Draws ROC curves of stress."""
    chart = Chart("ROC", x_label="false alarm rate", y_label="recall")
    chart.line([(0.0, 0.0), (1.0, 1.0)], "chance")
    for each in series:
        chart.line(thinned(*each.measures.curves.roc), each.style, each.name)
    return chart.svg()


def precision_recall(series: Sequence[Series]) -> Markup:
    """Draws precision-recall curves of stress; the share of stressed clips is what chance reaches."""
    chart = Chart("Precision and recall", x_label="recall", y_label="precision")
    chart.level(series[0].measures.prevalence, "chance", "share of stressed clips")
    for each in series:
        chart.line(thinned(*each.measures.curves.precision_recall), each.style, each.name)
    return chart.svg()


def reliability(measures: Measures) -> Markup:
    """Draws predicted against observed probability, before and after calibration; dots grow with the clips in a bin."""
    chart = Chart("Reliability", x_label="said probability of stress", y_label="stressed")
    chart.line([(0.0, 0.0), (1.0, 1.0)], "chance")
    for (said, found, clips), style in ((measures.reliability.raw, "b0"), (measures.reliability.calibrated, "s0")):
        points = list(zip(said.tolist(), found.tolist(), strict=True))
        chart.line([point for point, count in zip(points, clips, strict=True) if count], style)
        for point, count in zip(points, clips.tolist(), strict=True):
            if count:
                chart.dots([point], style, [f"{count} clips"], radius=2.0 + 5.0 * float(np.sqrt(count / clips.sum())))
    return chart.svg()


def speakers(measures: Measures) -> Markup:
    """Draws UA and AUROC of each speaker, in rising order of UA."""
    ordered = sorted(measures.speakers.groups, key=lambda group: (group.ua == group.ua, group.ua))
    chart = Chart(
        "Speakers",
        x=(-0.5, len(ordered) - 0.5),
        x_label=f"{len(ordered)} speakers, by UA",
        y_label="UA, AUROC",
        x_ticks=[],
    )
    chart.level(0.5, "chance", "chance of AUROC")
    for score, style in (("auroc", "s1"), ("ua", "s0")):
        points = [(place, getattr(group, score)) for place, group in enumerate(ordered)]
        names = [f"{each.name}: {score.upper()} {getattr(each, score):.2f}, {each.clips} clips" for each in ordered]
        chart.dots(points, style, names)
    return chart.svg()


def history(histories: Sequence[History], name: str) -> Markup:
    """Draws one value of training over the epochs, a line for each fold of a run."""
    known = [value for each in histories for value in each.values.get(name, ()) if value is not None]
    last = max(each.epochs[-1] for each in histories if each.epochs)
    low, high = min(known), max(known)
    margin = (high - low or abs(high) or 1.0) * 0.05
    chart = Chart(name, x=(0, last), y=(low - margin, high + margin), x_label="epoch", y_label="")
    for place, each in enumerate(histories):
        values = each.values.get(name, ())
        points = [(float(epoch), value) for epoch, value in zip(each.epochs, values, strict=False) if value is not None]
        chart.line(points, f"s{place % 6}", each.part)
    return chart.svg()


def thinned(x: Floats, y: Floats) -> Points:
    """Thins a curve to the points that can be seen; both ends stay."""
    places = np.unique(np.linspace(0, x.size - 1, min(CURVE_POINTS, x.size)).round().astype(int))
    return [(float(x[place]), float(y[place])) for place in places]
