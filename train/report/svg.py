"""Small inline SVG charts without a script. Their colours come from the page's style sheet and follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

WIDTH, HEIGHT = 340, 230  # of a chart, in its own units: about as many pixels on the page
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 10, 36

_NAMES = 62  # width of the names beside a heat map
_HOT = 0.55  # share from which a cell is dark, and its text light

Points = Sequence[tuple[float, float]]


class Chart:
    """Two axes with lines, points and bars. Values outside the axes are cut off; NaN leaves a gap."""

    def __init__(
        self,
        title: str,
        *,
        x: tuple[float, float] = (0.0, 1.0),
        y: tuple[float, float] = (0.0, 1.0),
        x_label: str,
        y_label: str,
        x_ticks: Sequence[tuple[float, str]] | None = None,
    ) -> None:
        """Draws the axes.

        Args:
            title: for screen readers.
            x: left and right end.
            y: bottom and top end.
            x_label: under the axis, with its unit.
            y_label: beside the axis, with its unit.
            x_ticks: positions and labels; round numbers when None.
        """
        self._x, self._y = x, y
        self._svg = _svg(title)
        for place, text in x_ticks if x_ticks is not None else _ticks(*x):
            self._line(self._at_x(place), TOP, self._at_x(place), HEIGHT - BOTTOM, "grid")
            _text(self._svg, self._at_x(place), HEIGHT - BOTTOM + 13, text, "tick middle")
        for place, text in _ticks(*y):
            self._line(LEFT, self._at_y(place), WIDTH - RIGHT, self._at_y(place), "grid")
            _text(self._svg, LEFT - 5, self._at_y(place) + 3.5, text, "tick end")
        _text(self._svg, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_label, "axis middle")
        turned = f"translate(10 {(TOP + HEIGHT - BOTTOM) / 2:.1f}) rotate(-90)"
        SubElement(self._svg, "text", {"class": "axis middle", "transform": turned}).text = y_label

    def line(self, points: Points, style: str, name: str = "") -> None:
        """Draws a line through points with a style of the page and a tooltip, interrupted where a value is NaN."""
        run: list[str] = []
        for x, y in [*points, (math.nan, math.nan)]:
            if not (math.isnan(x) or math.isnan(y)):
                run.append(f"{self._at_x(x):.1f},{self._at_y(y):.1f}")
                continue
            if len(run) > 1:
                _titled(self._svg, "polyline", name, {"class": f"line {style}", "points": " ".join(run)})
            run = []

    def dots(self, points: Points, style: str, names: Sequence[str] = (), radius: float = 3.0) -> None:
        """Draws points, each with a tooltip out of `names`."""
        for place, (x, y) in enumerate(points):
            if not (math.isnan(x) or math.isnan(y)):
                shape = {"cx": f"{self._at_x(x):.1f}", "cy": f"{self._at_y(y):.1f}", "r": f"{radius:.1f}"}
                _titled(self._svg, "circle", names[place] if names else "", {"class": f"dot {style}", **shape})

    def bar(self, x: float, y: float, width: float, style: str, name: str = "") -> None:
        """Draws a bar from the bottom of the axis to y; x is its middle, width in units of the axis."""
        if math.isnan(y):
            return
        left, right = self._at_x(x - width / 2), self._at_x(x + width / 2)
        top, bottom = self._at_y(y), self._at_y(self._y[0])
        shape = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{right - left:.1f}"}
        shape["height"] = f"{max(bottom - top, 0.0):.1f}"
        _titled(self._svg, "rect", name, {"class": f"bar {style}", **shape})

    def level(self, y: float, style: str, name: str = "") -> None:
        """Draws a horizontal line at y."""
        self._line(LEFT, self._at_y(y), WIDTH - RIGHT, self._at_y(y), style, name)

    def svg(self) -> Markup:
        """Returns the chart as an inline SVG element."""
        return _markup(self._svg)

    def _line(self, x1: float, y1: float, x2: float, y2: float, style: str, name: str = "") -> None:
        ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
        _titled(self._svg, "line", name, {"class": style, **ends})

    def _at_x(self, value: float) -> float:
        low, high = self._x
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - RIGHT - LEFT)

    def _at_y(self, value: float) -> float:
        low, high = self._y
        bottom = HEIGHT - BOTTOM
        return bottom - (min(max(value, low), high) - low) / (high - low) * (bottom - TOP)


def radar(title: str, axes: Sequence[str], series: Sequence[tuple[str, str, Sequence[float]]]) -> Markup:
    """Returns a radar chart of values 0..1 with a ring every quarter.

    Args:
        title: for screen readers.
        axes: labels, at least three; from the top, clockwise.
        series: name, style and values of each; NaN counts as 0.
    """
    across, down, radius = WIDTH / 2.0, HEIGHT / 2.0, HEIGHT / 2.0 - 24.0
    angles = [2.0 * math.pi * place / len(axes) for place in range(len(axes))]

    def at(angle: float, value: float) -> str:
        return f"{across + radius * value * math.sin(angle):.1f},{down - radius * value * math.cos(angle):.1f}"

    svg = _svg(title)
    for ring in (0.25, 0.5, 0.75, 1.0):
        SubElement(svg, "polygon", {"class": "grid", "points": " ".join(at(angle, ring) for angle in angles)})
    for angle, word in zip(angles, axes, strict=True):
        x, y = (float(value) for value in at(angle, 1.13).split(","))
        side = "middle" if abs(math.sin(angle)) < 0.3 else ("start" if math.sin(angle) > 0 else "end")
        SubElement(svg, "polyline", {"class": "grid", "points": f"{at(angle, 0.0)} {at(angle, 1.0)}"})
        _text(svg, x, y + 3.5, word, f"tick {side}")
    for name, style, values in series:
        known = [0.0 if math.isnan(value) else value for value in values]
        points = " ".join(at(angle, value) for angle, value in zip(angles, known, strict=True))
        _titled(svg, "polygon", name, {"class": f"line {style}", "points": points})
    return _markup(svg)


def heat_map(title: str, names: Sequence[str], shares: NDArray[np.float64], hints: Sequence[Sequence[str]]) -> Markup:
    """Returns a square of coloured cells, as of a confusion matrix.

    Args:
        title: for screen readers.
        names: of rows and columns.
        shares: 0..1, [rows, columns]; written in per cent.
        hints: tooltip of each cell.
    """
    across, down = (WIDTH - _NAMES - RIGHT) / len(names), (HEIGHT - TOP - BOTTOM) / len(names)
    svg = _svg(title)
    for row, name in enumerate(names):
        y = TOP + row * down
        _text(svg, _NAMES - 5, y + down / 2 + 3.5, name, "tick end")
        _text(svg, _NAMES + (row + 0.5) * across, HEIGHT - BOTTOM + 13, name[:5], "tick middle")
        for column, share in enumerate(shares[row].tolist()):
            x = _NAMES + column * across
            shape = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{across:.1f}", "height": f"{down:.1f}"}
            _titled(svg, "rect", hints[row][column], {"class": "heat", "fill-opacity": f"{share:.2f}", **shape})
            style = "tick middle hot" if share > _HOT else "tick middle"
            _text(svg, x + across / 2, y + down / 2 + 3.5, f"{100.0 * share:.0f}", style)
    _text(svg, (_NAMES + WIDTH - RIGHT) / 2, HEIGHT - 5, "decided; rows: label", "axis middle")
    return _markup(svg)


def bar_rows(title: str, rows: Sequence[tuple[str, Sequence[tuple[str, float, str]]]]) -> Markup:
    """Returns horizontal bars of values 0..1; the picture grows with its rows.

    Args:
        title: for screen readers.
        rows: name, and style, value and tooltip of each bar.
    """
    left, thick = 150.0, 7.0
    steps = [max(len(bars), 1) * thick + 6.0 for _, bars in rows]
    height = TOP + sum(steps) + 20.0
    svg = _svg(title, height)
    for tick in range(0, 11, 2):
        x = left + (WIDTH - RIGHT - left) * tick / 10.0
        ends = {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": f"{TOP}", "y2": f"{height - 20.0:.1f}"}
        SubElement(svg, "line", {"class": "grid", **ends})
        _text(svg, x, height - 6.0, f"{tick / 10.0:.1f}", "tick middle")
    y = float(TOP)
    for (name, bars), step in zip(rows, steps, strict=True):
        _text(svg, left - 5.0, y + step / 2.0, name, "tick end")
        for place, (style, value, hint) in enumerate(bars):
            width = 0.0 if math.isnan(value) else value * (WIDTH - RIGHT - left)
            shape = {"x": f"{left:.1f}", "y": f"{y + 3.0 + place * thick:.1f}", "width": f"{width:.1f}"}
            _titled(svg, "rect", hint, {"class": f"bar {style}", "height": f"{thick - 1.0:.1f}", **shape})
        y += step
    return _markup(svg)


def _svg(title: str, height: float = HEIGHT) -> Element:
    svg = Element("svg", {"viewBox": f"0 0 {WIDTH} {height:g}", "role": "img", "aria-label": title})
    SubElement(svg, "title").text = title
    return svg


def _text(svg: Element, x: float, y: float, text: str, style: str) -> None:
    SubElement(svg, "text", {"class": style, "x": f"{x:.1f}", "y": f"{y:.1f}"}).text = text


def _titled(svg: Element, tag: str, title: str, attributes: dict[str, str]) -> None:
    element = SubElement(svg, tag, attributes)
    if title:
        SubElement(element, "title").text = title


def _markup(svg: Element) -> Markup:
    return Markup(tostring(svg, encoding="unicode", short_empty_elements=False))  # noqa: S704 - escaped by ElementTree


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Returns about five round numbers with their labels."""
    rough = (high - low) / 5.0
    step = 10.0 ** math.floor(math.log10(rough))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if step * factor >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (
        1 if abs(step / 10 ** math.floor(math.log10(step)) - 2.5) < 0.01 else 0
    )
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [(place * step, f"{place * step:.{digits}f}") for place in range(first, last + 1)]
