"""Small charts as inline SVG: no library, no script; their colours come from the page's style and follow its theme."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 340, 230  # of a chart, in its own units: about as many pixels on the page
LEFT, RIGHT, TOP, BOTTOM = 40, 16, 10, 36

Points = Sequence[tuple[float, float]]


class Chart:
    """Two axes with lines, points and bars. Values outside the axes are cut off; NaN leaves a gap."""

    def __init__(
        self,
        title: str,
        *,
        x: tuple[float, float],
        y: tuple[float, float],
        x_label: str,
        y_label: str,
        x_ticks: Sequence[tuple[float, str]] | None = None,
        y_ticks: Sequence[tuple[float, str]] | None = None,
    ) -> None:
        """Draws the axes.

        Args:
            title: what a screen reader says.
            x: left and right end.
            y: bottom and top end.
            x_label: under the axis, with its unit.
            y_label: beside the axis, with its unit.
            x_ticks: places and words; round numbers when None.
            y_ticks: likewise.
        """
        self._title = title
        self._x, self._y = x, y
        self._parts: list[str] = []
        for place, text in x_ticks if x_ticks is not None else _ticks(*x):
            self._parts.append(_line(self._at_x(place), TOP, self._at_x(place), HEIGHT - BOTTOM, "grid"))
            self._text(self._at_x(place), HEIGHT - BOTTOM + 13, text, "tick middle")
        for place, text in y_ticks if y_ticks is not None else _ticks(*y):
            self._parts.append(_line(LEFT, self._at_y(place), WIDTH - RIGHT, self._at_y(place), "grid"))
            self._text(LEFT - 5, self._at_y(place) + 3.5, text, "tick end")
        self._text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, x_label, "axis middle")
        middle = (TOP + HEIGHT - BOTTOM) / 2
        self._parts.append(
            f'<text class="axis middle" transform="translate(10 {middle:.1f}) rotate(-90)">{escape(y_label)}</text>'
        )

    def line(self, points: Points, style: str, name: str = "") -> None:
        """A line through points; broken where a value is NaN.

        Args:
            points: x and y of each.
            style: a class of the page's style.
            name: said on pointing at it.
        """
        run: list[str] = []
        for x, y in [*points, (math.nan, math.nan)]:
            if math.isnan(x) or math.isnan(y):
                if len(run) > 1:
                    self._parts.append(
                        f'<polyline class="line {style}" points="{" ".join(run)}">{_title(name)}</polyline>'
                    )
                run = []
            else:
                run.append(f"{self._at_x(x):.1f},{self._at_y(y):.1f}")

    def dots(self, points: Points, style: str, names: Sequence[str] = (), radius: float = 3.0) -> None:
        """Points, each with a word that is said on pointing at it."""
        for place, (x, y) in enumerate(points):
            if not (math.isnan(x) or math.isnan(y)):
                word = _title(names[place]) if names else ""
                centre = f'cx="{self._at_x(x):.1f}" cy="{self._at_y(y):.1f}"'
                self._parts.append(f'<circle class="dot {style}" {centre} r="{radius:.1f}">{word}</circle>')

    def bar(self, x: float, y: float, width: float, style: str, name: str = "") -> None:
        """A bar from the bottom of the axis to y; x is its middle, width in units of the axis."""
        if math.isnan(y):
            return
        left, right = self._at_x(x - width / 2), self._at_x(x + width / 2)
        top, bottom = self._at_y(y), self._at_y(self._y[0])
        self._parts.append(
            f'<rect class="bar {style}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
            f'height="{max(bottom - top, 0.0):.1f}">{_title(name)}</rect>'
        )

    def level(self, y: float, style: str, name: str = "") -> None:
        """A line across at y."""
        self._parts.append(_line(LEFT, self._at_y(y), WIDTH - RIGHT, self._at_y(y), style, name))

    def svg(self) -> str:
        """The chart."""
        return _svg(WIDTH, HEIGHT, self._title, self._parts)

    def _text(self, x: float, y: float, text: str, style: str) -> None:
        self._parts.append(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

    def _at_x(self, value: float) -> float:
        low, high = self._x
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - RIGHT - LEFT)

    def _at_y(self, value: float) -> float:
        low, high = self._y
        bottom = HEIGHT - BOTTOM
        return bottom - (min(max(value, low), high) - low) / (high - low) * (bottom - TOP)


def radar(title: str, axes: Sequence[str], series: Sequence[tuple[str, str, Sequence[float]]]) -> str:
    """A radar chart of values 0..1: one axis a word, rings every quarter.

    Args:
        title: what a screen reader says.
        axes: words, at least three; from the top, clockwise.
        series: name, style and values of each; NaN counts as 0.
    """
    across, down, radius = WIDTH / 2.0, HEIGHT / 2.0, HEIGHT / 2.0 - 24.0
    angles = [2.0 * math.pi * place / len(axes) for place in range(len(axes))]

    def at(angle: float, value: float) -> str:
        return f"{across + radius * value * math.sin(angle):.1f},{down - radius * value * math.cos(angle):.1f}"

    parts = [
        f'<polygon class="grid" points="{" ".join(at(angle, ring) for angle in angles)}"/>'
        for ring in (0.25, 0.5, 0.75, 1.0)
    ]
    for angle, word in zip(angles, axes, strict=True):
        x, y = (float(value) for value in at(angle, 1.13).split(","))
        side = "middle" if abs(math.sin(angle)) < 0.3 else ("start" if math.sin(angle) > 0 else "end")
        parts.append(f'<polyline class="grid" points="{at(angle, 0.0)} {at(angle, 1.0)}"/>')
        parts.append(f'<text class="tick {side}" x="{x:.1f}" y="{y + 3.5:.1f}">{escape(word)}</text>')
    for name, style, values in series:
        known = [0.0 if math.isnan(value) else value for value in values]
        points = " ".join(at(angle, value) for angle, value in zip(angles, known, strict=True))
        parts.append(f'<polygon class="line {style}" points="{points}">{_title(name)}</polygon>')
    return _svg(WIDTH, HEIGHT, title, parts)


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str, name: str = "") -> str:
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}">{_title(name)}</line>'


def _title(name: str) -> str:
    return f"<title>{escape(name)}</title>" if name else ""


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About five round numbers."""
    rough = (high - low) / 5.0
    step = 10.0 ** math.floor(math.log10(rough))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if step * factor >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (
        1 if abs(step / 10 ** math.floor(math.log10(step)) - 2.5) < 0.01 else 0
    )
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [(place * step, f"{place * step:.{digits}f}") for place in range(first, last + 1)]
