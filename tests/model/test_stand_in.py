"""The stand-in for TensorRT has nothing that the real one lacks, or calls otherwise."""

from __future__ import annotations

import enum
import inspect
import json
from types import ModuleType
from typing import Any

import pytest
from tensorrt_board import STAND_INS, Board

SIGNATURES = json.loads((STAND_INS / "signatures.json").read_text("utf-8"))


@pytest.fixture
def trt(board: Board) -> ModuleType:
    import tensorrt

    assert tensorrt.__version__ == board.version
    return tensorrt


def test_every_member_is_one_of_the_real_ones(trt: ModuleType, board: Board) -> None:
    real = SIGNATURES[board.version]
    compared = 0
    for name, kind in vars(trt).items():
        if name.startswith("_") or not inspect.isclass(kind) or kind.__module__ != "tensorrt":
            continue
        assert real[name] is not None, f"TensorRT {board.version} has no {name}"
        for member, value in vars(kind).items():
            if member.startswith("_") and member != "__init__":
                continue
            if isinstance(value, enum.Enum):
                assert real[name][member] == int(value), f"{name}.{member}"
            elif inspect.isfunction(value) and not (member == "__init__" and value.__name__ == "_no_constructor"):
                ours = list(inspect.signature(value).parameters)[1:]
                # Arguments with defaults may be missing at the end.
                assert any(ours == each[: len(ours)] for each in real[name][member]), f"{name}.{member}{ours}"
            else:
                assert member in real[name] or member == "__init__", f"{name}.{member}"
            compared += 1
    assert compared > 50


def test_what_11_took_away_is_gone() -> None:
    old, new = SIGNATURES["10.3.0"], SIGNATURES["11.4.0.106"]
    assert {"FP16", "INT8"} <= old["BuilderFlag"].keys() - new["BuilderFlag"].keys()
    assert "EXPLICIT_BATCH" in old["NetworkDefinitionCreationFlag"].keys() - new["NetworkDefinitionCreationFlag"].keys()
    assert (new["IInt8Calibrator"], "int8_calibrator" in new["IBuilderConfig"]) == (None, False)


def test_wrong_calls_raise_what_the_bindings_raise(trt: Any, board: Board) -> None:
    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: object, msg: str) -> None:
            pass

    class Forgetful(trt.ILogger):
        def __init__(self) -> None:
            pass

    builder = trt.Builder(Logger())
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for wrong in (
        lambda: trt.Builder(Forgetful()),
        lambda: trt.Builder(),
        lambda: 1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED,
        lambda: builder.create_network(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
        lambda: config.set_memory_pool_limit(0, 1 << 20),
        lambda: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size=1 << 20),
        lambda: config.set_timing_cache(config.create_timing_cache(b"")),
        lambda: config.create_timing_cache(None),
        lambda: profile.set_shape("x", 1, 1, 1),
        lambda: trt.INetworkDefinition(),
        lambda: setattr(config, "progress_monitor", object()),
        lambda: trt.Runtime(Logger()).deserialize_cuda_engine("text"),
    ):
        with pytest.raises(TypeError):
            wrong()
    for gone in ("max_workspace_size", "flagz"):
        with pytest.raises(AttributeError):
            setattr(config, gone, 1)
    removed = (
        lambda: trt.BuilderFlag.FP16,
        lambda: trt.BuilderFlag.INT8,
        lambda: trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH,
        lambda: trt.IInt8Calibrator,
        lambda: config.int8_calibrator,
        lambda: builder.platform_has_fast_fp16,
    )
    for call in removed:
        if board.version.startswith("11"):
            with pytest.raises(AttributeError):
                call()
        else:
            call()
