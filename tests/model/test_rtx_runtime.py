"""An engine of TensorRT for RTX on a machine with its GPU: NVIDIA's builder, and a stand-in for execution."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from components import require_tensorrt_rtx
from tensorrt_board import STAND_INS

from edge_sser.cli import main
from edge_sser.errors import ModelError
from edge_sser.model import cuda, tensorrt_library
from edge_sser.model.model import Model
from edge_sser.model.tensorrt_library import RTX
from edge_sser.pipeline.features import FEATURES

VERSION = "1.7.1.116"


@pytest.fixture
def trt(driver: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The package, on a machine with a GPU of capability 8.6."""
    require_tensorrt_rtx()
    monkeypatch.setenv("STAND_IN_TENSORRT", VERSION)
    monkeypatch.setenv("STAND_IN_CUDA_MINOR", "6")
    monkeypatch.setattr(cuda, "LIBRARY", str(driver))
    monkeypatch.syspath_prepend(str(STAND_INS))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    import tensorrt

    monkeypatch.setattr(tensorrt, "__name__", RTX.package)
    monkeypatch.setattr(tensorrt_library, "import_module", {RTX.package: tensorrt}.__getitem__)
    yield tensorrt
    sys.modules.pop("tensorrt", None)


@pytest.fixture
def engines(trt: ModuleType, model: Path, tmp_path: Path) -> Path:
    """Folder with the engine for this machine, as the command line built it."""
    folder = tmp_path / "engines"
    command = ["export", str(model), "--target", "tensorrt-rtx", "--engines", str(folder)]
    assert main([*command, "--compute-capability", "current"]) == 0
    return folder


def test_an_engine_that_this_machine_runs_is_compared_and_taken(
    capsys: pytest.CaptureFixture[str], engines: Path, model: Path
) -> None:
    assert f"sm86, TensorRT RTX {VERSION}, fp32" in (out := capsys.readouterr().out)
    assert "logits within 0.0e+00 of ONNX Runtime's" in out
    assert [path.suffixes for path in sorted(engines.iterdir())] == [[".sm86", ".engine"], [".sm86", ".jit"]]
    taken, reference = Model.load(model, engines=engines), Model.load(model, runtime="cpu")
    assert taken.provider == "TensorRT engine"
    windows = np.random.default_rng(0).normal(-60.0, 20.0, (9, FEATURES.frames, FEATURES.bands)).astype(np.float32)
    for found, expected in zip(taken.logits(windows), reference.logits(windows), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_engine_that_computes_something_else_is_not_kept(
    trt: ModuleType, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STAND_IN_TENSORRT_WRONG", "1")
    command = ["export", str(model), "--target", "tensorrt-rtx", "--engines", str(tmp_path / "engines")]
    assert main([*command, "--compute-capability", "sm86", "--compute-capability", "sm89"]) == 1
    assert "the engine's logits differ from ONNX Runtime's by 1, expected at most 0.05" in capsys.readouterr().err
    assert list((tmp_path / "engines").iterdir()) == []


def of_another_capability(engine: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_CUDA_MINOR", "9")


def of_another_version(engine: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "__version__", "1.8.0.1")


def renamed(engine: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.rename(engine.with_name(engine.name.replace("sm86", "sm89")))
    monkeypatch.setenv("STAND_IN_CUDA_MINOR", "9")


def cut_short(engine: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.write_bytes(engine.read_bytes()[:-1])


def without_a_driver(engine: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "LIBRARY", "libcuda.so.none")


def without_the_wheels(engine: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_library, "import_module", {}.__getitem__)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (of_another_capability, "engines for sm86, here is sm89"),
        (of_another_version, f"its tensorrt is RTX {VERSION}, here RTX 1.8.0.1"),
        (renamed, "its compute_capability is 8.6, here 8.9"),
        (cut_short, "its sha256 is not what its header says"),
        (without_a_driver, "no NVIDIA driver can be loaded"),
        (without_the_wheels, "TensorRT for RTX cannot be imported"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_engine_that_cannot_be_used_is_a_miss_with_one_line(
    engines: Path,
    trt: ModuleType,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path, ModuleType, pytest.MonkeyPatch], None],
    expected: str,
) -> None:
    (engine,) = engines.glob("*.engine")
    spoil(engine, trt, monkeypatch)
    with caplog.at_level(logging.INFO, logger="edge_sser.model"):
        assert Model.load(model, engines=engines).provider == "CPUExecutionProvider"
    (record,) = [record for record in caplog.records if record.name == "edge_sser.model"]
    assert (record.levelno, len(record.getMessage().splitlines())) == (logging.WARNING, 1)
    assert expected in record.getMessage()
    with pytest.raises(ModelError, match="no engine can be used"):
        Model.load(model, runtime="engine", engines=engines)


def test_a_damaged_cache_of_kernels_is_made_again(engines: Path, model: Path, caplog: pytest.LogCaptureFixture) -> None:
    (cache,) = engines.glob("*.jit")
    whole = cache.read_bytes()
    cache.write_bytes(whole[:-3])
    with caplog.at_level(logging.INFO, logger="edge_sser.tensorrt"):
        assert Model.load(model, runtime="engine", engines=engines).provider == "TensorRT engine"
    (record,) = caplog.records[:1]
    assert f"{cache}: damaged, or of another GPU or driver" in record.getMessage()
    assert cache.read_bytes() == whole


def test_a_cache_that_others_may_write_is_not_read(engines: Path, model: Path) -> None:
    (cache,) = engines.glob("*.jit")
    cache.chmod(0o666)
    assert Model.load(model, runtime="engine", engines=engines).provider == "TensorRT engine"
    assert cache.stat().st_mode & 0o777 == 0o644  # replaced
