"""Page and pictures of `train compare`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from edge_sser.errors import TrainingError
from edge_sser.files import write_file
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.metrics import auroc, confusion, macro_roc_curve, mean_known, recalls
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.references.compare import PRESETS, ComparedSystem, Comparison
from edge_sser.train.references.compare_table import (
    PROTOCOL,
    TextTable,
    cost_table,
    leaky_table,
    ranked,
    remarks,
    score_tables,
)
from edge_sser.train.references.goals import claims
from edge_sser.train.references.result_files import Kind
from edge_sser.train.report import charts
from edge_sser.train.report.blocks import (
    Block,
    Cell,
    Figure,
    Grid,
    Legend,
    Notes,
    Paragraph,
    Part,
    Section,
    Table,
    number,
)
from edge_sser.train.report.page import render, style_sheet
from edge_sser.train.report.svg import WIDTH, Chart, bar_rows, heat_map, radar

PICTURED = "ravdess"  # corpus of the pictures of a system that was scored on it
METRICS = (("UA", "s0"), ("WA", "s1"), ("macro F1", "s2"), ("stress AUROC", "s3"))
OURS_STYLE, THEIR_STYLE = "b0", "s1"
LINE = 14  # height of a line of a legend in a picture file

Series = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart for the page and for a file.

    Attributes:
        file: name without suffix.
        title: above the chart.
        drawing: inline SVG.
        legend: name and style of each line.
    """

    file: str
    title: str
    drawing: Markup
    legend: Series = ()


def comparison_page(comparison: Comparison) -> str:
    """Returns the whole document."""
    leaky, cost = leaky_table(comparison), cost_table(comparison)
    explain = (
        "The same system on the same recordings: under the protocol of its original, whose test shares speakers with "
        "its training, and on speakers that it never heard. The change is how much of a figure is leak."
    )
    sections = []
    if leaky.rows:
        blocks: list[Block] = [Paragraph(explain), _table(leaky), *_figures([leaky_picture(comparison)])]
        sections.append(Section("leaky", leaky.title, blocks))
    sections.append(_goals(comparison))
    cost_note = "One window on one thread, without the front end. Published: as the original says, by its protocol."
    sections.append(
        Section("cost", cost.title, [Paragraph(cost_note), _table(cost, "references"), Notes([*remarks(comparison)])])
    )
    note = (
        "Means over folds and seeds; beside them the worst fold and the 95 % bootstrap interval over speakers of the "
        "same score on all clips together. A system of some folds only stands beside ours on these folds."
    )
    for table in score_tables(comparison):
        figures = _figures([metric_bars(comparison, table.title)])
        sections.append(Section(f"corpus-{table.title}", table.title, [Paragraph(note), _table(table), *figures]))
    contrast = hop_contrast(comparison)
    if contrast is not None:
        sections.append(Section("hops", contrast.title, _figures([contrast])))
    pictured = [system for system in comparison.systems if _pictured(system)]
    parts = [Part(_title(system), _figures(system_pictures(system, comparison))) for system in pictured]
    sections.append(Section("systems", "Each system", parts))
    title = "edge-sser: reference systems and ours"
    return render(title, sections, preset=" and ".join(PRESETS), command="train compare", protocol=PROTOCOL)


def write_pictures(folder: Path, comparison: Comparison) -> list[Path]:
    """Writes every picture as an SVG file.

    Raises:
        TrainingError: a file cannot be written.
    """
    corpora = sorted({corpus for system in comparison.systems for corpus in system.corpora})
    pictures = [metric_bars(comparison, corpus) for corpus in corpora]
    if comparison.leaky:
        pictures.insert(0, leaky_picture(comparison))
    contrast = hop_contrast(comparison)
    if contrast is not None:
        pictures.append(contrast)
    for system in comparison.systems:
        if _pictured(system):
            pictures += system_pictures(system, comparison)
    paths = []
    for picture in pictures:
        path = folder / f"{picture.file}.svg"
        write_file(path, standalone(picture), TrainingError, "choose another --plots")
        paths.append(path)
    return paths


def leaky_picture(comparison: Comparison) -> Picture:
    """Draws UA under the original protocol over UA under ours."""
    rows = [
        (
            pair.group.name,
            [
                ("s1", pair.leaky.ua, f"leaky: UA {number(pair.leaky.ua)}"),
                ("s0", pair.honest.ua, f"honest: UA {number(pair.honest.ua)}"),
            ],
        )
        for pair in sorted(comparison.leaky, key=lambda pair: pair.honest.ua - pair.leaky.ua)
    ]
    legend = [("original protocol", "s1"), ("speakers never heard", "s0")]
    return Picture("leaky-against-honest", "UA, leaky and honest", bar_rows("UA, leaky and honest", rows), legend)


def metric_bars(comparison: Comparison, corpus: str) -> Picture:
    """Draws the metrics of all systems on a corpus as bars."""
    rows = []
    for system in ranked(comparison, corpus):
        if system.folds and system.group.kind is not Kind.REFERENCE:
            continue
        scores = system.corpora[corpus]
        values = (scores.ua, scores.wa, scores.macro_f1, scores.stress[PRESETS[0]].auroc)
        bars = [
            (style, value, f"{system.name}: {name} {number(value)}")
            for (name, style), value in zip(METRICS, values, strict=True)
        ]
        rows.append((system.group.name, bars))
    return Picture(f"metrics-{corpus}", f"Metrics on {corpus}", bar_rows(f"Metrics on {corpus}", rows), METRICS)


def system_pictures(system: ComparedSystem, comparison: Comparison) -> list[Picture]:
    """Draws a system's confusion matrix, its recalls and macro ROC beside ours, and its training curves."""
    corpus = _corpus(system)
    ours = [
        each
        for each in comparison.systems
        if each.group.kind is Kind.OURS and each.folds == system.folds and corpus in each.corpora and each != system
    ][:1]
    lines = [*((each, OURS_STYLE) for each in ours), (system, THEIR_STYLE)]
    name = system.group.name
    pictures = [_confusion(system, corpus)]
    legend = [(each.group.name, style) for each, style in lines]
    tables = [(_on(each, corpus, system.folds), style) for each, style in lines]
    classes = np.unique(tables[-1][0][0])
    if classes.size > 2:
        series = [
            (each, style, recalls(confusion(labels, decided, len(EMOTIONS)))[classes].tolist())
            for (each, _), ((labels, decided, _), style) in zip(legend, tables, strict=True)
        ]
        words = [EMOTIONS[place] for place in classes]
        pictures.append(
            Picture(f"{name}-radar", "Recall by emotion", radar("Recall by emotion", words, series), legend)
        )
    chart = Chart("Macro ROC of the emotions", x_label="false positive rate", y_label="recall, mean of the emotions")
    chart.line([(0.0, 0.0), (1.0, 1.0)], "chance")
    areas = []
    for (each, _), ((labels, _, likely), style) in zip(legend, tables, strict=True):
        chart.line(charts.thinned(*macro_roc_curve(labels, likely)), style, each)
        found = [auroc((labels == label).astype(np.int64), likely[:, label]) for label in np.unique(labels)]
        areas.append((f"{each} {number(mean_known(found))}", style))
    pictures.append(Picture(f"{name}-roc", "Macro ROC of the emotions", chart.svg(), areas))
    histories = system.results[0].histories
    values = list(dict.fromkeys(value for each in histories for value in each.values))
    parts = [(each.part, f"s{place % 6}") for place, each in enumerate(histories)]
    pictures += [
        Picture(f"{name}-training-{value}", f"Training: {_words(value)}", charts.history(histories, value), parts)
        for value in values
    ]
    return pictures


def hop_contrast(comparison: Comparison) -> Picture | None:
    """Draws UA over the hop of systems that differ in nothing else; None with fewer than two."""
    hops: dict[str, list[tuple[float, float, str]]] = {}
    for system in comparison.systems:
        hop = system.group.recipe.settings.get("hop_frames") if system.group.recipe else None
        if hop is not None and system.corpora:
            scores, family = system.corpora[_corpus(system)], system.group.name.removesuffix(f"-{hop}")
            hops.setdefault(family, []).append((float(hop), scores.ua, system.name))
    hops = {name: sorted(points) for name, points in hops.items() if len(points) > 1}
    if not hops:
        return None
    known = [point for points in hops.values() for point in points]
    ends = (min(hop for hop, _, _ in known), max(hop for hop, _, _ in known))
    chart = Chart("Hop contrast", x=ends, x_label="hop, frames of 20 ms", y_label="UA")
    legend = [(name, f"s{place % 6}") for place, name in enumerate(hops)]
    for (name, style), points in zip(legend, hops.values(), strict=True):
        chart.line([(hop, ua) for hop, ua, _ in points], style, name)
        chart.dots([(hop, ua) for hop, ua, _ in points], style, [f"{each}: UA {number(ua)}" for _, ua, each in points])
    return Picture("hop-contrast", "Hop contrast", chart.svg(), legend)


def standalone(picture: Picture) -> str:
    """Returns a picture as a file of its own: with its title, legend and colours on white."""
    found = re.search(r'viewBox="0 0 \S+ ([\d.]+)"', picture.drawing)
    assert found is not None  # every drawing of svg.py has one
    height = float(found[1])
    names = "".join(
        Markup(
            '<line class="line {0}" x1="50" x2="74" y1="{1}" y2="{1}"/><text class="tick" x="80" y="{2}">{3}</text>'
        ).format(style, 22 + height + place * LINE, 25.5 + height + place * LINE, name)
        for place, (name, style) in enumerate(picture.legend)
    )
    colours = dict(re.findall(r"(--\w+): (#\w+)", style_sheet("style.css").split("@media")[0]))
    style = re.sub(r"var\((--\w+)\)", lambda match: colours[match[1]], style_sheet("charts.css"))
    total = height + 24 + len(picture.legend) * LINE
    drawing = str(picture.drawing).replace("<svg ", f'<svg y="16" width="{WIDTH}" height="{height:g}" ', 1)
    title = Markup('<text class="axis" x="8" y="13">{}</text>').format(picture.title)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:g}" width="{2 * WIDTH}" '
        f'height="{2 * total:g}" font-family="sans-serif"><style>{style}</style>'
        f'<rect width="100%" height="100%" fill="#fff"/>{title}{drawing}{names}</svg>\n'
    )


def _goals(comparison: Comparison) -> Section:
    rows: list[list[Cell | str]] = []
    for claim in claims(comparison):
        style = "" if not claim.compared else "missed" if claim.against else "kept"
        verdict = "no" if claim.against else "yes" if claim.compared else "\N{EN DASH}"
        rows.append([f"{claim.system} on {claim.corpus}", Cell(verdict, style), f"{claim.goal}: {claim.detail}"])
    return Section("goals", "Goals", [Table(["system", "reached", "goal"], rows, style="references")])


def _table(table: TextTable, style: str = "") -> Table:
    return Table(table.headers, table.rows, style=style)


def _figures(pictures: Sequence[Picture]) -> list[Block]:
    return [
        Grid([Figure(each.title, [each.drawing, *([Legend(each.legend)] if each.legend else [])]) for each in pictures])
    ]


def _title(system: ComparedSystem) -> str:
    recipe = system.group.recipe
    return f"{system.name}: {recipe.title}" if recipe else system.name


def _words(value: str) -> str:
    return re.sub(r"\bua\b", "UA", value.replace("_", " "))


def _pictured(system: ComparedSystem) -> bool:
    """Returns True for a system with emotions, once: ours on the folds of others stand in the others' pictures."""
    again = system.folds and system.group.kind is not Kind.REFERENCE
    return system.group.kind is not Kind.BASELINE and not again and bool(system.corpora)


def _corpus(system: ComparedSystem) -> str:
    return PICTURED if PICTURED in system.corpora else next(iter(system.corpora))


def _on(system: ComparedSystem, corpus: str, folds: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns labels, decisions and probabilities of the clips with an emotion: [n], [n] and [n, emotions]."""
    table: ScoreTable = system.tables[0][PRESETS[0]]
    inside = (table.corpus == corpus) & table.named
    if folds:
        inside = inside & np.isin(table.fold, folds)
    return table.emotion[inside], table.decided[inside], table.emotions[inside]


def _confusion(system: ComparedSystem, corpus: str) -> Picture:
    labels, decided, _ = _on(system, corpus, system.folds)
    classes = np.unique(labels)
    matrix = confusion(labels, decided, len(EMOTIONS))[np.ix_(classes, classes)]
    words = [EMOTIONS[place] for place in classes]
    hints = [
        [f"{words[i]} taken for {words[j]}: {count} clips" for j, count in enumerate(row)]
        for i, row in enumerate(matrix)
    ]
    drawing = heat_map("Confusion matrix", words, matrix / matrix.sum(axis=1, keepdims=True), hints)
    return Picture(f"{system.group.name}-confusion", f"Confusion on {corpus}, %", drawing)
