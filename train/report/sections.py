"""The parts of the page that predictions alone give."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..battery.groups import Gaps
from ..battery.history import History
from ..battery.offline import Decisions, Measures
from ..battery.systems import Cell as MatrixCell
from ..battery.systems import System
from ..bootstrap import Interval
from . import charts
from .charts import Series
from .markup import (
    Cell,
    figure,
    grid,
    judged,
    legend,
    limit,
    number,
    paragraph,
    part,
    percent,
    section,
    signed,
    table,
    verdict,
)


def corpora(systems: Sequence[System]) -> list[str]:
    """The corpora that occur, in alphabetical order."""
    return sorted({corpus for system in systems for corpus in system.measures})


def styles(systems: Sequence[System]) -> dict[str, str]:
    """A colour for each system, greys for the baselines."""
    out: dict[str, str] = {}
    colours = greys = 0
    for system in systems:
        if system.origin.baseline:
            out[system.name] = f"b{greys % 3}"
            greys += 1
        else:
            out[system.name] = f"s{colours % 6}"
            colours += 1
    return out


def scores(systems: Sequence[System]) -> str:
    """The headline: every system on every corpus, the baselines beside it."""
    headers = (
        "system", "UA %", "worst fold", "UAP %", "stress AUROC", "worst fold", "AUPRC", "UAR %", "ECE raw",
        "ECE calibrated",
    )  # fmt: skip
    parts = []
    for corpus in corpora(systems):
        rows: list[list[Cell | str]] = []
        for system in systems:
            if corpus not in system.measures:
                continue
            measures, repeats = system.measures[corpus], system.repeats[corpus]
            ua, ua_worst, _ = repeats.summary(repeats.ua)
            area, area_worst, _ = repeats.summary(repeats.auroc)
            pooled = measures.intervals
            rows.append(
                [
                    Cell(_name(system), "baseline" if system.origin.baseline else ""),
                    f"{percent(ua)}{_between(pooled.ua, 100.0, 0)}",
                    percent(ua_worst),
                    percent(measures.emotions.uap),
                    f"{number(area)}{_between(pooled.auroc, 1.0, 2)}",
                    number(area_worst),
                    f"{number(measures.auprc)}{_between(pooled.auprc, 1.0, 2)}",
                    f"{percent(measures.scores.uar)}{_between(pooled.uar, 100.0, 0)}",
                    number(measures.scores.ece_raw),
                    number(measures.scores.ece),
                ]
            )
        first = next(system.measures[corpus] for system in systems if corpus in system.measures)
        about = (
            f"{first.scores.clips} clips, {first.scores.speakers} speakers, {first.scores.folds} folds, "
            f"{first.scores.classes} emotions; {percent(first.prevalence)} % of the judged clips are stressed, "
            "which is what AUPRC would be by chance"
        )
        parts.append(part(corpus, paragraph(about, "about"), table(headers, rows)))
    explain = (
        "Means over folds, and over seeds where a system has several; in brackets the 95 % bootstrap interval over "
        "speakers of the same score on all clips together. Grey rows are the trivial baselines."
    )
    return section("scores", "Scores", paragraph(explain), *parts)


def transfer(cells: Sequence[MatrixCell]) -> str:
    """Trained on, tested on."""
    tested = sorted({cell.tested_on for cell in cells})
    rows: list[list[Cell | str]] = []
    for system in dict.fromkeys(cell.system for cell in cells):
        own = {cell.tested_on: cell for cell in cells if cell.system == system}
        trained_on = next(iter(own.values())).trained_on
        row: list[Cell | str] = [system, ", ".join(trained_on) if trained_on is not None else "not known"]
        row += [_transfer_cell(own[corpus]) if corpus in own else "\N{EN DASH}" for corpus in tested]
        rows.append(row)
    explain = (
        "Stress AUROC, mean over folds and seeds (worst fold), and that of the level meter on the same corpus after "
        "the slash. Framed: nothing of the corpus was trained on. Struck out: these very speakers were heard in "
        "training, so the figure says nothing of strangers."
    )
    return section(
        "matrix",
        "Trained on, tested on",
        paragraph(explain),
        table(["system", "trained on", *tested], rows, style="matrix"),
    )


def corpus(name: str, systems: Sequence[System]) -> str:
    """One corpus in detail."""
    chosen = [system for system in systems if name in system.measures]
    colours = styles(systems)
    series = [Series(system.name, colours[system.name], system.measures[name]) for system in chosen]
    real = [each for each, system in zip(series, chosen, strict=True) if not system.origin.baseline] or series[:1]
    figures = [
        figure("Recall of each emotion", charts.class_bars(series)),
        *(
            [figure("The same as a radar", charts.recall_radar(series))]
            if len(real[0].measures.emotions.classes) > 2
            else []
        ),
        figure("ROC of stress", charts.roc(series)),
        figure(
            "Precision and recall of stress", charts.precision_recall(series), "Dotted: the share of stressed clips."
        ),
    ]
    for each in real:
        figures.append(
            figure(
                f"Reliability: {each.name}", charts.reliability(each.measures),
                "Grey: as the model says it. Coloured: after temperature and bias from the other folds.",
            )
        )  # fmt: skip
        figures.append(
            figure(
                f"Speakers: {each.name}", charts.speakers(each.measures), "UA in the first colour, AUROC in the second."
            )
        )
    details = [_details(each) for each in real]
    return section(
        f"corpus-{name}",
        name,
        legend([(each.name, each.style) for each in series]),
        grid(figures),
        part("Folds and seeds", _folds(name, chosen)),
        *details,
    )


def histories(found: Sequence[History]) -> str:
    """How the run learned; nothing when it left no trace."""
    names = sorted(
        {name for each in found for name, values in each.values.items() if any(v is not None for v in values)}
    )
    if not names:
        return ""
    pictures = [figure(name, charts.history(found, name)) for name in names]
    lines = legend([(each.part, f"s{place % 6}") for place, each in enumerate(found)])
    return section("training", "Training", lines, grid(pictures))


def _details(series: Series) -> str:
    measures = series.measures
    blocks = [
        figure(
            "Emotions: what was taken for what", _confusion(measures.emotions), "Rows are the truth, in % of the row."
        ),
        figure(
            "Stress at calibrated probability 0.5", _confusion(measures.stress), "Rows are the truth, in % of the row."
        ),
        figure("By class", _classes(measures)),
        figure(
            "Every speaker alike",
            _gaps(measures.speakers),
            f"{_within(measures)} Speakers with under 10 clips not held.",
        ),
    ]
    if measures.sexes is not None:
        blocks.append(figure("Women and men alike", _groups(measures.sexes) + _gaps(measures.sexes)))
    if measures.ordinal:
        rows: list[list[Cell | str]] = [
            [rise.emotion, number(rise.normal), number(rise.strong),
             Cell(f"{signed(rise.strong - rise.normal)} {verdict(rise.passed)}", "kept" if rise.passed else "missed"),
             percent(rise.speakers, 0)]
            for rise in measures.ordinal
        ]  # fmt: skip
        blocks.append(
            figure(
                "Mean stress must rise with intensity",
                table(["emotion", "normal", "strong", "rise", "% of speakers"], rows),
                "All: the emotions that were acted at both intensities.",
            )
        )
    return part(series.name, f'<div class="figures wide">{"".join(blocks)}</div>')


def _confusion(decisions: Decisions) -> str:
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
    return table(
        ["", *[name[:4] if len(decisions.classes) > 2 else name for name in decisions.classes]], rows, style="confusion"
    )


def _classes(measures: Measures) -> str:
    rows = [
        [name, str(int(clips)), percent(float(recall)), percent(float(precision))]
        for decisions in (measures.emotions, measures.stress)
        for name, clips, recall, precision in zip(
            decisions.classes, decisions.matrix.sum(axis=1), decisions.recall, decisions.precision, strict=True
        )
    ]
    return table(["class", "clips", "recall %", "precision %"], rows)


def _gaps(gaps: Gaps) -> str:
    rows: list[list[Cell | str]] = [
        [check.name, judged(number(check.value), check), limit(check)] for check in gaps.checks
    ]
    return table(["gap", "found", "limit"], rows)


def _groups(gaps: Gaps) -> str:
    names = {"F": "women", "M": "men"}
    rows = [
        [
            names.get(group.name, group.name),
            str(group.clips),
            percent(group.ua),
            number(group.auroc),
            percent(group.uar),
        ]
        for group in gaps.groups
    ]
    return table(["", "clips", "UA %", "AUROC", "UAR %"], rows)


def _within(measures: Measures) -> str:
    scored = [group.ua for group in measures.speakers.groups]
    low, middle, high = np.percentile(scored, [0, 50, 100])
    return f"UA of speakers: {percent(low, 0)} to {percent(high, 0)} %, median {percent(middle, 0)} %."


def _folds(name: str, systems: Sequence[System]) -> str:
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
                cells.append(show(float(np.nanmean(row))))
                rows.append(cells)
            mean, _, spread = repeats.summary(values)
            if len(repeats.seeds) > 1:
                rows.append(
                    [f"{system.name}, {len(repeats.seeds)} seeds: {title}", *[""] * len(folds),
                     f"{show(mean)} \N{PLUS-MINUS SIGN} {show(spread)}"]
                )  # fmt: skip
    return table(["", *[f"fold {fold}" for fold in folds], "mean"], rows)


def _transfer_cell(cell: MatrixCell) -> Cell:
    style = "heard" if cell.heard else "stranger" if cell.stranger else ""
    beats = cell.auroc > cell.level
    hint = "heard in training" if cell.heard else "new corpus" if cell.stranger else "new speakers"
    text = f"{number(cell.auroc)} ({number(cell.worst)}) / {number(cell.level)}"
    return Cell(text, style + (" missed" if cell.level == cell.level and not beats else ""), hint=hint)


def _name(system: System) -> str:
    return system.name if len(system.evaluations) == 1 else f"{system.name}, {len(system.evaluations)} seeds"


def _between(interval: Interval, scale: float, digits: int) -> str:
    if interval.low != interval.low:
        return ""
    low, high = (number(value * scale, digits) for value in (interval.low, interval.high))
    return f" [{low}, {high}]"
