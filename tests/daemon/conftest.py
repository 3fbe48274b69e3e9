"""Fixtures of the running daemon: models, a broker, and the program as a process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from daemon_process import Daemon
from models import write_model
from stressed_speech import write_sharp_model

MQTT_TESTS = Path(__file__).parent.parent / "sinks"
_spec = importlib.util.spec_from_file_location("mqtt_fixtures", MQTT_TESTS / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
start_broker = _fixtures.start_broker
broker = _fixtures.broker
start_subscriber = _fixtures.start_subscriber
authority = _fixtures.authority


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model file that answers to the sound."""
    return str(write_model(tmp_path_factory.mktemp("model") / "tiny.onnx"))


@pytest.fixture(scope="session")
def sharp_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that tells the two voices of `stressed_speech` apart."""
    return str(write_sharp_model(tmp_path_factory.mktemp("model") / "sharp.onnx"))


@pytest.fixture
def start(tmp_path: Path, model: str) -> Iterator[Callable[..., Daemon]]:
    """Starts `edge-sser listen` as a process, all of them with one state directory."""
    daemons: list[Daemon] = []

    def start(
        *arguments: object,
        constants: dict[str, float] | None = None,
        prefix: Sequence[str] = (),
        fed: bool = False,
        **environment: str,
    ) -> Daemon:
        state = {"STATE_DIRECTORY": str(tmp_path / "state")}
        every = ("--model", model, *map(str, arguments))
        daemons.append(Daemon(*every, environment=state | environment, constants=constants, prefix=prefix, fed=fed))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.kill()
