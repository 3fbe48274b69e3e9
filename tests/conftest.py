"""Fixtures that tests share: the recording that ships, a microphone, and a board with TensorRT."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from components import require_programs, require_pyaudio, require_tensorrt_rtx
from hypothesis import HealthCheck, settings
from models import write_model
from tensorrt_board import STAND_INS, VERSIONS, Board
from virtual_microphone import VirtualMicrophone

import edge_sser
from edge_sser.model import cuda
from edge_sser.model.model import Model

# How long an example takes is no law: machines are shared.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
MICROPHONE_PACKAGES = "pulseaudio pulseaudio-utils libasound2-plugins"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lifts the timeout of tests that EDGE_SSER_SOAK=1 makes run for hours."""
    if os.environ.get("EDGE_SSER_SOAK") == "1":
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session", autouse=True)
def plot_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps matplotlib's list of fonts out of the homes that tests make and look into."""
    os.environ["MPLCONFIGDIR"] = str(tmp_path_factory.mktemp("matplotlib"))


@pytest.fixture(scope="session", autouse=True)
def default_signals() -> Iterator[None]:
    """Gives this process, and so the programs that tests start, the signal dispositions of a terminal's foreground.

    `nohup` ignores SIGHUP, and a shell ignores SIGINT and SIGQUIT in a background command. Child processes inherit what
    is ignored, and would not notice the signals that a test sends.
    """
    default = dict.fromkeys((signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM), signal.SIG_DFL)
    before = {number: signal.signal(number, handler) for number, handler in default.items()}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def speech() -> Path:
    """The recording that ships: synthesised speech, 16 kHz mono, with pauses and two manners of speaking."""
    return Path(edge_sser.__file__).parent / "data" / "demo.flac"


@pytest.fixture
def virtual_microphone(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualMicrophone]:
    """A microphone that this process finds as its default one."""
    yield from _virtual_microphone(monkeypatch, channels=1)


@pytest.fixture
def stereo_microphone(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualMicrophone]:
    """A microphone of two channels that this process finds as its default one."""
    yield from _virtual_microphone(monkeypatch, channels=2)


def _virtual_microphone(monkeypatch: pytest.MonkeyPatch, *, channels: int) -> Iterator[VirtualMicrophone]:
    require_programs("pulseaudio", "pactl", packages=MICROPHONE_PACKAGES)
    require_pyaudio()
    microphone = VirtualMicrophone(channels=channels)
    for name, value in microphone.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PULSE_SOURCE", raising=False)
    yield microphone
    microphone.close()


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's libcuda.so.1."""
    require_programs("gcc", packages="gcc")
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    command = ["gcc", "-std=c11", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, STAND_INS / "libcuda.c"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Of TensorRT."""
    return str(request.param)


@pytest.fixture
def board(version: str, driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    """A machine with TensorRT, of either version: stand-ins for its driver, and for what of its package needs one."""
    require_tensorrt_rtx()
    cache, log = tmp_path / "cache", tmp_path / "memory.log"
    variables = {"STAND_IN_TENSORRT": version, "STAND_IN_CUDA_LOG": str(log), "XDG_CACHE_HOME": str(cache)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    monkeypatch.setattr(cuda, "LIBRARY", str(driver))
    monkeypatch.syspath_prepend(str(STAND_INS))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(STAND_INS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "LD_LIBRARY_PATH": str(driver.parent),
    }
    yield Board(version, cache / "edge-sser" / "engines", environment, log)
    sys.modules.pop("tensorrt", None)
    importlib.invalidate_caches()


@pytest.fixture(scope="session")
def samples(speech: Path) -> np.ndarray:
    """Speech with pauses, float32 16 kHz mono, about 45 s."""
    data, rate_hz = soundfile.read(speech, dtype="float32")
    assert rate_hz == 16_000
    data.flags.writeable = False
    return data


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose stress follows the contrast of the sound."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture(scope="session")
def model(model_file: Path) -> Model:
    """The toy model, loaded."""
    return Model.load(model_file)
