#!/usr/bin/env python3
"""Draws docs/web.png: the page of `edge-sser web` with twelve made-up microphones. Takes six minutes.

Needs the extra `web`, playwright and Chromium. The page is the program's own and fills in real time; only the events
are made up.
"""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from draw_live_view import episode, reading
from playwright.sync_api import Page, sync_playwright

from edge_sser.events import Event, Level, Phase, Reading, timestamp, to_line
from edge_sser.history.live import LiveFile
from edge_sser.history.schema import FILE_NAME
from edge_sser.history.writer import HistoryWriter

PICTURE = Path(__file__).parents[1] / "docs" / "web.png"
WIDTH, HEIGHT, PORT = 1440, 860, 8331
SECONDS, HOP = 330, 0.5  # of readings, a little more than the page shows
# Source: centre of its stress, and the second at which it peaks.
SOURCES = {
    "ambulance-bay": (0.1, 110),
    "control": (0.06, -99),
    "desk-1": (0.2, -99),
    "desk-2": (0.08, -99),
    "desk-3": (0.14, 140),
    "meeting-1": (0.12, -99),
    "meeting-2": (0.07, 220),
    "reception": (0.1, -99),
    "triage": (0.15, 320),
    "waiting-room": (0.08, -99),
    "ward-a": (0.12, 260),
    "ward-b": (0.1, -99),
}
TODAY = (("control", 3.6, 79, Level.ELEVATED), ("desk-1", 2.2, 195, Level.HIGH), ("triage", 0.7, 74, Level.ELEVATED))


def heard(source: str, second: float, random_: random.Random) -> Reading:
    """Returns the reading of a source, of this moment."""
    centre, peak = SOURCES[source]
    away = (second - peak) / (60.0 if source == "triage" else 22.0)
    stress = min(0.99, max(0.01, centre + 0.95 * math.exp(-(away**2)) + random_.gauss(0.0, 0.025)))
    spoken = math.sin(second / 9.0 + len(source) * peak) > -0.6 or abs(away) < 1.0
    made = reading(source, second, stress, -33.0 - 9.0 * random_.random())
    made = replace(made, node="cab12", id=f"cab12/{source}/{second}", ts=timestamp(time.time()))
    return made if spoken else replace(made, stress=None, confidence=None, speech_ratio=0.05)


def write_today(path: Path, live: Path) -> None:
    """Writes the history of a day with some episodes."""
    writer = HistoryWriter(path, live=live)
    for source, hours, seconds, level in TODAY:
        for phase, after in ((Phase.START, 0.0), (Phase.END, float(seconds))):
            made = episode(source, hours, seconds, level, 0.97, phase)
            event: Event = replace(made, node="cab12", ts=timestamp(time.time() - 3600.0 * hours + after))
            writer.add(event, to_line(event))
    writer.commit()
    writer.close()


def fill(page: Page, live: LiveFile) -> None:
    """Writes readings in real time while the page is open."""
    random_ = random.Random(5)  # noqa: S311 - a picture
    began = time.time()
    while (second := time.time() - began) < SECONDS:
        for source in SOURCES:
            made = heard(source, second, random_)
            live.add(made, to_line(made))
            if source == "triage" and made.level is not Level.LOW:
                started = episode(source, 0.0, round(second - SECONDS + 60.0, 1), Level.HIGH, 0.98, Phase.UPDATE)
                open_ = replace(started, node="cab12", ts=made.ts)
                live.add(open_, to_line(open_))
        live.write(time.time())
        page.wait_for_timeout(1000.0 * HOP)


def main() -> int:
    """Draws the picture."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        state = Path(folder) / "edge-sser"
        state.mkdir()
        (state / "page.toml").write_text('node = "cab12"\n[history]\n')
        live = LiveFile(state / "live.json")
        write_today(state / FILE_NAME, live.path)
        command = [sys.executable, "-m", "edge_sser", "web", "--config", str(state / "page.toml"), "--port", str(PORT)]
        with subprocess.Popen(command, env={**os.environ, "XDG_STATE_HOME": folder}) as server:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="dark")
            time.sleep(5.0)  # the server starts
            page.goto(f"http://127.0.0.1:{PORT}/")
            fill(page, live)
            page.screenshot(path=PICTURE)
            browser.close()
            server.terminate()
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
