"""Choice among the files that ship when no model is named."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from models import changed_card, write_model
from tensorrt_board import Board

from edge_sser.errors import ModelError
from edge_sser.model import model as model_module
from edge_sser.model import shipped
from edge_sser.model.model import Model
from edge_sser.model.shipped import DEFAULT_MODEL, INT8_MODEL, TENSORRT_MODEL, shipped_for
from edge_sser.settings.schema import Runtime

pytestmark = pytest.mark.parametrize("version", ["10.3.0"])


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all three."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name, precision in ((DEFAULT_MODEL, "fp32"), (INT8_MODEL, "int8"), (TENSORRT_MODEL, "int8")):
        write_model(folder / name, card=changed_card(name=name.removesuffix(".onnx"), precision=precision))
    monkeypatch.setattr(shipped, "models_folder", lambda: folder)
    return folder


def taken(runtime: str = "auto") -> tuple[str, str]:
    model = Model.load(runtime=runtime)
    return model.path.name, model.provider


def test_a_processor_gets_int8(board: Board, family: Path) -> None:
    assert taken() == taken("cpu") == (INT8_MODEL, "CPUExecutionProvider")


def test_with_fp32_alone_everything_works(board: Board, family: Path) -> None:
    (family / INT8_MODEL).unlink()
    (family / TENSORRT_MODEL).unlink()
    assert taken() == taken("cpu") == (DEFAULT_MODEL, "CPUExecutionProvider")
    with pytest.raises(ModelError, match="no engine can be used"):
        taken("engine")


def test_an_engine_of_the_file_for_tensorrt_comes_first(board: Board, family: Path, build) -> None:
    build(family / DEFAULT_MODEL)
    assert taken() == taken("engine") == (DEFAULT_MODEL, "TensorRT engine")
    build(family / TENSORRT_MODEL)
    assert taken() == taken("engine") == (TENSORRT_MODEL, "TensorRT engine")
    assert taken("cpu") == (INT8_MODEL, "CPUExecutionProvider")


def test_a_stale_engine_leads_to_the_file_for_the_processor(
    board: Board, family: Path, build, caplog: pytest.LogCaptureFixture
) -> None:
    build(family / TENSORRT_MODEL)
    (path,) = board.engines.glob("*.engine")
    path.write_bytes(path.read_bytes()[:-1])
    assert taken() == (INT8_MODEL, "CPUExecutionProvider")
    (record,) = [record for record in caplog.records if record.name == "edge_sser.model"]
    assert (record.levelname, str(path) in record.getMessage()) == ("WARNING", True)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [(Runtime.CPU, INT8_MODEL), (Runtime.CUDA, DEFAULT_MODEL), (Runtime.TENSORRT, DEFAULT_MODEL)],
)
def test_other_providers_get_fp32(family: Path, version: str, provider: Runtime, expected: str) -> None:
    assert shipped_for(provider).name == expected


def test_a_provider_that_does_not_work_here_leads_to_the_file_for_the_processor(
    board: Board, family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "automatic_providers", lambda: [Runtime.CUDA, Runtime.CPU])
    assert taken() == (INT8_MODEL, "CPUExecutionProvider")


def test_a_model_that_is_named_is_taken_whatever_ships(board: Board, family: Path, tmp_path: Path) -> None:
    mine = shutil.copy(family / DEFAULT_MODEL, tmp_path / "mine.onnx")
    assert Model.load(Path(mine)).path == Path(mine)
    present: Sequence[Runtime] = model_module.automatic_providers()
    assert Runtime.CPU in present
