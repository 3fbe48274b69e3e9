"""`edge-sser export FILE.onnx --target tensorrt`: from a model file to an engine that is tried before it is kept."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from models import changed_card, save_graph, write_model
from onnx import helper, numpy_helper
from tensorrt_board import Board

from edge_sser.cli import main
from edge_sser.model.engine_file import engine_path

COMMAND = [sys.executable, "-m", "edge_sser.cli", "export"]


def header(path: Path) -> dict:
    return json.loads(path.read_bytes().partition(b"\n")[0])


def test_an_engine_is_built_tried_and_put_where_it_is_found(board: Board, model: Path, build) -> None:
    out, err = build(model)
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    path = engine_path(board.engines, sha256)
    assert sorted(file.name for file in board.engines.iterdir()) == [path.name, "timings.cache"]
    assert header(path)["key"] == {
        "model_sha256": sha256,
        "tensorrt": board.version,
        "gpu": "Orin",
        "compute_capability": "8.7",
        "precision": "fp32",
        "batch": 8,
    }
    assert header(path)["sha256"] == hashlib.sha256(path.read_bytes().partition(b"\n")[2]).hexdigest()
    assert out.startswith(f"{path}: ")
    assert f"Orin, TensorRT {board.version}, fp32, logits within 0.0e+00" in out
    assert "this takes minutes" in err
    assert " s  Building" in err
    took, gave = (sorted(line for line in board.memory() if line.startswith(word)) for word in ("alloc", "freed"))
    assert len(took) == 3
    assert [line.split()[1] for line in gave] == [line.split()[1] for line in took]


def test_a_second_build_begins_with_the_timings_of_the_first(board: Board, model: Path, build) -> None:
    build(model)
    first = (board.engines / "timings.cache").read_bytes()
    build(model)
    assert (board.engines / "timings.cache").read_bytes() == first + b"."
    (board.engines / "timings.cache").write_bytes(b"of another board")
    build(model)
    assert (board.engines / "timings.cache").read_bytes() == first


def test_the_folder_and_the_workspace_can_be_set(board: Board, model: Path, build, tmp_path: Path) -> None:
    build(model, "--engines", tmp_path / "mine", "--workspace-mib", "256")
    assert not board.engines.exists()
    (path,) = (tmp_path / "mine").glob("*.engine")
    assert b'"workspace": 268435456' in path.read_bytes()


def test_a_service_of_another_user_can_read_what_a_careful_root_built(board: Board, model: Path, build) -> None:
    before = os.umask(0o077)
    try:
        build(model)
    finally:
        os.umask(before)
    (path,) = board.engines.glob("*.engine")
    assert [each.stat().st_mode & 0o777 for each in (board.engines, path)] == [0o755, 0o644]


def test_it_needs_no_torch(board: Board, model: Path) -> None:
    absent = "torch onnxscript safetensors scipy sklearn pyarrow"
    program = f"import sys; sys.modules.update(dict.fromkeys({absent.split()!r})); from edge_sser.cli import main; "
    program += f"sys.exit(main(['export', {str(model)!r}, '--target', 'tensorrt']))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=board.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(list(board.engines.glob("*.engine"))) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "add --target tensorrt"),
        (("--target", "all"), "add --target tensorrt"),
        (("--target", "tensorrt", "--int8"), "only --engines, --workspace-mib and --compute-capability go with it"),
        (("--target", "tensorrt", "--out", "x"), "only --engines, --workspace-mib and --compute-capability go with it"),
    ],
)
def test_flags_that_do_not_fit_a_model_file(model: Path, arguments, expected: str, capsys) -> None:
    assert main(["export", str(model), *arguments]) == 2
    assert expected in capsys.readouterr().err


def test_without_tensorrt_it_says_what_to_install(model: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sser.model.tensorrt_library.find_spec", lambda name: None)
    assert main(["export", str(model), "--target", "tensorrt"]) == 1
    err = capsys.readouterr().err
    assert 'pip install "edge-sser[tensorrt]"' in err
    assert "JetPack" in err


def test_without_a_gpu_it_says_so(board: Board, model: Path, build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_CUDA_NONE", "1")
    _, err = build(model, status=1)
    assert "CUDA_ERROR_NO_DEVICE" in err
    assert not board.engines.exists()


def test_an_engine_that_computes_something_else_is_not_kept(
    board: Board, model: Path, build, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(model)
    (path,) = board.engines.glob("*.engine")
    before = path.read_bytes()
    monkeypatch.setenv("STAND_IN_TENSORRT_WRONG", "3")
    _, err = build(model, status=1)
    assert "the engine's logits differ from ONNX Runtime's by 3" in err
    assert path.read_bytes() == before
    assert sorted(file.name for file in board.engines.iterdir()) == [path.name, "timings.cache"]


def test_an_fp32_engine_is_held_closer_than_one_in_8_bits(
    board: Board, model: Path, build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_TENSORRT_WRONG", "0.1")
    _, err = build(model, status=1)
    assert "differ from ONNX Runtime's by 0.1, expected at most 0.05" in err
    build(write_model(tmp_path / "int8.onnx", card=changed_card(precision="int8")))


def test_a_graph_that_tensorrt_cannot_read_is_named_with_its_node(build, tmp_path: Path, board: Board) -> None:
    constants = [
        numpy_helper.from_array(np.array(0.1, dtype=np.float32), "scale"),
        numpy_helper.from_array(np.array(7, dtype=np.uint8), "zero"),
        numpy_helper.from_array(np.array([1, 2]), "all"),
        numpy_helper.from_array(np.array([0, 8, -1]), "groups"),
        numpy_helper.from_array(np.array([2]), "last"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["log_mel", "scale", "zero"], ["q"], name="unsigned"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["mel"], name="back"),
        helper.make_node("ReduceMean", ["mel", "all"], ["stress_logit"], keepdims=0),
        helper.make_node("Reshape", ["mel", "groups"], ["grouped"]),
        helper.make_node("ReduceMean", ["grouped", "last"], ["emotion_logits"], keepdims=0),
    ]
    path = save_graph(tmp_path / "unsigned.onnx", nodes, constants)
    _, err = build(path, status=1)
    assert "node unsigned (QuantizeLinear): Assertion failed: shiftIsAllZeros" in err
    assert list(board.engines.iterdir()) == []


def test_tensorrt_that_gives_up_is_one_line(board: Board, model: Path, build, monkeypatch) -> None:
    import tensorrt

    monkeypatch.setattr(tensorrt.Builder, "build_serialized_network", lambda self, network, config: None)
    _, err = build(model, status=1)
    assert "TensorRT could not build an engine (no reason given)" in err
    assert "--workspace-mib" in err
    assert list(board.engines.iterdir()) == []


def test_what_the_bindings_raise_is_one_line(board: Board, model: Path, build, monkeypatch) -> None:
    import tensorrt

    def refuse(self: object, logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(tensorrt.Builder, "__init__", refuse)
    _, err = build(model, status=1)
    assert "TensorRT failed (pybind11::init(): factory function returned nullptr)" in err
    assert list(board.engines.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_before_the_build(board: Board, model: Path, build, tmp_path) -> None:
    (tmp_path / "file").touch()
    _, err = build(model, "--engines", tmp_path / "file" / "below", status=1)
    assert "cannot be written" in err
    assert "--engines" in err
    assert "this takes minutes" not in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("version", ["11.4.0.106"])
def test_a_signal_ends_a_build_and_leaves_nothing(board: Board, model: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [*COMMAND, model, "--target", "tensorrt"],
        env={**board.environment, "STAND_IN_TENSORRT_SLOW": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Building" in line:
            break
    time.sleep(0.2)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping at the next step" in err
    assert list(board.engines.iterdir()) == []


def test_a_version_that_was_never_looked_at_is_refused(board: Board, model: Path, build, monkeypatch) -> None:
    import tensorrt

    for version in ("8.6.1", "10.2.0"):
        monkeypatch.setattr(tensorrt, "__version__", version)
        _, err = build(model, status=1)
        assert f"TensorRT {version} is here, expected 10.3 to 11" in err
