"""Sections of the page that need predictions alone: scores, transfer, training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from edge_sser.train.evaluate.metrics import Interval
from edge_sser.train.evaluate.models import History
from edge_sser.train.evaluate.systems import Cell as MatrixCell
from edge_sser.train.evaluate.systems import System, matrix_rows
from edge_sser.train.report import charts
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
    number,
    percent,
)


def corpora(systems: Sequence[System]) -> list[str]:
    """Returns the corpora of all systems in alphabetical order."""
    return sorted({corpus for system in systems for corpus in system.measures})


def styles(systems: Sequence[System]) -> dict[str, str]:
    """Returns the style of each system: a colour, or grey for a baseline."""
    colours = cycle(f"s{number}" for number in range(6))
    greys = cycle(f"b{number}" for number in range(3))
    return {system.name: next(greys if system.origin.baseline else colours) for system in systems}


def scores(systems: Sequence[System]) -> Section:
    """Returns the headline: every system on every corpus, with the baselines."""
    headers = (
        "system", "UA %", "worst fold", "UAP %", "stress AUROC", "worst fold", "AUPRC", "UAR %", "ECE raw",
        "ECE calibrated",
    )  # fmt: skip
    parts: list[Block] = []
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
                    Cell(_name(system, corpus), "baseline" if system.origin.baseline else ""),
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
            f"{first.scores.classes} emotions; {percent(first.prevalence)} % of the {first.scores.judged} judged clips "
            "are stressed, which is what AUPRC would be by chance"
        )
        parts.append(Part(corpus, [Paragraph(about, "about"), Table(headers, rows)]))
    explain = (
        "Means over folds, and over seeds where a system has several; in brackets the 95 % bootstrap interval over "
        "speakers of the same score on all clips together. Grey rows are the trivial baselines."
    )
    return Section("scores", "Scores", [Paragraph(explain), *parts])


def transfer(cells: Sequence[MatrixCell]) -> Section:
    """Returns the table of corpora trained on and tested on."""
    tested = sorted({cell.tested_on for cell in cells})
    rows: list[list[Cell | str]] = []
    for found in matrix_rows(cells):
        trained_on = ", ".join(found.trained_on) if found.trained_on is not None else "not known"
        row: list[Cell | str] = [", ".join(found.systems), trained_on]
        row += [_transfer_cell(found.cells[corpus]) if corpus in found.cells else "\N{EN DASH}" for corpus in tested]
        rows.append(row)
    explain = (
        "Stress AUROC, mean over folds and seeds (worst fold), and that of the level meter on the same corpus after "
        "the slash. Framed: nothing of the corpus was trained on. Struck out: these very speakers were heard in "
        "training, so the figure says nothing of strangers."
    )
    found_by = Table(["system", "trained on", *tested], rows, style="matrix")
    return Section("matrix", "Trained on, tested on", [Paragraph(explain), found_by])


def histories(found: Sequence[History]) -> Section | None:
    """Returns the training curves of a run; None without a history."""
    names = sorted(
        {name for each in found for name, values in each.values.items() if any(v is not None for v in values)}
    )
    if not names:
        return None
    pictures = [Figure(name, [charts.history(found, name)]) for name in names]
    lines = Legend([(each.part, f"s{place % 6}") for place, each in enumerate(found)])
    return Section("training", "Training", [lines, Grid(pictures)])


def _transfer_cell(cell: MatrixCell) -> Cell:
    style = "heard" if cell.heard else "stranger" if cell.stranger else ""
    beats = cell.auroc > cell.level
    hint = "heard in training" if cell.heard else "new corpus" if cell.stranger else "new speakers"
    text = f"{number(cell.auroc)} ({number(cell.worst)}) / {number(cell.level)}"
    return Cell(text, style + (" missed" if cell.level == cell.level and not beats else ""), hint=hint)


def _name(system: System, corpus: str) -> str:
    seeds = f", {len(system.evaluations)} seeds" if len(system.evaluations) > 1 else ""
    return f"{system.name}{seeds}{' (known voices)' if corpus in system.origin.heard else ''}"


def _between(interval: Interval, scale: float, digits: int) -> str:
    if interval.low != interval.low:
        return ""
    low, high = (number(value * scale, digits) for value in (interval.low, interval.high))
    return f" [{low}, {high}]"
