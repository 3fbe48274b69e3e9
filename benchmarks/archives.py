"""Measures `edge-sser analyze --out`: many short recordings, and one of a day.

    python benchmarks/archives.py --out archives.json            # 10,000 of 5 s, and one of 24 h: about 50 minutes
    python benchmarks/archives.py --files 500 --hours 1          # scaled down

The recordings are made from the one that ships, in a temporary folder, and analysed by the command itself.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16_000


def main() -> None:
    """Makes the recordings, analyses them, and prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="short recordings")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each")
    parser.add_argument("--hours", type=float, default=24.0, help="length of the long recording")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--out", type=Path, help="file for the figures")
    options = parser.parse_args()
    speech, _ = soundfile.read(str(resources.files("edge_sser") / "data" / "demo.flac"), dtype="int16")
    figures: dict[str, Any] = {"cores": os.cpu_count(), "jobs": options.jobs}
    with tempfile.TemporaryDirectory(prefix="edge-sser-archives-") as folder:
        short, long = Path(folder) / "short", Path(folder) / "long"
        write_short(short, speech, options.files, options.seconds)
        figures["short"] = analyse(short, options.jobs, options.files * options.seconds / 3600)
        write_long(long, speech, options.hours)
        figures["long"] = analyse(long, options.jobs, options.hours)
    text = json.dumps({"files": options.files, "seconds": options.seconds, "hours": options.hours, **figures}, indent=2)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


def write_short(folder: Path, speech: np.ndarray, files: int, seconds: float) -> None:
    """Writes short recordings, each from another place of the speech, int16 [n] at 16 kHz."""
    samples = round(RATE * seconds)
    for number in range(files):
        path = folder / f"{number // 1000:03}" / f"{number:06}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = number * 7919 % (speech.size - samples)
        soundfile.write(path, speech[start : start + samples], RATE)


def write_long(folder: Path, speech: np.ndarray, hours: float) -> None:
    """Writes one recording, the speech over and over."""
    folder.mkdir()
    left = round(RATE * 3600 * hours)
    with soundfile.SoundFile(folder / "day.flac", "w", RATE, 1) as file:
        while left > 0:
            file.write(speech[:left])
            left -= speech.size


def analyse(folder: Path, jobs: int, hours: float) -> dict[str, float]:
    """Analyses a folder; returns wall and processor seconds, hours of audio an hour, and the largest process."""
    command = [sys.executable, "-m", "edge_sser.cli", "analyze", folder, "--recursive", "--jobs", str(jobs)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    subprocess.run([*command, "--out", folder.with_name(f"{folder.name}-out")], check=True, stdout=subprocess.DEVNULL)
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "audio_hours": round(hours, 3),
        "wall_s": round(wall, 1),
        "processor_s": round(processor, 1),
        "hours_an_hour": round(3600 * hours / wall, 1),
        "hours_a_core_hour": round(3600 * hours / processor, 1),
        "largest_process_mb": round(after.ru_maxrss / 1000),
    }


if __name__ == "__main__":
    main()
