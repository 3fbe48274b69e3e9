"""Tables of the comparison: on a terminal, in Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edge_sser.train.evaluate.scores import DASH
from edge_sser.train.references.compare import PRESETS, ComparedSystem, Comparison, CorpusScores
from edge_sser.train.references.goals import claims
from edge_sser.train.references.result_files import Kind
from edge_sser.train.report.blocks import number, percent, signed

PROTOCOL = (
    "speaker-disjoint folds; each clip scored by a model that heard no clip of its fold; means over folds and seeds; "
    "stress under a preset that a system was not made for is the share of the preset's emotions in its probabilities"
)
SCHEMA = 1
DIGITS = 4


@dataclass(frozen=True, slots=True)
class TextTable:
    """Headers and rows of text.

    Attributes:
        title: above the table.
        headers: of the columns.
        rows: the first cell names the row.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Renders the table without padding, to keep the lines of a page short."""
        lines = (self.headers, ["---"] * len(self.headers), *self.rows)
        return "\n".join(f"|{'|'.join(cells)}|" for cells in lines)

    def plain(self) -> str:
        """Renders the table in columns for a terminal."""
        widths = [max(len(row[place]) for row in (self.headers, *self.rows)) for place in range(len(self.headers))]
        lines = [
            "  ".join(
                cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(pairs)
            )
            for pairs in (list(zip(row, widths, strict=True)) for row in (self.headers, *self.rows))
        ]
        return "\n".join([self.title, "", *(line.rstrip() for line in lines)])


def tables(comparison: Comparison) -> list[TextTable]:
    """Returns all tables: leaky against honest, cost, and one for each corpus."""
    return [leaky_table(comparison), cost_table(comparison), *score_tables(comparison)]


def leaky_table(comparison: Comparison) -> TextTable:
    """Returns UA and stress AUROC under the original protocols beside ours."""
    headers = ("system", "UA leaky", "honest", "change", "AUROC leaky", "honest", "change", "WA leaky", "honest")
    rows = []
    for pair in sorted(comparison.leaky, key=lambda pair: pair.honest.ua - pair.leaky.ua):
        leaky, honest = pair.leaky, pair.honest
        areas = [each.stress[PRESETS[0]].auroc for each in (leaky, honest)]
        rows.append(
            [
                pair.name, percent(leaky.ua), percent(honest.ua), signed(100 * (honest.ua - leaky.ua), 1),
                *map(number, areas), signed(areas[1] - areas[0], 3), percent(leaky.wa), percent(honest.wa),
            ]
        )  # fmt: skip
    corpora = ", ".join(sorted({pair.leaky.corpus for pair in comparison.leaky})) or "none"
    return TextTable(f"Leaky against honest: {corpora}", headers, rows)


def cost_table(comparison: Comparison) -> TextTable:
    """Returns size and cost of each system and its published figure."""
    groups = {each.group.name: each.group for each in comparison.systems if each.group.kind is not Kind.BASELINE}
    rows = [
        [
            name, thousands(group.facts.parameters), cost(group.facts.mflops), cost(group.facts.cpu_ms),
            cost(group.facts.front_end_ms),
            DASH if group.facts.window_s is None else f"{group.facts.window_s:g}",
            (group.recipe.published if group.recipe else "") or DASH,
        ]
        for name, group in groups.items()
    ]  # fmt: skip
    return TextTable(
        "Size and cost", ("system", "parameters, k", "MFLOPs", "CPU ms", "front end ms", "window, s", "published"), rows
    )


def score_tables(comparison: Comparison) -> list[TextTable]:
    """Returns one table a corpus: all systems, references from the best stress AUROC down, then the other kinds."""
    corpora = sorted({corpus for system in comparison.systems for corpus in system.corpora})
    headers = (
        "system", "UA %", "worst", "95 %", "WA", "F1", "stress AUROC", "worst", "95 %", "UAR", "sssr AUROC", "worst",
        "UAR",
    )  # fmt: skip
    found = []
    for corpus in corpora:
        rows = [_row(system, system.corpora[corpus]) for system in ranked(comparison, corpus)]
        found.append(TextTable(corpus, headers, rows))
    return found


def ranked(comparison: Comparison, corpus: str) -> list[ComparedSystem]:
    """Returns the systems of a corpus: by kind, complete ones first, from the best stress AUROC down."""
    chosen = [system for system in comparison.systems if corpus in system.corpora]
    kinds = list(Kind)
    return sorted(chosen, key=lambda each: (kinds.index(each.group.kind), bool(each.folds), _rank(each, corpus)))


def claim_lines(comparison: Comparison) -> Iterator[str]:
    """Yields a line for each goal: reached, or which reference contradicts it."""
    for claim in claims(comparison):
        verdict = "no" if claim.against else "yes" if claim.compared else "nothing to compare with"
        detail = f": {claim.detail}" if claim.compared else ""
        yield f"{claim.system} on {claim.corpus}: {claim.goal}: {verdict}{detail}"


def remarks(comparison: Comparison) -> Iterator[str]:
    """Yields a line for each note in the facts, as random weights, with the systems that have it."""
    names: dict[str, list[str]] = {}
    for name, group in {each.group.name: each.group for each in comparison.systems}.items():
        names.setdefault(group.facts.note, []).append(name)
    yield from (f"{', '.join(found)}: {note}" for note, found in names.items() if note)


def text(comparison: Comparison) -> str:
    """Returns everything for a terminal."""
    parts = [table.plain() for table in tables(comparison) if table.rows]
    parts += ["\n".join(remarks(comparison)), "\n".join(claim_lines(comparison))]
    parts.append(
        f"Protocol: {PROTOCOL}. Beside a score the worst fold, and the 95 % bootstrap interval over speakers of the "
        "score on all clips together. Cost is of the network alone, one window on one thread; its front end is apart."
    )
    return "\n\n".join(part for part in parts if part)


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Returns all figures as plain values, rounded; null for what was not measured."""
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "protocol": PROTOCOL,
        "leaky": [
            {
                "system": pair.group.name,
                "corpus": pair.leaky.corpus,
                "alone": pair.alone,
                "folds": pair.folds,
                "published": pair.group.recipe.published if pair.group.recipe else "",
                "leaky": asdict(pair.leaky),
                "honest": asdict(pair.honest),
                "difference": {
                    "ua": pair.honest.ua - pair.leaky.ua,
                    **{
                        f"auroc {preset}": pair.honest.stress[preset].auroc - pair.leaky.stress[preset].auroc
                        for preset in PRESETS
                    },
                },
            }
            for pair in comparison.leaky
        ],
        "systems": [
            {
                "system": system.group.name,
                "kind": system.group.kind.value,
                "folds": system.folds,
                "alone": system.results[0].variant,
                "facts": asdict(system.group.facts),
                "published": system.group.recipe.published if system.group.recipe else "",
                "mended": system.group.recipe.mended if system.group.recipe else "",
                "corpora": {corpus: asdict(scores) for corpus, scores in system.corpora.items()},
            }
            for system in comparison.systems
        ],
        "claims": [asdict(claim) for claim in claims(comparison)],
    }
    found: dict[str, Any] = _plain(values)
    return found


def json_text(comparison: Comparison) -> str:
    """Returns `as_dict` as the text of a file."""
    return json.dumps(as_dict(comparison), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, DIGITS)
    return value


def _rank(system: ComparedSystem, corpus: str) -> float:
    area = system.corpora[corpus].stress[PRESETS[0]].auroc
    return 0.0 if math.isnan(area) else -area


def _row(system: ComparedSystem, scores: CorpusScores) -> list[str]:
    quadrant, sssr = (scores.stress[preset] for preset in PRESETS)
    accuracy, area = scores.ua_interval, quadrant.interval
    return [
        system.name,
        percent(scores.ua),
        percent(scores.ua_worst),
        _between(percent(accuracy.low, 0), percent(accuracy.high, 0)),
        percent(scores.wa),
        percent(scores.macro_f1),
        number(quadrant.auroc),
        number(quadrant.worst),
        _between(number(area.low, 2), number(area.high, 2)),
        percent(quadrant.uar),
        number(sssr.auroc),
        number(sssr.worst),
        percent(sssr.uar),
    ]


def _between(low: str, high: str) -> str:
    """Returns an interval; a dash for that of a single speaker."""
    return low if low == high == "\N{EN DASH}" else f"{low}\N{EN DASH}{high}"


def thousands(value: int | None) -> str:
    """Formats a count in thousands with three digits or more."""
    if value is None:
        return DASH
    return f"{value / 1000:,.0f}" if value >= 100_000 else f"{value / 1000:.1f}"


def cost(value: float | None) -> str:
    """Formats a cost with about three digits."""
    if value is None:
        return DASH
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
