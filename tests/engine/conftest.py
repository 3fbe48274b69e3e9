"""A board with TensorRT, of either version: stand-ins for its package and its driver."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from components import require_programs
from models import write_model
from tensorrt_board import STAND_INS, VERSIONS, Board

from edge_sser.backends import cuda
from edge_sser.cli import main


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves tests for a real board out, but where they were asked for."""
    if os.environ.get("EDGE_SSER_GPU") == "1":
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("gpu")])
    items[:] = [item for item in items if not item.get_closest_marker("gpu")]


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
    return str(request.param)


@pytest.fixture
def board(version: str, driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
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


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.onnx")


@pytest.fixture
def build(board: Board, capsys: pytest.CaptureFixture[str]):
    """Builds the engine of a model with the command line, and returns what it said."""

    def call(model: Path, *arguments: str | Path, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert main(["export", str(model), "--target", "tensorrt", *map(str, arguments)]) == status
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return said.out, said.err

    return call


@pytest.fixture(scope="session")
def built() -> dict[str, tuple[str, bytes]]:
    """Engines that were built already, by TensorRT's version: the model is always the same."""
    return {}


@pytest.fixture
def engine(board: Board, model: Path, build, built: dict[str, tuple[str, bytes]]) -> Path:
    """The engine of the model, as the command line built it."""
    if board.version not in built:
        build(model)
        (path,) = board.engines.glob("*.engine")
        built[board.version] = path.name, path.read_bytes()
        board.log.unlink()
    name, content = built[board.version]
    board.engines.mkdir(parents=True, exist_ok=True)
    (board.engines / name).write_bytes(content)
    return board.engines / name
