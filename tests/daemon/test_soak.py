"""Half an hour of audio, and a day of it with EDGE_SSER_SOAK=1: nothing grows, and every reading is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from components import require
from mqtt_rig import MOSQUITTO

SOAK = Path(__file__).parent.parent.parent / "benchmarks" / "soak.py"
# A leak of one reading for each reading is 1.6 MiB and more in the 24 minutes that count; what is well drifts by 0.1.
LENGTH = ["--hours", "0.5", "--warm-up", "6", "--every", "2", "--max-drift", "0.75"]
if os.environ.get("EDGE_SSER_SOAK") == "1":
    LENGTH = ["--hours", "24"]


@pytest.mark.soak
@pytest.mark.parametrize("broker", ["mosquitto", "none"])
def test_hours_of_audio_leak_neither_memory_nor_files_nor_threads(tmp_path: Path, broker: str) -> None:
    require(MOSQUITTO is not None or broker == "none", "mosquitto not found: apt install mosquitto")
    out = tmp_path / "soak.json"
    command = [sys.executable, SOAK, *LENGTH, "--broker", broker, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())["figures"]
    assert figures["readings"] == figures["readings_expected"] > 3_000
    assert figures["readings_scored"] > 1_000
    assert figures["episodes"] > 3
    assert (len(figures["fds"]), len(figures["threads"])) == (1, 1)
