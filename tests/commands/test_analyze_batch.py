"""A batch of recordings: one line for what goes wrong in one, and rows that name their file."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from components import require
from models import changed_card, write_model

COMMAND = [sys.executable, "-m", "edge_sser.cli"]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(16_000 * seconds))


def sources(result) -> list[str]:
    return list(dict.fromkeys(reading["source"] for reading in result.of_type("reading")))


@pytest.mark.parametrize("seconds", [2e12, 910_692_730_085, 253_402_300_000])
def test_a_date_that_no_calendar_holds_is_one_line(call, tmp_path, write_audio, model, seconds):
    far, good = write_audio(noise(3), "far.wav"), write_audio(noise(3), "good.wav")
    folder = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else tmp_path
    place = folder / f"edge-sser-far-{os.getpid()}.wav"
    shutil.copy(far, place)
    try:
        os.utime(place, (seconds, seconds))
        require(place.stat().st_mtime == seconds, "a file system that keeps dates beyond the year 9999")
        result = call("analyze", place, good, "--model", model)
    finally:
        place.unlink()
    result.refuses(1, place.name, "modification time", "touch")
    assert sources(result) == ["good"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_a_library_is_one_line_too(run, tmp_path, write_audio, model, jobs, monkeypatch):
    """A library that raises something that nobody expects, for one file."""
    (tmp_path / "sitecustomize.py").write_text(
        "import soundfile\nread = soundfile.SoundFile.read\n"
        "def fail(self, *a, **k):\n"
        "    if 'bad' in str(self.name): raise RuntimeError('odd\\nstate')\n"
        "    return read(self, *a, **k)\n"
        "soundfile.SoundFile.read = fail\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    bad, good = write_audio(noise(3), "bad.wav"), write_audio(noise(3), "good.wav")
    result = run("analyze", bad, good, "--model", model, "--jobs", jobs)
    result.refuses(1, "bad.wav cannot be analysed (RuntimeError: odd)")
    assert sources(result) == ["good"]


@pytest.mark.parametrize("name", ["5$_and_$6", "$\\frac{1}", "a^b_{c", "会议"])
def test_a_plot_of_any_file_name(call, tmp_path, write_audio, model, name):
    pytest.importorskip("matplotlib")
    files = [write_audio(noise(3), f"{name}.wav"), write_audio(noise(3), "good.wav")]
    result = call("analyze", *files, "--model", model, "--plot", tmp_path / "p.png", "--format", "csv")
    pictures = sorted(tmp_path.glob("p-*.png"))
    told = sorted(f"edge-sser: plot: {picture}" for picture in pictures)
    assert (result.status, len(pictures), sorted(result.err.splitlines())) == (0, 2, told)


def test_rows_name_their_file_in_any_script(call, write_audio, model):
    files = [
        write_audio(noise(3, seed), f"{name}.wav") for seed, name in enumerate(["会议录音1", "会议录音2", "Интервью"])
    ]
    result = call("analyze", *files, "--model", model, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert list(dict.fromkeys(row["file"] for row in rows)) == [str(path) for path in files]


def test_lines_of_json_are_told_apart_by_a_word_on_standard_error(call, write_audio, model):
    files = [write_audio(noise(3), "会议录音.wav"), write_audio(noise(3), "plain.wav")]
    result = call("analyze", *files, "--model", model)
    assert result.err.splitlines() == [f"edge-sser: source {sources(result)[0]} is {files[0]}"]


@pytest.mark.parametrize("start", ["=cmd|'/c calc'!A1", "+1", "-1", "@SUM(1)"])
def test_names_that_a_spreadsheet_would_run_are_quoted(call, tmp_path, write_audio, model, start, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_audio(noise(3), "a.wav")
    shutil.copy("a.wav", f"{start.replace('/', '')}.wav")
    named = write_model(tmp_path / "m.onnx", card=changed_card(name=start))
    for used, file in ((model, f"{start.replace('/', '')}.wav"), (named, "a.wav")):
        result = call("analyze", "--format", "csv", "--model", used, "--", file)
        assert (result.status, result.err) == (0, "")
        rows = list(csv.DictReader(io.StringIO(result.out)))
        assert rows
        for row in rows:
            assert not [text for text in (row["id"], row["source"], row["model"], row["file"]) if text[:1] in "=+-@"]
            assert float(row["dbfs"]) < 0


def test_jobs_run_one_by_one_where_there_is_no_shared_memory(tmp_path, write_audio, model):
    require(os.geteuid() == 0 and shutil.which("unshare") is not None, "root, for a mount of its own")
    files = [str(write_audio(noise(3, seed), f"{seed}.wav")) for seed in range(2)]
    script = 'mount -t tmpfs -o ro none /dev/shm && exec "$@"'
    command = [*COMMAND, "analyze", "--jobs", "2", "--model", model, *files]
    result = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    require("unshare" not in result.stderr and "mount:" not in result.stderr, "the right to mount")
    assert result.returncode == 0
    assert result.stderr.startswith("edge-sser: warning: --jobs needs shared memory, and /dev/shm cannot be written")
    assert '"source":"0"' in result.stdout
    assert '"source":"1"' in result.stdout


def test_no_room_for_the_lines_of_jobs_is_not_blamed_on_standard_output(run, tmp_path, write_audio, model, monkeypatch):
    files = [write_audio(noise(3, seed), f"{seed}.wav") for seed in range(2)]
    code = (
        "import tempfile, sys\n"
        "def none(*a, **k): raise FileNotFoundError(2, 'No usable temporary directory found')\n"
        "tempfile.TemporaryDirectory = none\n"
    )
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    result = run("analyze", *files, "--model", model, "--jobs", 2)
    result.refuses(1, "folder for temporary files cannot be written", "TMPDIR")
