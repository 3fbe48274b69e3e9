"""The check of a model file before ONNX Runtime sees it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import save_graph, write_model
from onnx import TensorProto, helper, numpy_helper

from edge_sser.errors import ModelError
from edge_sser.model import graph_check
from edge_sser.model.graph_check import check_graph, read_metadata
from edge_sser.model.model import CARD_KEY, Model
from edge_sser.model.shipped import models_folder

MODELS = sorted(models_folder().glob("*.onnx"))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_every_model_that_ships_passes_and_gives_its_card(path: Path) -> None:
    check_graph(path.read_bytes())
    metadata = read_metadata(path.read_bytes())
    assert metadata == {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert json.loads(metadata[CARD_KEY])


def outside(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def outside_in_a_constant(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="c", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="weights.bin")
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def outside_by_location_alone(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", "x"], ["y"], body=body))


def graph_in_a_known_operator(model: onnx.ModelProto) -> None:
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("Identity", ["log_mel"], ["y"], body=body))


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Attention", ["x"], ["y"], domain="com.microsoft"))


def function(model: onnx.ModelProto) -> None:
    model.functions.append(helper.make_function("mine", "Twice", ["x"], ["y"], [], []))


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1 << 40]))


def huge(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(TensorProto(name="h", data_type=TensorProto.FLOAT, dims=[1 << 20, 1 << 20]))


def many_nodes(model: onnx.ModelProto) -> None:
    model.graph.node.extend(helper.make_node("Identity", ["log_mel"], [f"n{i}"]) for i in range(graph_check.MAX_NODES))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (outside, "in another file"),
        (outside_in_a_constant, "in another file"),
        (outside_by_location_alone, "in another file"),
        (loop, "a graph in a graph"),
        (graph_in_a_known_operator, "a graph in a graph"),
        (foreign_operator, r"operator com\.microsoft\.Attention"),
        (function, "functions of its own"),
        (sparse, "sparse weights"),
        (huge, r"the shape \[1048576, 1048576\]"),
        (many_nodes, "nodes, more than"),
    ],
)
def test_what_a_model_does_not_need_is_refused_before_the_runtime_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil, message: str
) -> None:
    model = onnx.load(write_model(tmp_path / "m.onnx"))
    spoil(model)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    monkeypatch.setattr("edge_sser.model.onnx_backend._session", lambda *a: pytest.fail("the runtime saw it"))
    with pytest.raises(ModelError, match=message):
        Model.load(tmp_path / "m.onnx", runtime="cpu")


def test_weights_beside_the_working_directory_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is there, of the right size, below the working directory: ONNX Runtime alone would take it."""
    model = onnx.load(write_model(tmp_path / "m.onnx"))
    tensor = next(each for each in model.graph.initializer if each.name == "slope")
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="in another file"):
        Model.load(tmp_path / "m.onnx", runtime="cpu")


def test_a_file_larger_than_any_model_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(graph_check.MAX_FILE_BYTES + 1)
    with pytest.raises(ModelError, match="Larger than a model"):
        Model.load(path, runtime="cpu")


def gigabytes(path: Path, shape: list[int]) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("ReduceMean", ["log_mel", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "zero"], ["stress_logit"]),
        helper.make_node("Reshape", ["log_mel", "groups"], ["grouped"]),
        helper.make_node("ReduceMean", ["grouped", "within"], ["emotion_logits"], keepdims=0),
    ]
    values = {"shape": shape, "axes": [1, 2], "groups": [0, 300, 8, 8], "within": [1, 3]}
    constants = [numpy_helper.from_array(np.array(value, dtype=np.int64), name) for name, value in values.items()]
    save_graph(path, nodes, constants)


def test_a_model_gets_a_gigabyte_and_not_the_machine(tmp_path: Path) -> None:
    gigabytes(tmp_path / "m.onnx", [1 << 10, 1 << 10, 768])  # 3 GiB
    program = (
        "import sys; from pathlib import Path; from edge_sser.errors import ModelError\n"
        "from edge_sser.model.model import Model\n"
        "try: Model.load(Path(sys.argv[1]), runtime='cpu')\n"
        "except ModelError as error: print(error)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "m.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    message, peak = done.stdout.splitlines()
    assert "not a model that ONNX Runtime can use" in message
    assert int(peak) < 1_500_000  # KiB


def test_the_limit_of_memory_ends_with_the_check(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    Model.load(write_model(tmp_path / "m.onnx"), runtime="cpu")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_field_number_that_protobuf_would_cut_to_another_is_refused() -> None:
    """Protobuf keeps 32 bits of a tag: one with higher bits would be unknown here and weights outside there."""
    graph = 7 << 3 | 2 | 1 << 32
    tag = bytes((graph >> shift & 0x7F) | (0x80 if shift < 28 else 0) for shift in range(0, 35, 7))
    with pytest.raises(ValueError, match="no ONNX file"):
        check_graph(MODELS[0].read_bytes() + tag + b"\x00")
