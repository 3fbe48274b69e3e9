"""Fixtures of the command line's tests: a small model, and ways to run a command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile
from doctor_report import read_report
from models import write_model
from program import COMMAND

from edge_sser.cli import main
from edge_sser.events import json_schema

_VALIDATOR = jsonschema.Draft202012Validator(json_schema())


@dataclass(frozen=True)
class Result:
    """Result of a command."""

    status: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events on standard output, each of which must fit the schema."""
        events = [json.loads(line) for line in self.out.splitlines()]
        for event in events:
            _VALIDATOR.validate(event)
        return events

    def of_type(self, *types: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] in types]

    def refuses(self, status: int, *parts: str) -> None:
        """One line on standard error that says all of this, the status, and nothing but events on standard output."""
        (line,) = self.err.splitlines()
        assert line.startswith("edge-sser: error: ")
        for part in parts:
            assert part in line
        assert self.status == status
        assert self.events is not None


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without settings, so that those of whoever runs the tests do not count."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("EDGE_SSER_CONFIG", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return home


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model file that answers to the sound."""
    return str(write_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs a command in this process."""

    def call(*arguments: object) -> Result:
        capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        return Result(status, *capfd.readouterr())

    return call


@pytest.fixture
def examine(call: Callable[..., Result], tmp_path: Path, model: str) -> Callable[..., tuple[int, dict[str, str]]]:
    """Runs the doctor with settings: its exit status, and what it found by check."""

    def examine(settings: str = "", *, model: str = model) -> tuple[int, dict[str, str]]:
        path = tmp_path / "config.toml"
        path.write_text(f'{settings}\n[model]\npath = "{model}"\n')
        result = call("doctor", "--config", path)
        assert result.err == ""
        return result.status, read_report(result.out)

    return examine


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs a command in a process of its own."""

    def run(*arguments: object, stdin: bytes = b"") -> Result:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)], input=stdin, capture_output=True, check=False, env=dict(os.environ)
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def write_audio(tmp_path: Path) -> Callable[..., Path]:
    """Writes a recording."""

    def write_audio(
        samples: Any, name: str = "recording.wav", *, subtype: str = "PCM_16", rate_hz: int = 16_000
    ) -> Path:
        path = tmp_path / name
        soundfile.write(path, samples, rate_hz, subtype=subtype)
        return path

    return write_audio


@pytest.fixture(scope="session")
def speech_pcm(speech: Path) -> bytes:
    """The recording that ships as raw PCM: 16 kHz, mono, 16 bit."""
    samples, _ = soundfile.read(speech, dtype="int16")
    return np.asarray(samples, dtype="<i2").tobytes()


@pytest.fixture(scope="session")
def speech_samples(speech: Path) -> Any:
    """The recording that ships: float32 [n], 16 kHz mono."""
    samples, _ = soundfile.read(speech, dtype="float32")
    return samples
