"""Blocks that the page is made of, as plain data; templates/page.html gives them their looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from markupsafe import Markup

from edge_sser.train.evaluate.metrics import Check, Sense

KEPT, MISSED = "\N{CHECK MARK}", "\N{MULTIPLICATION X}"
HOT = 0.55  # share of a confusion matrix's row from which a cell is dark, and its text light


class Block(Protocol):
    """A piece of the page.

    Attributes:
        kind: the macro of the template that draws it.
    """

    kind: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        style: classes of the style sheet.
        heat: 0..1, how strongly the cell is coloured; None for not at all.
        hint: tooltip.
    """

    text: str
    style: str = ""
    heat: float | None = None
    hint: str = ""

    @property
    def classes(self) -> str:
        """Classes of the cell, those of its heat included."""
        heated = self.heat is not None
        return f"{self.style}{' heat' if heated else ''}{' hot' if (self.heat or 0.0) > HOT else ''}".strip()


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        rows: cells; a string is a plain cell.
        style: classes of the table.
        caption: above the table.
    """

    kind: ClassVar[str] = "table"
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    style: str = ""
    caption: str = ""

    @property
    def cells(self) -> list[list[Cell]]:
        """Rows with every cell as a `Cell`."""
        return [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in self.rows]


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart or tables with a title and a note.

    Attributes:
        title: above the picture.
        content: drawings and blocks.
        note: below the picture.
    """

    kind: ClassVar[str] = "figure"
    title: str
    content: Sequence[Markup | Block]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Figures side by side.

    Attributes:
        figures: in reading order.
        style: classes of the grid.
    """

    kind: ClassVar[str] = "grid"
    figures: Sequence[Figure]
    style: str = ""


@dataclass(frozen=True, slots=True)
class Legend:
    """Name and style of each line of a chart."""

    kind: ClassVar[str] = "legend"
    series: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text with the classes of its style."""

    kind: ClassVar[str] = "paragraph"
    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Notes:
    """A list of remarks; not shown when empty."""

    kind: ClassVar[str] = "notes"
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a section, with a title."""

    kind: ClassVar[str] = "part"
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: target of the link in the table of contents.
        link: text in the table of contents; the title when empty.
    """

    kind: ClassVar[str] = "section"
    anchor: str
    title: str
    blocks: Sequence[Block]
    link: str = ""


def number(value: float, digits: int = 3) -> str:
    """Formats a figure without its leading zero; a dash stands for NaN."""
    if math.isnan(value):
        return "\N{EN DASH}"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1.0 and digits else text


def signed(value: float, digits: int = 3) -> str:
    """Formats a change with its sign."""
    if math.isnan(value):
        return "\N{EN DASH}"
    rounded = round(value, digits) + 0.0
    sign = "+" if rounded > 0 else "\N{MINUS SIGN}" if rounded < 0 else "\N{PLUS-MINUS SIGN}"
    return sign + number(abs(rounded), digits)


def percent(value: float, digits: int = 1) -> str:
    """Formats a fraction in per cent; a dash stands for NaN."""
    return "\N{EN DASH}" if math.isnan(value) else f"{100.0 * value:.{digits}f}"


def mark(passed: bool | None) -> str:
    """Returns the mark of a limit that was kept or missed; a dash when it could not be measured."""
    return "\N{EN DASH}" if passed is None else KEPT if passed else MISSED


def judged(text: str, check: Check | None) -> Cell:
    """Returns a figure with the mark of its limit, if there is one."""
    if check is None:
        return Cell(text)
    style = "" if check.passed is None else "kept" if check.passed else "missed"
    return Cell(f"{text} {mark(check.passed)}", style, hint=f"limit: {limit(check)}")


def limit(check: Check) -> str:
    """Formats a limit in signs."""
    sign = "\N{GREATER-THAN OR EQUAL TO}" if check.sense is Sense.AT_LEAST else "\N{LESS-THAN OR EQUAL TO}"
    digits = 3 if round(check.limit, 2) != check.limit else 2 if check.limit < 2 else 0
    value = signed(check.limit, digits) if check.limit < 0 else number(check.limit, digits)
    return f"{sign} {value}"
