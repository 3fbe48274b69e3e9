"""Calls of the stand-in and of edge-sser, in the bindings of TensorRT 10.3 and 11.4 and of TensorRT for RTX."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from components import require_tensorrt_rtx
from tensorrt_board import STAND_INS, Board

import edge_sser

ROOT = Path(edge_sser.__file__).parent
SIGNATURES = json.loads((STAND_INS / "signatures.json").read_text("utf-8"))
RTX_ONLY = ("IRuntimeCache", "IRuntimeConfig")
# Names in the code that calls the bindings, and their classes.
RECEIVERS = {
    "builder": "Builder",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "error": "ParserError",
    "cache": "ITimingCache",
    "network": "INetworkDefinition",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "self._context": "IExecutionContext",
    "self._runtime": "Runtime",
    "self._config": "IRuntimeConfig",
    "self._cache": "IRuntimeCache",
}
SHARED = ("export/build.py", "model/tensorrt_backend.py")  # the rest of the code is for TensorRT for RTX


def rtx_members(name: str) -> dict[str, Any]:
    """The interface of a class of the installed bindings, as signatures.json has it of the others."""
    path = ROOT.parent / "scripts" / "tensorrt_signatures.py"
    spec = importlib.util.spec_from_file_location("tensorrt_signatures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    require_tensorrt_rtx()
    return module._members(importlib.import_module("tensorrt_rtx_bindings"), name) or {}


def fits(call: ast.Call, overloads: list[list[str]] | None) -> bool:
    keywords = {each.arg for each in call.keywords}
    return any(
        len(call.args) + len(keywords) <= len(names) and keywords <= set(names[len(call.args) :])
        for names in overloads or ()
    )


def uses(path: Path) -> Iterator[tuple[str, str, ast.Call | None]]:
    """Class, member and call of each use of the bindings in a module."""
    tree = ast.parse(path.read_text("utf-8"))
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in RECEIVERS:
            yield RECEIVERS[ast.unparse(node.value)], node.attr, called.get(id(node))
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value).startswith("trt."):
            yield ast.unparse(node.value).removeprefix("trt."), node.attr, None


@pytest.mark.parametrize("name", [*SHARED, "model/rtx.py"])
@pytest.mark.parametrize("library", ["10.3.0", "11.4.0.106", "RTX"])
def test_what_edge_sser_calls_is_in_the_bindings(name: str, library: str, driver: Path) -> None:
    if name not in SHARED and library != "RTX":
        return
    found = list(uses(ROOT / name))
    for kind, member, call in found:
        members = rtx_members(kind) if library == "RTX" else SIGNATURES[library][kind]
        assert member in members, f"{library} has no {kind}.{member}"
        if call is not None:
            assert fits(call, members[member]), f"{library}: {ast.unparse(call)}, expected {members[member]}"
    assert len(found) > 8


def test_every_member_of_the_stand_in_is_one_of_the_real_ones(board: Board) -> None:
    import tensorrt

    assert tensorrt.__version__ == board.version
    compared = 0
    for name, kind in vars(tensorrt).items():
        if name.startswith("_") or not inspect.isclass(kind) or kind.__module__ != "tensorrt":
            continue
        real = rtx_members(name)
        for member, value in vars(kind).items():
            if member.startswith("_") or member == "create_runtime_config":
                continue
            for members in (real, *(() if name in RTX_ONLY else (SIGNATURES[board.version][name],))):
                assert member in members, f"{name}.{member}"
                if inspect.isfunction(value) and (name, member) != ("ICudaEngine", "create_execution_context"):
                    ours = list(inspect.signature(value).parameters)[1:]
                    assert any(ours == each[: len(ours)] for each in members[member]), f"{name}.{member}{ours}"
                compared += 1
    assert compared > 30


def test_a_call_that_does_not_fit_is_seen() -> None:
    overloads = SIGNATURES["10.3.0"]["IBuilderConfig"]["set_memory_pool_limit"]
    for text, expected in (
        ("f(a, b)", True),
        ("f(a, pool_size=b)", True),
        ("f(a, size=b)", False),
        ("f(a, b, c)", False),
    ):
        call = ast.parse(text).body[0].value  # type: ignore[attr-defined]
        assert fits(call, overloads) is expected


def test_what_11_took_away_is_gone() -> None:
    old, new = SIGNATURES["10.3.0"], SIGNATURES["11.4.0.106"]
    assert {"FP16", "INT8"} <= old["BuilderFlag"].keys() - new["BuilderFlag"].keys()
    assert "EXPLICIT_BATCH" in old["NetworkDefinitionCreationFlag"].keys() - new["NetworkDefinitionCreationFlag"].keys()
    assert (new["IInt8Calibrator"], "int8_calibrator" in new["IBuilderConfig"]) == (None, False)
