"""Cost of the web page: memory, processor while idle and while a page is open, bytes, and 30 days of 16 sources.

python benchmarks/web.py [--seconds 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from edge_sser.events import BaselineState, Level, Reading, timestamp, to_line
from edge_sser.history.live import LiveFile
from edge_sser.history.schema import FILE_NAME, create

DAYS, SOURCES, PORT = 30, 16, 8329
TICKS = os.sysconf("SC_CLK_TCK")


def write_history(path: Path, live: Path) -> None:
    """Writes every minute of the last days, half of them with speech."""
    with sqlite3.connect(path, isolation_level=None) as db:
        create(db)
        db.execute("BEGIN")
        db.execute("INSERT INTO facts VALUES ('live', ?)", (str(live),))
        start = int(time.time()) // 86_400 * 86_400 - (DAYS - 1) * 86_400
        for number in range(1, SOURCES + 1):
            db.execute("INSERT INTO sources VALUES (?, 'cab12', ?)", (number, f"desk-{number}"))
            rows = []
            for minute in range(start, int(time.time()), 60):
                stress = 0.5 + 0.45 * math.sin(minute / 3000 + number) if minute // 600 % 2 else None
                level = None if stress is None else "high" if stress > 0.8 else "elevated" if stress > 0.6 else "low"
                at_level = [24.0 * (level == name) for name in ("low", "elevated", "high")]
                rows.append((number, minute, 120, 0.4, stress, stress, level, 60.0, *at_level))
            db.executemany("INSERT INTO minutes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        db.execute("COMMIT")
    db.close()


def hear(live: LiveFile, stop: threading.Event) -> None:
    """Writes readings of all sources twice a second, as `listen` does."""
    while not stop.wait(0.5):
        now = time.time()
        for number in range(1, SOURCES + 1):
            reading = Reading(
                id=f"cab12/desk-{number}/1",
                node="cab12",
                source=f"desk-{number}",
                ts=timestamp(now),
                start_s=0.0,
                end_s=3.0,
                speech_ratio=0.5,
                stress=0.2,
                stress_rolling=0.2,
                level=Level.LOW,
                confidence=0.5,
                dbfs=-30.0,
                clipped=False,
                latency_ms=4.0,
                dropped_s=0.0,
                baseline=BaselineState.READY,
                baseline_shift=0.0,
                model="model@0",
            )
            live.add(reading, to_line(reading))
        live.write(now)


def cpu_seconds(pid: int) -> float:
    """Returns the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def share(pid: int, seconds: float) -> float:
    """Returns the percentage of a core that a process uses for some seconds."""
    before, began = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return round(100.0 * (cpu_seconds(pid) - before) / (time.monotonic() - began), 2)


def resident_mb(pid: int) -> float:
    """Returns the resident memory of a process, MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1000, 1)


def fetch(path: str) -> tuple[float, int]:
    """Returns seconds and bytes of an answer."""
    began = time.perf_counter()
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=60) as answer:
        size = len(answer.read())
    return round(time.perf_counter() - began, 3), size


def browser_seconds() -> float | None:
    """Returns the time from a click on «30 days» to the drawn heat map and curve; None without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=sandbox)
        tab = browser.new_page()
        tab.goto(f"http://127.0.0.1:{PORT}/#/history")
        tab.wait_for_selector("#curve-title:has-text('over time')")
        tab.wait_for_load_state("load")
        time.sleep(2.0)
        answers: list[float] = []
        tab.on(
            "requestfinished", lambda request: answers.append(time.perf_counter()) if "curves" in request.url else None
        )
        began = time.perf_counter()
        tab.get_by_role("button", name="30 days").click()
        while len(answers) < 2:
            tab.wait_for_timeout(10)
        tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        found = round(time.perf_counter() - began, 3)
        browser.close()
    return found


def main() -> None:
    """Runs the page on a made-up history, and prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "edge-sser"
        state.mkdir()
        live = LiveFile(state / "live.json")
        write_history(state / FILE_NAME, live.path)
        stop = threading.Event()
        heard = threading.Thread(target=hear, args=(live, stop))
        heard.start()
        command = [sys.executable, "-m", "edge_sser", "web", "--port", str(PORT)]
        environment = {**os.environ, "XDG_STATE_HOME": folder}
        page = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        try:
            assert page.stdout is not None
            page.stdout.readline()
            time.sleep(5.0)
            found: dict[str, object] = {"resident_mb_at_start": resident_mb(page.pid)}
            found["idle_percent"] = share(page.pid, given.seconds)
            now = int(time.time())
            span = f"since={now // 86_400 * 86_400 - (DAYS - 1) * 86_400}&until={now}"
            found["days_seconds"], found["days_bytes"] = fetch(f"/api/curves?{span}&bin=10800")
            found["hours_seconds"], _ = fetch(f"/api/curves?{span}&bin=3600&source=cab12/desk-3")
            static = Path(__file__).parents[1] / "edge_sser" / "web" / "static"
            found["page_bytes"] = sum(file.stat().st_size for file in static.iterdir())
            found["browser_30_days_seconds"] = browser_seconds()
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/live", timeout=60) as stream:
                stream.readline()
                found["one_page_open_percent"] = share(page.pid, given.seconds / 2)
            found["resident_mb_at_end"] = resident_mb(page.pid)
        finally:
            page.terminate()
            page.wait(30)
            stop.set()
            heard.join()
    print(json.dumps(found, indent=2))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
