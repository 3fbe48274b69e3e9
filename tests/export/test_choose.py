"""Graphs in 8 bits: what they hold, and that they still compute what the network does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from quantised import calibration_data, exported, fp32, int8, logits, spoken

from edge_sser.errors import UsageError
from edge_sser.export import choose as choosing
from edge_sser.export.calibration import Method
from edge_sser.export.choose import choose, levels
from edge_sser.export.quantize import Target, slow_nodes, weighted_nodes
from edge_sser.export.tensorrt import check_tensorrt_graph
from edge_sser.model.vote import EmotionVote
from edge_sser.train.students.vit import ColumnVit


def constants(model: onnx.ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def weights_of(model: onnx.ModelProto, name: str) -> TensorProto:
    """The stored weights of a node, before what dequantises them."""
    node = next(node for node in model.graph.node if node.name == name)
    made_by = {output: each for each in model.graph.node for output in each.output}
    source = made_by.get(node.input[1])
    return constants(model)[node.input[1] if source is None else source.input[0]]


@pytest.mark.parametrize("target", Target)
def test_the_logits_stay_close_and_the_weights_are_stored_in_8_bits(tmp_path: Path, target: Target) -> None:
    model, card = fp32(tmp_path)
    before = model.SerializeToString()
    made = int8(model, target)
    assert model.SerializeToString() == before
    windows = spoken(16, seed=900)
    truth, found = (logits(each, card, windows, tmp_path) for each in (model, made))
    assert np.abs(truth - found).max() < 0.25 * truth.std()
    assert {weights_of(made, name).data_type for name in weighted_nodes(model)} == {TensorProto.INT8}
    assert [entry.domain for entry in made.opset_import] == [""]


def test_for_a_cpu_activations_are_unsigned_and_weights_have_a_scale_a_channel(tmp_path: Path) -> None:
    model, _ = fp32(tmp_path)
    made = int8(model, Target.CPU)
    known = constants(made)
    for node in made.graph.node:
        if node.op_type == "QuantizeLinear":
            assert known[node.input[2]].data_type == TensorProto.UINT8
    scales = numpy_helper.to_array(known["student.body.1.0.weight_scale"])
    assert scales.shape == (8,)
    assert len(set(scales.tolist())) > 1
    assert "Relu" not in {node.op_type for node in made.graph.node}  # an unsigned range from 0 does its work


def test_for_tensorrt_all_zero_points_are_0_the_bias_is_float_and_nothing_parts_a_convolution_from_its_relu(
    tmp_path: Path,
) -> None:
    model, _ = fp32(tmp_path)
    made = int8(model, Target.TENSORRT)
    check_tensorrt_graph(made)
    known = constants(made)
    made_by = {output: node for node in made.graph.node for output in node.output}
    for node in made.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not numpy_helper.to_array(known[node.input[2]]).any()
        if node.op_type == "Conv":
            assert known[node.input[2]].data_type == TensorProto.FLOAT
        if node.op_type == "Relu":
            assert made_by[node.input[0]].op_type == "Conv"


def test_on_a_cpu_a_stem_of_one_channel_stays_in_float_since_8_bits_are_slower_there(tmp_path: Path) -> None:
    model, card = fp32(tmp_path)
    stem = weighted_nodes(model)[0]
    assert slow_nodes(model, Target.CPU) == [stem]
    assert slow_nodes(model, Target.TENSORRT) == []
    made, choice = choose(model, card, Target.CPU, calibration_data())
    assert choice.float_nodes == (stem,)
    assert weights_of(made, stem).data_type == TensorProto.FLOAT


@pytest.mark.parametrize("target", Target)
def test_a_node_that_stays_float_keeps_its_weights(tmp_path: Path, target: Target) -> None:
    model, _ = fp32(tmp_path)
    nodes = weighted_nodes(model)
    made = int8(model, target, keep_float=(nodes[0], nodes[-1]))
    kept = {name for name in nodes if weights_of(made, name).data_type == TensorProto.FLOAT}
    assert kept == {nodes[0], nodes[-1]}
    if target is Target.TENSORRT:
        check_tensorrt_graph(made)


def test_the_method_with_the_least_error_is_taken_and_no_node_is_swept_where_windows_agree(tmp_path: Path) -> None:
    model, card = fp32(tmp_path)
    made, choice = choose(model, card, Target.CPU, calibration_data())
    assert choice.error_by_method.keys() == {method.value for method in Method}
    assert choice.error_by_method[choice.method.value] == min(choice.error_by_method.values())
    assert choice.error_by_node == {}
    windows = calibration_data().tuning
    truth, found = (logits(each, card, windows, tmp_path) for each in (model, made))
    assert np.sqrt(np.mean((truth - found) ** 2)) == pytest.approx(choice.error, rel=1e-3)
    assert np.mean(levels(card, truth[:, 0]) == levels(card, found[:, 0])) == choice.agreement
    again, _ = choose(model, card, Target.CPU, calibration_data())
    assert again.SerializeToString() == made.SerializeToString()


def test_nodes_go_back_to_float_where_too_few_levels_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, card = fp32(tmp_path)
    monkeypatch.setattr(choosing, "MIN_AGREEMENT", 1.1)  # never reached
    made, choice = choose(model, card, Target.CPU, calibration_data())
    assert choice.float_nodes
    assert list(choice.error_by_node) == weighted_nodes(model)
    assert choice.error < min(choice.error_by_method.values())
    for name in choice.float_nodes:
        assert weights_of(made, name).data_type == TensorProto.FLOAT


def test_a_named_node_stays_in_float_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    model, card = fp32(tmp_path)
    last = weighted_nodes(model)[-1]
    made, choice = choose(model, card, Target.CPU, calibration_data(), [last])
    assert last in choice.float_nodes
    assert weights_of(made, last).data_type == TensorProto.FLOAT
    with pytest.raises(UsageError, match=r"--float node_x: no node of that name has weights: .*" + last):
        choose(model, card, Target.CPU, calibration_data(), ["node_x"])


def test_of_a_transformer_only_what_has_weights_is_quantised(tmp_path: Path) -> None:
    model, card = exported(ColumnVit(width=24, token_frames=4, emotions=8, dropout=0.1), tmp_path)
    made = int8(model, Target.TENSORRT)
    check_tensorrt_graph(made)
    quantised = {
        node.name
        for node in made.graph.node
        if node.op_type in ("MatMul", "Gemm", "Conv") and "Output" in node.input[1]
    }
    assert quantised == set(weighted_nodes(model))
    windows = spoken(8, seed=900)
    truth, found = (logits(each, card, windows, tmp_path) for each in (model, made))
    assert np.abs(truth - found).max() < 0.25 * truth.std()


def test_files_are_compared_by_the_stress_that_a_device_computes(tmp_path: Path) -> None:
    model, card = fp32(tmp_path)
    vote = EmotionVote(share=0.5, stressed=card.emotions[:2], unstressed=card.emotions[2:])
    windows = spoken(4, seed=901)
    plain, voting = (choosing._logits(model, each, windows) for each in (card, replace(card, emotion_vote=vote)))
    expected = 0.5 * plain[:, 0] + 0.5 * vote.log_odds(plain[:, 1:], card.emotions)
    assert voting[:, 0] == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(voting[:, 1:], plain[:, 1:])
