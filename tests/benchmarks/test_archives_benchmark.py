"""benchmarks/archives.py runs, scaled down, and gives figures of both kinds of archive."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ARCHIVES = Path(__file__).parents[2] / "benchmarks" / "archives.py"


def test_a_scaled_down_run_writes_its_figures(tmp_path: Path) -> None:
    written = tmp_path / "archives.json"
    small = ["--files", "3", "--hours", "0.01", "--jobs", "1", "--out", str(written)]
    subprocess.run([sys.executable, str(ARCHIVES), *small], check=True, capture_output=True)
    figures = json.loads(written.read_text())
    assert figures["short"]["audio_hours"] == round(15 / 3600, 3)
    assert figures["long"]["audio_hours"] == 0.01
    assert min(figures[kind]["hours_a_core_hour"] for kind in ("short", "long")) > 0
