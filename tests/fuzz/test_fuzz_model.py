"""Whatever a model file holds: it works or gets one line. Never a crash of the process, never a hang."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hostile import Worker, check_message, examples
from hypothesis import given
from hypothesis import strategies as st
from models import CARD, save_graph, write_model
from onnx import TensorProto, helper, numpy_helper

from edge_sser.model.shipped import SSER_CNN

LOADER = Path(__file__).with_name("model_loader.py")
FIELDS = sorted(json.loads(CARD.to_json()))


class Loader:
    """Loads model files in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "case.onnx"
        self.worker = Worker(LOADER)

    def load(self, path: Path | None = None) -> tuple[bool, str]:
        """Loads a file, `self.path` by default. Returns success, and the message, empty when it also scores windows."""
        path = path or self.path
        answer = self.worker.ask(path)
        if answer["message"]:
            check_message(answer["message"], path)
            assert answer["message"].startswith(f"model {path}: ")
        assert answer["loaded"] or answer["message"]
        return answer["loaded"], answer["message"]


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    loader = Loader(tmp_path_factory.mktemp("models"))
    yield loader
    loader.worker.close()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[bytes, list[int]]]:
    """Good files, each with the places where it is more than weights."""
    files = [write_model(tmp_path_factory.mktemp("good") / "tiny.onnx"), SSER_CNN.fp32]
    out = []
    for content in (file.read_bytes() for file in files):
        weights = bytearray(len(content))
        for tensor in onnx.load_from_string(content).graph.initializer:
            if len(tensor.raw_data) > 64:
                start = content.index(tensor.raw_data)
                weights[start : start + len(tensor.raw_data)] = b"\1" * len(tensor.raw_data)
        out.append((content, [place for place, is_weight in enumerate(weights) if not is_weight]))
    return out


@examples(120)
@given(data=st.data())
def test_a_good_file_that_was_damaged(
    loader: Loader, originals: list[tuple[bytes, list[int]]], data: st.DataObject
) -> None:
    original, places = data.draw(st.sampled_from(originals))
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        place = places[data.draw(st.integers(0, len(places) - 1))]
        kind = data.draw(st.sampled_from(["flip", "set", "remove", "insert"]))
        if kind == "flip" and place < len(content):
            content[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "set" and place < len(content):
            content[place] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == "remove":
            del content[place : place + data.draw(st.integers(1, 16))]
        else:
            content[place:place] = data.draw(st.binary(max_size=16))
    loader.path.write_bytes(content)
    loader.load()


@examples(20)
@given(data=st.data())
def test_a_file_cut_short_or_made_of_anything(
    loader: Loader, originals: list[tuple[bytes, list[int]]], data: st.DataObject
) -> None:
    content, _ = data.draw(st.sampled_from(originals))
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    loader.path.write_bytes(data.draw(st.just(cut) | st.binary(max_size=500)))
    assert loader.load()[0] is False


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.just("x" * 100_000),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9) | st.just("a\n" * 500), inner),
    max_leaves=5,
)


@examples(80)
@given(
    changes=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=9), JSON_VALUES | st.just(...), max_size=3),
    cut=st.none() | st.integers(0, 900),
)
def test_any_card(loader: Loader, changes: dict[str, Any], cut: int | None) -> None:
    values = {**json.loads(CARD.to_json()), **changes}
    card = json.dumps({name: value for name, value in values.items() if value is not ...})
    write_model(loader.path, card=card[:cut])
    loader.load()


def test_a_card_of_megabytes(loader: Loader) -> None:
    card = json.loads(CARD.to_json())
    write_model(loader.path, card=json.dumps(card | {"notice": "x" * 20_000_000}))
    assert loader.load() == (True, "")
    write_model(loader.path, card=json.dumps(card | {"x" * 3_000_000: 1}))
    assert "unknown field xxx" in loader.load()[1]
    write_model(loader.path, card=json.dumps(card | {"features": {f"k{number}": 1 for number in range(50_000)}}))
    assert "made for other features" in loader.load()[1]
    write_model(loader.path, card=json.dumps(card | {"accuracy": 1})[:-1] + ', "training": ' + "[" * 100_000)
    assert "too deeply nested" in loader.load()[1]


# ---- graphs that are valid, and mean harm

CONSTANTS = {
    "axes": np.array([1, 2]),
    "groups": np.array([0, 300, 8, 8]),
    "within": np.array([1, 3]),
    "for ever": np.array(2**62),
    "true": np.array(True),
    "huge": np.array([2**34]),
    "million": np.array([1, 2**20, 2**10]),
    "table": np.zeros(200, dtype=np.float32),
    "limit": np.array([-20.0], dtype=np.float32),
}
Nodes = list[onnx.NodeProto]


def hostile_graph(path: Path, *nodes: onnx.NodeProto) -> Path:
    """Nodes that make `stress_logit` of `log_mel`, beside decent ones that make `emotion_logits`."""
    rest = [
        helper.make_node("Reshape", ["log_mel", "groups"], ["grouped"]),
        helper.make_node("ReduceMean", ["grouped", "within"], ["emotion_logits"], keepdims=0),
    ]
    return save_graph(path, [*nodes, *rest], [numpy_helper.from_array(it, name) for name, it in CONSTANTS.items()])


def loop_without_end() -> Nodes:
    scalar = [(name, kind, []) for name, kind in (("i", TensorProto.INT64), ("go", TensorProto.BOOL))]
    inputs = [*scalar, ("x", TensorProto.FLOAT, None)]
    body = helper.make_graph(
        [helper.make_node("Identity", [name], [f"{name}2"]) for name in ("go", "x")],
        "body",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(f"{name}2", *rest) for name, *rest in inputs[1:]],
    )
    loop = helper.make_node("Loop", ["for ever", "true", "log_mel"], ["looped"], body=body)
    return [loop, helper.make_node("ReduceMean", ["looped", "axes"], ["stress_logit"], keepdims=0)]


def all_memory() -> Nodes:
    return [
        helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
        helper.make_node("ReduceMean", ["log_mel", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "zero"], ["stress_logit"]),
    ]


def all_memory_from_sound() -> Nodes:
    tile = helper.make_node("Tile", ["log_mel", "million"], ["tiled"])
    return [tile, helper.make_node("ReduceMean", ["tiled", "axes"], ["stress_logit"], keepdims=0)]


def nothing_for_loud_sound() -> Nodes:
    return [
        helper.make_node("ReduceMean", ["log_mel", "axes"], ["mean"], keepdims=0),
        helper.make_node("Less", ["mean", "limit"], ["quiet"]),
        helper.make_node("Compress", ["mean", "quiet"], ["stress_logit"], axis=0),
    ]


def beyond_a_table_for_loud_sound() -> Nodes:
    return [
        helper.make_node("ReduceSum", ["log_mel", "axes"], ["sum"], keepdims=0),
        helper.make_node("Relu", ["sum"], ["loud"]),
        helper.make_node("Cast", ["loud"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "place"], ["stress_logit"]),
    ]


def text_for_a_number() -> Nodes:
    mean = helper.make_node("ReduceMean", ["log_mel", "axes"], ["mean"], keepdims=0)
    return [mean, helper.make_node("Cast", ["mean"], ["stress_logit"], to=TensorProto.STRING)]


@pytest.mark.parametrize("nodes", [loop_without_end, all_memory, all_memory_from_sound, text_for_a_number])
def test_a_graph_that_means_harm_is_refused(loader: Loader, nodes: Callable[[], Nodes]) -> None:
    hostile_graph(loader.path, *nodes())
    loaded, message = loader.load()
    assert not loaded
    assert "not a model that ONNX Runtime can use" in message


@pytest.mark.parametrize("nodes", [nothing_for_loud_sound, beyond_a_table_for_loud_sound])
def test_a_graph_that_fails_on_some_sounds_is_one_line_when_it_does(loader: Loader, nodes: Callable[[], Nodes]) -> None:
    hostile_graph(loader.path, *nodes())
    loaded, message = loader.load()
    assert loaded
    assert "it cannot score a window" in message


@pytest.mark.parametrize("location", ["/etc/passwd", "../../../../etc/passwd", "/dev/zero", "none.bin"])
def test_weights_are_not_taken_from_other_files(loader: Loader, location: str) -> None:
    model = onnx.load(write_model(loader.path))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "slope")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    loader.path.write_bytes(model.SerializeToString())
    assert loader.load()[0] is False


def test_a_graph_that_wants_a_second_input(loader: Loader) -> None:
    model = onnx.load(write_model(loader.path))
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    model.graph.node.append(helper.make_node("Identity", ["more"], ["unused"]))
    loader.path.write_bytes(model.SerializeToString())
    assert loader.load()[0] is False


def test_a_device_is_no_model_file(loader: Loader) -> None:
    assert "Not a regular file" in loader.load(Path("/dev/zero"))[1]
