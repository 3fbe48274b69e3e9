"""Section of the page on one corpus."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from edge_sser.train.evaluate.groups import MIN_CLIPS, Gaps
from edge_sser.train.evaluate.metrics import mean_known
from edge_sser.train.evaluate.offline import Decisions, Measures
from edge_sser.train.evaluate.systems import System
from edge_sser.train.report import charts
from edge_sser.train.report.blocks import (
    Block,
    Cell,
    Figure,
    Grid,
    Legend,
    Part,
    Section,
    Table,
    judged,
    limit,
    mark,
    number,
    percent,
    signed,
)
from edge_sser.train.report.charts import Series
from edge_sser.train.report.sections import styles


def corpus(name: str, systems: Sequence[System]) -> Section:
    """Returns the section on one corpus: curves, folds, confusion, speakers and sexes."""
    chosen = [system for system in systems if name in system.measures]
    colours = styles(systems)
    series = [Series(system.name, colours[system.name], system.measures[name]) for system in chosen]
    pairs = zip(series, chosen, strict=True)
    real = [(each, name in system.origin.heard) for each, system in pairs if not system.origin.baseline]
    figures = []
    if charts.emotions(series):
        figures.append(Figure("Recall of each emotion", [charts.class_bars(series)]))
    if len(charts.emotions(series)) > 2:
        figures.append(Figure("The same as a radar", [charts.recall_radar(series)]))
    if 0.0 < series[0].measures.prevalence < 1.0:  # a curve needs stressed and other clips
        figures.append(Figure("ROC of stress", [charts.roc(series)]))
        note = "Dotted: the share of stressed clips."
        figures.append(Figure("Precision and recall of stress", [charts.precision_recall(series)], note))
    for each, _ in real:
        note = "Grey: as the model says it. Coloured: after temperature and bias from the other folds."
        figures.append(Figure(f"Reliability: {each.name}", [charts.reliability(each.measures)], note))
        if _known(value for group in each.measures.speakers.groups for value in (group.ua, group.auroc)):
            note = "UA in the first colour, AUROC in the second."
            figures.append(Figure(f"Speakers: {each.name}", [charts.speakers(each.measures)], note))
    blocks: list[Block] = [Legend([(each.name, each.style) for each in series]), Grid(figures)]
    repeated = [system.repeats[name] for system in chosen]
    if _known(score for repeats in repeated for row in (*repeats.ua, *repeats.auroc) for score in row):
        blocks.append(Part("Folds and seeds", [_folds(name, chosen)]))
    blocks += [_details(each, heard) for each, heard in real]
    return Section(f"corpus-{name}", name, blocks)


def _known(values: Iterable[float]) -> bool:
    return not math.isnan(mean_known(values))


def _details(series: Series, heard: bool) -> Part:
    measures = series.measures
    of_row = "Rows are the truth, in % of the row."
    alike = f"{_within(measures)} Speakers with under {MIN_CLIPS} clips are not held to the limits."
    blocks = [
        Figure("Emotions: what was taken for what", [_confusion(measures.emotions)], of_row),
        Figure("Stress at calibrated probability 0.5", [_confusion(measures.stress)], of_row),
        Figure("By class", [_classes(measures)]),
        Figure("Whole clips by threshold", [_operating(measures)], "Thresholds of the calibrated probability."),
        Figure("Every speaker alike", [_gaps(measures.speakers)], alike),
    ]
    if measures.sexes is not None:
        blocks.append(Figure("Women and men alike", [_groups(measures.sexes), _gaps(measures.sexes)]))
    if measures.ordinal:
        rows: list[list[Cell | str]] = []
        for rise in measures.ordinal:
            change = f"{signed(rise.strong - rise.normal)} {mark(rise.passed)}"
            cells = [rise.emotion, number(rise.normal), number(rise.strong)]
            rows.append([*cells, Cell(change, "kept" if rise.passed else "missed"), percent(rise.speakers, 0)])
        headers = ["emotion", "normal", "strong", "rise", "% of speakers"]
        note = "All: the emotions that were acted at both intensities."
        blocks.append(Figure("Mean stress must rise with intensity", [Table(headers, rows)], note))
    title = f"{series.name} (known voices)" if heard else series.name
    return Part(title, [Grid(blocks, "wide")])


def _confusion(decisions: Decisions) -> Table:
    totals = decisions.matrix.sum(axis=1)
    rows: list[list[Cell | str]] = []
    for place, name in enumerate(decisions.classes):
        shares = decisions.matrix[place] / max(int(totals[place]), 1)
        row: list[Cell | str] = [name]
        row += [
            Cell(f"{100.0 * share:.0f}", heat=float(share), hint=f"{name} taken for {other}: {count} clips")
            for share, other, count in zip(shares, decisions.classes, decisions.matrix[place], strict=True)
        ]
        rows.append(row)
    headers = [name[:4] if len(decisions.classes) > 2 else name for name in decisions.classes]
    return Table(["", *headers], rows, style="confusion")


def _classes(measures: Measures) -> Table:
    rows = [
        [name, str(int(clips)), percent(float(recall)), percent(float(precision))]
        for decisions in (measures.emotions, measures.stress)
        for name, clips, recall, precision in zip(
            decisions.classes, decisions.matrix.sum(axis=1), decisions.recall, decisions.precision, strict=True
        )
    ]
    return Table(["class", "clips", "recall %", "precision %"], rows)


def _operating(measures: Measures) -> Table:
    rows = [[f"{each.threshold:.1f}", percent(each.found), percent(each.false)] for each in measures.operating]
    return Table(["at least", "stressed clips found %", "others called so %"], rows)


def _gaps(gaps: Gaps) -> Table:
    rows: list[list[Cell | str]] = [
        [check.name, judged(number(check.value), check), limit(check)] for check in gaps.checks
    ]
    return Table(["gap", "found", "limit"], rows)


def _groups(gaps: Gaps) -> Table:
    names = {"F": "women", "M": "men"}
    rows = [
        [names.get(each.name, each.name), str(each.clips), percent(each.ua), number(each.auroc), percent(each.uar)]
        for each in gaps.groups
    ]
    return Table(["", "clips", "UA %", "AUROC", "UAR %"], rows)


def _within(measures: Measures) -> str:
    scored = [group.ua for group in measures.speakers.groups if group.ua == group.ua]
    if not scored:
        return "No emotion is scored."
    low, middle, high = np.percentile(scored, [0, 50, 100])
    return f"UA of speakers: {percent(low, 0)} to {percent(high, 0)} %, median {percent(middle, 0)} %."


def _folds(name: str, systems: Sequence[System]) -> Table:
    folds = sorted({fold for system in systems for fold in system.repeats[name].folds})
    rows: list[list[Cell | str]] = []
    for system in systems:
        repeats = system.repeats[name]
        for title, values, show in (("UA %", repeats.ua, percent), ("AUROC", repeats.auroc, number)):
            for seed, row in zip(repeats.seeds, values, strict=True):
                by_fold = dict(zip(repeats.folds, row, strict=True))
                worst = min((value for value in row if value == value), default=float("nan"))
                label = f"{system.name}{f', seed {seed}' if len(repeats.seeds) > 1 else ''}: {title}"
                cells: list[Cell | str] = [Cell(label, "baseline" if system.origin.baseline else "")]
                cells += [
                    Cell(show(by_fold[fold]), "worst" if by_fold[fold] == worst and not system.origin.baseline else "")
                    if fold in by_fold
                    else "\N{EN DASH}"
                    for fold in folds
                ]
                cells.append(show(mean_known(row)))
                rows.append(cells)
            mean, _, spread = repeats.summary(values)
            if len(repeats.seeds) > 1:
                rows.append(
                    [f"{system.name}, {len(repeats.seeds)} seeds: {title}", *[""] * len(folds),
                     f"{show(mean)} \N{PLUS-MINUS SIGN} {show(spread)}"]
                )  # fmt: skip
    return Table(["", *[f"fold {fold}" for fold in folds], "mean"], rows)
