"""benchmarks/live_view.py runs, for some seconds, and gives its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LIVE_VIEW = Path(__file__).parents[2] / "benchmarks" / "live_view.py"


def test_a_short_run_writes_its_figures(tmp_path: Path) -> None:
    written = tmp_path / "view.json"
    options = ["--seconds", "6", "--json", str(written)]  # CPU time comes in steps of 10 ms
    subprocess.run([sys.executable, str(LIVE_VIEW), *options], check=True, capture_output=True, timeout=120)
    figures = json.loads(written.read_text())
    assert figures.keys() == {"sources", "seconds", "listen_percent", "with_view_percent", "view_percent"}
    assert figures["sources"] == 1
    assert min(figures["listen_percent"], figures["with_view_percent"]) > 0
