"""Engines for tests, as the command line builds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from models import write_model
from tensorrt_board import Board

from edge_sser.cli import main


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips tests for a real board unless they are enabled."""
    if os.environ.get("EDGE_SSER_GPU") == "1":
        return
    config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("gpu")])
    items[:] = [item for item in items if not item.get_closest_marker("gpu")]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "tiny.onnx")


@pytest.fixture
def build(board: Board, capsys: pytest.CaptureFixture[str]):
    """Builds the engine of a model with the command line, and returns the output."""

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
