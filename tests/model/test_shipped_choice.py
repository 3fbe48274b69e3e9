"""Choice among the files of a model that ships."""

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
from edge_sser.model.shipped import DEFAULT, MODELS, SSER_CNN, SSER_PLUS, ShippedModel, trainable_file
from edge_sser.settings.schema import Runtime

pytestmark = pytest.mark.parametrize("version", ["10.3.0"])
CPU = "CPUExecutionProvider"


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of both models."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(shipped, "models_folder", lambda: folder)
    for model in MODELS.values():
        for path in {model.int8, *model.for_engines()}:
            card = changed_card(name=path.stem, precision="int8" if "int8" in path.name else "fp32")
            write_model(path, card=card)
    return folder


def taken(name: str | None, runtime: str = "auto") -> tuple[Path, str]:
    model = Model.load(Path(name) if name else None, runtime=runtime)
    return model.path, model.provider


@pytest.mark.parametrize("name", [None, "sser-plus", "sser-cnn"])
def test_a_processor_gets_int8(board: Board, family: Path, name: str | None) -> None:
    expected = MODELS[name or "sser-plus"].int8
    assert taken(name) == taken(name, "cpu") == (expected, CPU)


def test_without_an_engine_none_can_be_demanded(board: Board, family: Path) -> None:
    with pytest.raises(ModelError, match="no engine can be used"):
        taken(None, "engine")


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_an_engine_of_the_file_for_tensorrt_comes_first(board: Board, family: Path, build, model: ShippedModel) -> None:
    for path in reversed(model.for_engines()):
        build(path)
        assert taken(model.name) == taken(model.name, "engine") == (path, "TensorRT engine")
    assert taken(model.name)[0] == model.tensorrt
    assert taken(model.name, "cpu") == (model.int8, CPU)


def test_an_engine_of_the_other_model_is_not_taken(board: Board, family: Path, build) -> None:
    build(SSER_CNN.tensorrt)
    assert taken("sser-plus") == (SSER_PLUS.int8, CPU)


def test_a_stale_engine_leads_to_the_file_for_the_processor(
    board: Board, family: Path, build, caplog: pytest.LogCaptureFixture
) -> None:
    build(DEFAULT.tensorrt)
    (path,) = board.engines.glob("*.engine")
    path.write_bytes(path.read_bytes()[:-1])
    assert taken(None) == (DEFAULT.int8, CPU)
    (record,) = [record for record in caplog.records if record.name == "edge_sser.model"]
    assert (record.levelname, str(path) in record.getMessage()) == ("WARNING", True)


@pytest.mark.parametrize("provider", [Runtime.CUDA, Runtime.TENSORRT])
def test_other_providers_get_fp32_or_the_file_for_tensorrt(family: Path, version: str, provider: Runtime) -> None:
    assert SSER_CNN.for_provider(provider) == SSER_CNN.fp32
    assert SSER_PLUS.for_provider(provider) == SSER_PLUS.tensorrt


def test_a_provider_that_does_not_work_here_leads_to_the_file_for_the_processor(
    board: Board, family: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "automatic_providers", lambda: [Runtime.CUDA, Runtime.CPU])
    assert taken(None) == (DEFAULT.int8, CPU)


def test_a_model_that_is_named_is_taken_whatever_ships(board: Board, family: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copy(SSER_CNN.fp32, tmp_path / "mine.onnx"))
    assert Model.load(mine).path == mine
    present: Sequence[Runtime] = model_module.automatic_providers()
    assert Runtime.CPU in present


def test_training_goes_on_from_fp32_or_int8_and_an_existing_file_wins(
    family: Path, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trainable_file(Path("sser-cnn")) == SSER_CNN.fp32
    assert trainable_file(Path("sser-plus")) == SSER_PLUS.int8
    monkeypatch.chdir(tmp_path)
    Path("sser-cnn").write_bytes(b"mine")
    assert trainable_file(Path("sser-cnn")) == Path("sser-cnn")
