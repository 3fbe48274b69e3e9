#!/usr/bin/env python3
"""Draws docs/pictures/live-view.png: the live view of a made-up morning with five microphones.

Needs Pillow, which the extra `plot` brings. The layout is the program's own; only the events are made up.
"""

from __future__ import annotations

import math
import random
import sys
import time
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw, ImageFont
from rich.style import Style

from edge_sser.events import (
    BaselineState,
    Episode,
    Health,
    HealthState,
    Level,
    Phase,
    Reading,
    Status,
    StatusState,
    timestamp,
)
from edge_sser.model.model import Model
from edge_sser.monitor.operating import expected_rule
from edge_sser.settings.schema import Settings
from edge_sser.sinks.live.layout import Look, frame
from edge_sser.sinks.live.row import Row
from edge_sser.sinks.live.state import ViewState

COLUMNS, ROWS = 100, 18
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "live-view.png"
FONTS = ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf")
FONT_SIZE, CELL_WIDTH, CELL_HEIGHT, MARGIN = 16, 10, 20, 10
BACKGROUND, FOREGROUND = "#1b1d23", "#d5d8df"
COLOURS = {"green": "#4fc38a", "yellow": "#e8c547", "red": "#f2645a", "cyan": "#4fb6c3"}
_SHIPPED = Model.load()
MODEL = _SHIPPED.label
THRESHOLDS = expected_rule(Settings(), _SHIPPED.card).thresholds
NOON = time.mktime((2026, 3, 2, 10, 42, 0, 0, 0, -1))
SECONDS = 600  # of readings
# Source: centre of its stress, and the seconds before the end at which it peaks.
SOURCES = {"call-1": (0.12, 470), "call-2": (0.2, 12), "call-3": (0.08, 900), "cab": (0.3, 230), "desk": (0.1, 900)}


def level_of(stress: float) -> Level:
    """Returns the level of a rolling stress."""
    return Level.HIGH if stress >= THRESHOLDS.high else Level.ELEVATED if stress >= THRESHOLDS.elevated else Level.LOW


def reading(source: str, second: float, stress: float, dbfs: float) -> Reading:
    """Returns a reading at a second of the morning."""
    return Reading(
        id=f"office/{source}/{second}",
        node="office",
        source=source,
        ts=timestamp(NOON - SECONDS + second),
        start_s=second,
        end_s=second + 3.0,
        speech_ratio=0.55 + 0.3 * math.sin(second),
        stress=stress,
        stress_rolling=stress,
        level=level_of(stress),
        confidence=0.5,
        dbfs=dbfs,
        clipped=False,
        latency_ms=3.0,
        dropped_s=0.0,
        baseline=BaselineState.READY,
        baseline_shift=0.0,
        model=MODEL,
    )


def episode(source: str, ago: float, seconds: float, level: Level, peak: float, phase: Phase) -> Episode:
    """Returns an episode that began `ago` seconds before the end."""
    return Episode(
        phase=phase,
        id=f"office/{source}/{ago}",
        node="office",
        source=source,
        ts=timestamp(NOON - ago + seconds),
        level=level,
        start_s=SECONDS - ago,
        end_s=SECONDS - ago + seconds,
        duration_s=seconds,
        peak=peak,
        mean=peak - 0.11,
        evidence_s=SECONDS - ago,
        declared_s=SECONDS - ago,
        model=MODEL,
    )


def morning() -> ViewState:
    """Returns the state of the view at noon."""
    state, random_ = ViewState(list(SOURCES)), random.Random(3)  # noqa: S311 - a picture
    online = StatusState.ONLINE
    state.take(
        Status(
            node="office",
            ts=timestamp(NOON),
            state=online,
            version="0.1.0",
            model=MODEL,
            provider="CPUExecutionProvider",
            host="office",
        ),
        0.0,
    )
    for source, (centre, ago) in SOURCES.items():
        for second in range(SECONDS - (70 if source == "desk" else 0)):
            peak = 0.86 * math.exp(-(((second - (SECONDS - ago)) / 40.0) ** 2))
            stress = min(0.98, max(0.01, centre + peak + random_.gauss(0.0, 0.03)))
            state.take(reading(source, second, stress, -27.0 - 9.0 * random_.random()), float(second - SECONDS))
    missing = "there is no such microphone: name one that edge-sser devices shows"
    state.take(
        Health(
            node="office",
            source="desk",
            ts=timestamp(NOON - 68),
            state=HealthState.MISSING,
            detail=missing,
            read_s=0.0,
            processed_s=0.0,
            dropped_s=0.0,
            overruns=0,
        ),
        0.0,
    )
    state.take(episode("call-1", 496.0, 51.5, Level.HIGH, 0.98, Phase.END), 0.0)
    state.take(episode("cab", 262.0, 66.0, Level.HIGH, 0.98, Phase.END), 0.0)
    state.take(episode("call-2", 31.0, 31.0, Level.HIGH, 0.98, Phase.UPDATE), 0.0)
    return state


def draw(rows: list[Row], path: Path) -> None:
    """Draws rows into a PNG file."""
    fonts = [ImageFont.truetype(name, FONT_SIZE) for name in FONTS]
    size = (COLUMNS * CELL_WIDTH + 2 * MARGIN, ROWS * CELL_HEIGHT + 2 * MARGIN)
    image = Image.new("RGB", size, BACKGROUND)
    canvas = ImageDraw.Draw(image)
    for number, row in enumerate(rows):
        column = 0
        for text, words in row.pieces:
            style = Style.parse(words)
            ink = COLOURS.get(style.color.name, FOREGROUND) if style.color else FOREGROUND
            paper = BACKGROUND
            if style.dim:
                ink = "#" + "".join(f"{value * 6 // 10:02x}" for value in ImageColor.getrgb(ink)[:3])
            if style.reverse:
                ink, paper = paper, ink
            for character in text:
                left, top = MARGIN + column * CELL_WIDTH, MARGIN + number * CELL_HEIGHT
                if style.reverse:
                    canvas.rectangle((left, top, left + CELL_WIDTH - 1, top + CELL_HEIGHT - 1), fill=paper)
                canvas.text((left, top), character, font=fonts[bool(style.bold)], fill=ink)
                column += 1
    image.quantize(32).save(path, optimize=True)


def main() -> int:
    """Draws the picture."""
    look = Look(columns=COLUMNS, rows=ROWS, now=0.0, clock=NOON, thresholds=lambda source: THRESHOLDS)
    rows, _ = frame(morning(), look)
    draw(rows, PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
