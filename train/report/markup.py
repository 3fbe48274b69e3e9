"""Pieces of the page: tables, figures, sections. Whatever comes from data is escaped here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edge_sser.train.evaluate.metrics import Check, Sense

KEPT, MISSED = "\N{CHECK MARK}", "\N{MULTIPLICATION X}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: shown.
        style: classes of the page's style.
        heat: 0..1, how strongly the cell is coloured; None for not at all.
        hint: said on pointing at it.
    """

    text: str
    style: str = ""
    heat: float | None = None
    hint: str = ""


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell | str]], *, style: str = "", caption: str = "") -> str:
    """A table whose first column names its rows. It scrolls sideways where it does not fit.

    Args:
        headers: words of the columns.
        rows: cells; a string is a plain one.
        style: classes of the whole.
        caption: above it.
    """
    head = "".join(f'<th scope="col">{escape(header)}</th>' for header in headers)
    body = "".join(
        f"<tr>{''.join(_cell(cell, first=place == 0) for place, cell in enumerate(row))}</tr>" for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    inside = f"{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table class="{style}">{inside}</table></div>'


def figure(title: str, picture: str, note: str = "") -> str:
    """A chart with its title and a note."""
    under = f"<p>{escape(note)}</p>" if note else ""
    return f"<figure><figcaption>{escape(title)}</figcaption>{picture}{under}</figure>"


def grid(figures: Sequence[str]) -> str:
    """Figures side by side, as many as there is room for."""
    return f'<div class="figures">{"".join(figures)}</div>'


def legend(series: Sequence[tuple[str, str]]) -> str:
    """What the colours mean: name and style of each."""
    sample = '<svg viewBox="0 0 24 8" aria-hidden="true"><line class="line {}" x1="0" y1="4" x2="24" y2="4"/></svg>'
    items = "".join(f"<li>{sample.format(style)}{escape(name)}</li>" for name, style in series)
    return f'<ul class="legend">{items}</ul>'


def section(anchor: str, title: str, *parts: str) -> str:
    """A part of the page that can be linked to."""
    return f'<section id="{escape(anchor)}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def part(title: str, *parts: str) -> str:
    """A part of a section."""
    return f'<div class="part"><h3>{escape(title)}</h3>{"".join(parts)}</div>'


def paragraph(text: str, style: str = "") -> str:
    """A paragraph."""
    return f'<p class="{style}">{escape(text)}</p>'


def notes(lines: Sequence[str]) -> str:
    """A list of remarks; nothing when there are none."""
    return f'<ul class="notes">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>' if lines else ""


def number(value: float, digits: int = 3) -> str:
    """A figure without its leading zero, or a dash when it could not be measured."""
    if math.isnan(value):
        return "\N{EN DASH}"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1.0 and digits else text


def signed(value: float, digits: int = 3) -> str:
    """A change, with its sign."""
    if math.isnan(value):
        return "\N{EN DASH}"
    rounded = round(value, digits) + 0.0
    sign = "+" if rounded > 0 else "\N{MINUS SIGN}" if rounded < 0 else "\N{PLUS-MINUS SIGN}"
    return sign + number(abs(rounded), digits)


def percent(value: float, digits: int = 1) -> str:
    """A fraction in per cent, or a dash."""
    return "\N{EN DASH}" if math.isnan(value) else f"{100.0 * value:.{digits}f}"


def verdict(passed: bool | None) -> str:
    """A mark for a limit that was kept or missed; a dash when it could not be measured."""
    return "\N{EN DASH}" if passed is None else KEPT if passed else MISSED


def judged(text: str, check: Check | None) -> Cell:
    """A figure with the mark of its limit, where it has one."""
    if check is None:
        return Cell(text)
    style = "" if check.passed is None else "kept" if check.passed else "missed"
    return Cell(f"{text} {verdict(check.passed)}", style, hint=f"limit: {limit(check)}")


def limit(check: Check) -> str:
    """A limit in signs."""
    sign = "\N{GREATER-THAN OR EQUAL TO}" if check.sense is Sense.AT_LEAST else "\N{LESS-THAN OR EQUAL TO}"
    digits = 3 if round(check.limit, 2) != check.limit else 2 if check.limit < 2 else 0
    value = signed(check.limit, digits) if check.limit < 0 else number(check.limit, digits)
    return f"{sign} {value}"


def _cell(cell: Cell | str, *, first: bool) -> str:
    if isinstance(cell, str):
        cell = Cell(cell)
    name = 'th scope="row"' if first else "td"
    heat = "" if cell.heat is None else f' style="--heat:{min(max(cell.heat, 0.0), 1.0):.2f}"'
    style = cell.style + (" heat" if cell.heat is not None else "") + (" hot" if (cell.heat or 0.0) > 0.55 else "")
    classes = f' class="{style.strip()}"' if style.strip() else ""
    hint = f' title="{escape(cell.hint)}"' if cell.hint else ""
    return f"<{name}{classes}{heat}{hint}>{escape(cell.text)}</{name.split()[0]}>"
