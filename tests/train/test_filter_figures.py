"""The figures of scripts/filter_figures.py on windows whose answers are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from edge_sser.model.model import Model
from edge_sser.model.shipped import model_file
from edge_sser.train.evaluate.kept_windows import KeptWindows, probe, write_windows
from edge_sser.train.evaluate.replay import HeardStream
from edge_sser.train.evaluate.strangers import Kind
from edge_sser.train.evaluate.streams import Span

SCRIPT = Path(__file__).parents[2] / "scripts" / "filter_figures.py"
HOP = 8000
WINDOWS = 240  # 2 minutes
STRESS = slice(140, 200)


def stream(speaker: int, kind: Kind, level: float, stressed: float | None = None) -> HeardStream:
    log_odds = np.random.default_rng(speaker).normal(level, 0.3, WINDOWS)
    if stressed is not None:
        log_odds[STRESS] += stressed - level
    ends = [HOP * (6 + place) for place in range(WINDOWS)]
    events = [] if stressed is None else [Span(ends[STRESS.start] - HOP, ends[STRESS.stop - 1])]
    return HeardStream(
        corpus="toy", speaker=f"{speaker}", sex="F", kind=kind, events=events, length=ends[-1], ends=ends,
        scored=[True] * WINDOWS, log_odds=log_odds.tolist(), speech_seconds=[0.5] * WINDOWS,
    )  # fmt: skip


def figures(path: Path, stressed: float) -> list[str]:
    streams = []
    for speaker in range(8):
        calm = -2.5 + 0.2 * speaker
        streams += [
            stream(speaker, Kind.EVENT, calm, stressed),
            stream(speaker, Kind.CALM, calm),
            stream(speaker, Kind.LIVELY, 0.5 * calm - 0.4),
        ]
    small = probe(Model.load(model_file(Path("sser-cnn"))))
    write_windows(path, KeptWindows({"models": {"file": small}}, streams, []))
    done = run("sser-cnn", path)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=200, check=False
    )


def test_what_is_plain_is_found_and_the_states_are_those_of_the_windows(tmp_path: Path) -> None:
    lines = figures(tmp_path / "windows.json", stressed=2.0)
    calm, lively, stressed = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:5])
    assert (calm[:2], lively[:2], stressed[:2]) == (["calm", "8"], ["lively", "8"], ["stressed", "8"])
    assert abs(float(calm[2]) + 1.8) < 0.05
    assert abs(float(stressed[2]) - 2.0) < 0.05
    assert abs(float(calm[4]) - 0.3) < 0.05
    assert abs(float(lively[5].split(",")[0]) - 0.5) < 0.1
    assert any("first second: 100 % (8/8) found" in line for line in lines)
    assert any(line.startswith("- Ten minutes of stress") and line.endswith("(8 streams).") for line in lines)
    assert any("0 false episodes in 30 pairs of 8 voices" in line for line in lines)
    adaptive = [line for line in lines if line.startswith("| adaptive | 4.0")]
    assert len(adaptive) == 1
    assert "100 % (8/8)" in adaptive[0]


def test_stress_that_sounds_like_calm_speech_is_not_found(tmp_path: Path) -> None:
    lines = figures(tmp_path / "windows.json", stressed=-1.8)
    (adaptive,) = (line for line in lines if line.startswith("| adaptive | 0.25"))
    assert "| 0 % (0/8) |" in adaptive or "| 12 % (1/8) |" in adaptive


def test_windows_of_another_model_and_missing_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "windows.json"
    write_windows(path, KeptWindows({"models": {"file": 0.0}}, [stream(1, Kind.CALM, -2.0)], []))
    for arguments, message in (
        (("sser-cnn", path), "was not made with sser-cnn"),
        (("sser-cnn", tmp_path / "none.json"), "No such file"),
        (("sser-cnn",), "usage: "),
    ):
        done = run(*arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
