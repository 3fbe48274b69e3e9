"""The page that leads from a folder of recordings to a running device: its commands, as they stand there."""

from __future__ import annotations

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speech_clips import RATE, speech_clip

from edge_sser.model.model import Model

PAGE = Path(__file__).parents[2] / "docs" / "own-corpus.md"
SHORT = ["optimisation.epochs=2", "optimisation.clips_per_epoch=32", "optimisation.batch=8", "student.width=4"]


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("edge-sser ")]


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """A folder of four people, three calm and three agitated recordings each, with a manifest as the page shows it."""
    folder = tmp_path / "calls"
    folder.mkdir()
    rows = []
    for seed, speaker in enumerate(("ann", "bob", "cleo", "dan")):
        random = np.random.default_rng(seed)
        for place in range(6):
            samples = speech_clip(random, speaker=seed, stressed=bool(place % 2))
            soundfile.write(folder / f"{speaker}-{place + 1}.wav", samples, RATE)
            rows.append((f"{speaker}-{place + 1}.wav", speaker, "FM"[seed % 2], ("low", "1")[place % 2]))
    with (folder / "calls.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "speaker", "sex", "stress"), *rows])
    return folder


def test_the_commands_of_the_page_lead_from_recordings_to_readings(calls: Path) -> None:
    pytest.importorskip("matplotlib", reason='pip install ".[plot]"')
    environment = {name: value for name, value in os.environ.items() if name != "EDGE_SSER_CONFIG"}
    said = {}
    for command in commands():
        name = " ".join(command[1:3]) if command[1] == "train" else command[1]
        if name == "listen":  # the page's has a microphone
            command += ["--source", "calls/ann-2.wav", "--format", "jsonl"]
        if name == "train fit":
            short = [option for change in SHORT for option in ("--set", change)]
            command += [*short, "--threads", "1"]
            if "runs/try" in command:  # another one of the same
                continue
        done = subprocess.run(
            [sys.executable, "-m", "edge_sser.cli", *command[1:]], cwd=calls.parent, env=environment,
            capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        refused = name == "train adapt" and "adapted.onnx is not written: stress AUROC" in done.stderr
        assert done.returncode == int(refused), f"{command}: {done.stderr}"
        assert "Warning" not in done.stderr
        said[" ".join(command[1:4]) if "sser-plus" in command[:4] else name] = done.stdout
    assert "calls: 24 clips; 24 utterances, 4 speakers, 4 folds" in said["train index"]
    assert "| calls | 24 / 4 / 4 | sser-plus.int8.onnx |" in said["train evaluate sser-plus"]
    assert "stress AUROC of held-out speakers" in said["train adapt sser-plus"]
    assert "| calls | 24 / 4 / 4 | sser-cnn | - |" in said["train evaluate"]
    assert "| calls | 24 / 4 / 4 | level-only | - |" in said["train evaluate"]
    assert "level-only" in (calls.parent / "report.html").read_text("utf-8")
    card = Model.load(calls.parent / "models" / "sser-cnn.onnx").card
    assert card.accuracy["sser-cnn"]["corpora"][0]["ua"] is None
    assert card.licence.startswith("yours")
    assert '"type":"reading"' in said["listen"]
    assert said["analyze"]
