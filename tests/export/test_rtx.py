"""Engines from NVIDIA's own parser and builder, which need no GPU: TensorRT for RTX."""

from __future__ import annotations

import hashlib
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import test_tensorrt as graphs
import torch
from components import require_tensorrt_rtx
from network_values import evaluate
from quantised import exported, fp32, int8, spoken

from edge_sser.cli import main
from edge_sser.errors import ModelError
from edge_sser.export.build import EngineBuilder
from edge_sser.export.engine import inspect_layers
from edge_sser.export.quantize import Target
from edge_sser.export.tensorrt import check_tensorrt_graph, with_half_precision
from edge_sser.model.card import Card
from edge_sser.model.engine_file import engine_path
from edge_sser.model.model import Model
from edge_sser.model.rtx import CAPABILITIES, prepare_build
from edge_sser.model.shipped import MODELS, SSER_CNN, SSER_PLUS
from edge_sser.model.tensorrt_library import RTX, make_logger
from edge_sser.train.students.vit import ColumnVit

WORKSPACE_BYTES = 8 << 20  # that the builder reserves for the kernels of convolutions, which it does not know yet
WINDOW_BYTES = 300_000  # activations of a window: the two largest tensors of the network are alive at once
# What the builder warns of, and why nothing is wrong.
EXPLAINED = (
    r"Converting conv (activation|weight) scales to fp32",  # scales of FP16 graphs: the INT8 kernels want FP32
    r"The logger passed into createInferBuilder differs",  # from the stand-in's, where its tests ran before
)
LAYERS = {
    ("fp32", False): "convolutions: 9 in FP32; matrix products: 1 in FP32",
    ("fp32", True): "convolutions: 9 in FP32",  # Turing: the product is a sum
    ("int8", False): "convolutions: 9 in INT8; matrix products: 1 in INT8",
    ("int8", True): "convolutions: 9 in FP16",  # Turing has no INT8 convolutions here
}
PLUS_LAYERS = {  # attention and means have no Q/DQ; the first convolution stays in FP16 by choice
    False: "matrix products: 9 in INT8, 8 in FP16; convolutions: 23 in INT8, 1 in FP16",
    True: "matrix products: 9 in FP16, 8 in INT8; convolutions: 23 in FP16",
}


@pytest.fixture(scope="module", autouse=True)
def rtx() -> None:
    require_tensorrt_rtx()


@pytest.fixture
def build(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Builds engines with the command line, and returns the output."""

    def call(model: Path, *arguments: str, status: int = 0) -> tuple[list[str], str]:
        capsys.readouterr()
        command = ["export", str(model), "--target", "tensorrt-rtx", "--engines", str(tmp_path / "engines")]
        assert main([*command, *arguments]) == status
        said = capsys.readouterr()
        if status:
            (line,) = [line for line in said.err.splitlines() if "error: " in line]
            assert not list((tmp_path / "engines").glob("*"))
            return said.out.splitlines(), line
        return said.out.splitlines(), said.err

    return call


@pytest.mark.parametrize(
    "model", [path for model in MODELS.values() for path in model.for_engines()], ids=lambda path: path.name
)
def test_the_shipped_files_become_engines_for_all_capabilities(model: Path, build, tmp_path: Path) -> None:
    out, _ = build(model)
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    precision = Model.load(model, runtime="cpu").card.precision
    assert sorted(path.name for path in (tmp_path / "engines").iterdir()) == sorted(
        engine_path(tmp_path, sha256, name).name for name in CAPABILITIES
    )
    for name, line in zip(CAPABILITIES, out, strict=True):
        path = engine_path(tmp_path / "engines", sha256, name)
        header, _, data = path.read_bytes().partition(b"\n")
        key = json.loads(header)["key"]
        assert (key["model_sha256"], key["gpu"], key["precision"]) == (sha256, "any", precision)
        assert key["compute_capability"].replace(".", "") == name.removeprefix("sm")
        assert key["tensorrt"].startswith("RTX 1.")
        assert json.loads(header)["sha256"] == hashlib.sha256(data).hexdigest()
        old = name == "sm75"
        assert (PLUS_LAYERS[old] if model == SSER_PLUS.tensorrt else LAYERS[precision, old]) in line
        assert "not run: for another GPU" in line


@dataclass(frozen=True)
class Graph:
    """A graph on disk, as the builder takes it."""

    path: Path
    card: Card


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[onnx.ModelProto, Card]]:
    """Both students in four precisions."""
    folder = tmp_path_factory.mktemp("students")
    torch.manual_seed(0)
    vit = ColumnVit(width=24, token_frames=2, emotions=8, dropout=0.1)
    found = {}
    for name, (model, card) in {"cnn": fp32(folder), "vit": exported(vit, folder)}.items():
        quantised = int8(model, Target.TENSORRT)
        found[f"{name} fp32"] = model, card
        found[f"{name} fp16"] = with_half_precision(model), card
        found[f"{name} int8"] = quantised, card
        found[f"{name} int8 and fp16"] = with_half_precision(quantised), card
    return found


@pytest.fixture
def compile_graph(tmp_path: Path) -> Callable[..., tuple[str, list[tuple[int, str]]]]:
    """Builds an engine of a graph, and returns its layers and the builder's messages."""

    def call(model: onnx.ModelProto, card: Card, capability: str) -> tuple[str, list[tuple[int, str]]]:
        builder = EngineBuilder(RTX.load(), RTX, lambda line: None, tmp_path / "timings", None)
        path = tmp_path / "graph.onnx"
        path.write_bytes(model.SerializeToString())
        return builder.run(Graph(path, card), capability)[1], builder.messages

    return call


CNN_FP16 = "convolutions: 9 in FP16; matrix products: 1 in FP32"  # the last product keeps the logits smooth


@pytest.mark.parametrize(
    ("name", "capability", "expected"),
    [
        ("cnn fp32", "sm86", LAYERS["fp32", False]),
        ("cnn fp32", "sm75", LAYERS["fp32", True]),
        ("cnn fp16", "sm121", CNN_FP16),
        ("cnn int8", "sm89", LAYERS["int8", False]),
        ("cnn int8 and fp16", "sm86", LAYERS["int8", False]),
        ("vit fp32", "sm86", "convolutions: 7 in FP32; matrix products: 27 in FP32"),
        ("vit fp16", "sm75", "convolutions: 7 in FP16; matrix products: 26 in FP16"),
        ("vit int8", "sm86", "convolutions: 7 in INT8; matrix products: 19 in INT8, 8 in FP32"),  # 8 of attention
        ("vit int8", "sm80", "convolutions: 7 in INT8; matrix products: 19 in INT8, 8 in FP32"),
        ("vit int8 and fp16", "sm120", "convolutions: 7 in INT8; matrix products: 19 in INT8, 8 in FP16"),
    ],
)
def test_both_students_are_built_in_their_precisions(families, compile_graph, name, capability, expected) -> None:
    layers, messages = compile_graph(*families[name], capability)
    assert layers == expected
    warnings = [text for severity, text in messages if severity <= 2]
    assert [text for text in warnings if not any(re.search(known, text) for known in EXPLAINED)] == []


@pytest.mark.parametrize("capability", ["sm86", "sm75"])  # the network for Turing is rewritten
def test_the_parsed_network_computes_what_onnx_runtime_computes(capability: str) -> None:
    trt, path = RTX.load(), SSER_CNN.fp32
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(path.read_bytes())
    config = builder.create_builder_config()
    prepare_build(trt, network, config, capability)
    reference = Model.load(path, runtime="cpu")
    windows = spoken(4)
    found = evaluate(trt, network, reference.card.outputs, log_mel=windows)
    for one, other in zip(found, reference.logits(windows), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_export_report_says_what_computes_in_8_bits() -> None:
    sentence = inspect_layers(SSER_CNN.tensorrt)
    assert sentence == f"TensorRT for RTX {RTX.load().__version__} builds it for sm86 with {LAYERS['int8', False]}."
    refused = inspect_layers(SSER_CNN.int8)
    assert "node student.attention.bias_DequantizeLinear" in refused
    assert len(refused.splitlines()) == 1


def test_scratch_memory_is_a_fixed_workspace_and_eight_windows(compile_graph) -> None:
    path = SSER_CNN.tensorrt
    _, messages = compile_graph(onnx.load(path), Model.load(path, runtime="cpu").card, "sm86")
    (scratch,) = (int(found[1]) for _, text in messages if (found := re.search(r"Max Scratch Memory: (\d+)", text)))
    assert WORKSPACE_BYTES < scratch <= WORKSPACE_BYTES + 8 * WINDOW_BYTES


def fail_alone(model: Path, engines: Path, *arguments: str, file_size: int = resource.RLIM_INFINITY) -> str:
    """The last line of a build that fails, in a process of its own: a failure changes the builder's next engine."""
    command = [sys.executable, "-m", "edge_sser.cli", "export", model, "--target", "tensorrt-rtx", "--engines", engines]
    done = subprocess.run(
        [*command, *arguments],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, list(engines.iterdir())) == (1, "", [])
    return done.stderr.splitlines()[-1]


def test_a_product_that_turing_lacks_is_named(families, tmp_path: Path) -> None:
    path = tmp_path / "vit.onnx"
    path.write_bytes(families["vit fp32"][0].SerializeToString())
    line = fail_alone(path, tmp_path / "engines")
    assert re.search(r"for sm75 \(Cannot compile operation 'node_MatMul_\d+' for Turing", line)


def test_too_little_workspace_is_one_line(tmp_path: Path) -> None:
    line = fail_alone(SSER_CNN.fp32, tmp_path / "engines", "--workspace-mib", "4")
    assert "could not build an engine for sm75 (Tactic Selection: no tactics" in line


def test_without_space_nothing_half_written_stays(tmp_path: Path) -> None:
    line = fail_alone(SSER_CNN.fp32, tmp_path / "engines", file_size=1 << 20)
    assert "cannot be written (File too large)" in line


@pytest.mark.parametrize("name", ["cnn int8", "cnn int8 and fp16", "vit int8", "vit int8 and fp16"])
def test_what_the_checker_takes_the_parser_takes(families, compile_graph, name: str) -> None:
    check_tensorrt_graph(families[name][0])
    compile_graph(*families[name], "sm86")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (graphs.older, "node_unsqueeze (Unsqueeze): Invalid Node"),
        (graphs.off_zero, "relu_2_QuantizeLinear (QuantizeLinear): Assertion failed: shiftIsAllZeros"),
        (graphs.no_step, "relu_QuantizeLinear (QuantizeLinear): Assertion failed: (scaleAllPositive"),
        (graphs.half_scale, "(Conv): node_Conv_177: IConvolutionLayer `input` and `kernel` must be of same type"),
        (
            graphs.a_scale_a_channel,
            "relu_QuantizeLinear (QuantizeLinear): Assertion failed: zeroPointSize == scaleSize",
        ),
        (graphs.unsigned_weights, "weight_DequantizeLinear (DequantizeLinear): student.body.1.0.weight_Dequantize"),
        (graphs.from_nowhere, "relu_4_DequantizeLinear (DequantizeLinear): relu_4_DequantizeLinear: input has type"),
        (graphs.half_input, "(Sub): node_sub_1: ElementWiseOperation SUB must have same input types"),
        # The checker is stricter: TensorRT 10.3 or one of its boards lacks these, or they would not run in 8 bits.
        (graphs.newer, None),
        (graphs.foreign, None),
        (graphs.unknown_operator, None),
        (graphs.foreign_operator, None),
        (graphs.unsigned, None),
        (graphs.no_zero_point, None),
        (graphs.doubles, None),
        (graphs.quantised_bias, None),
        (graphs.weights_only, None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_parser_refuses_the_checker_refuses(families, compile_graph, spoil, reason: str | None) -> None:
    bad = onnx.ModelProto()
    bad.CopyFrom(families["cnn int8"][0])
    spoil(bad)
    with pytest.raises(ModelError):
        check_tensorrt_graph(bad)
    if reason is None:
        compile_graph(bad, families["cnn int8"][1], "sm86")
        return
    with pytest.raises(ModelError, match=r"TensorRT for RTX cannot read it \(node") as caught:
        compile_graph(bad, families["cnn int8"][1], "sm86")
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_file_for_processors_is_refused_with_its_node(build) -> None:
    _, line = build(SSER_CNN.int8, status=1)
    assert "node student.attention.bias_DequantizeLinear (DequantizeLinear): " in line
    assert "input has type Int32 but must have type" in line


def test_another_capability_is_refused(build) -> None:
    _, line = build(SSER_CNN.fp32, "--compute-capability", "sm90", status=1)
    assert "does not build for sm90, only for sm75, sm80, sm86, sm89, sm120, sm121" in line


def test_the_current_capability_needs_a_gpu(build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_sser.model.cuda.LIBRARY", "libcuda.so.none")
    assert "needs a GPU" in build(SSER_CNN.fp32, "--compute-capability", "current", status=1)[1]


def test_capabilities_are_chosen_each_once(build, tmp_path: Path) -> None:
    out, _ = build(SSER_CNN.fp32, *("--compute-capability sm121 " * 2 + "--compute-capability sm86").split())
    assert [path.suffixes[-2] for path in sorted((tmp_path / "engines").iterdir())] == [".sm121", ".sm86"]
    assert len(out) == 2


def test_wheels_for_two_versions_of_cuda_are_told(build, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wheel:
        def __init__(self, name: str) -> None:
            self.metadata = {"Name": name}

    wheels = [Wheel("tensorrt_rtx_cu12_libs"), Wheel("tensorrt-rtx-cu13-libs"), Wheel("numpy")]
    monkeypatch.setattr("edge_sser.model.tensorrt_library.distributions", lambda: wheels)
    _, line = build(SSER_CNN.fp32, status=1)
    assert "tensorrt-rtx-cu12-libs and tensorrt-rtx-cu13-libs are both installed: pip uninstall" in line


def test_without_the_wheels_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, build) -> None:
    monkeypatch.setattr("edge_sser.model.tensorrt_library.find_spec", lambda name: None)
    assert 'pip install "edge-sser[tensorrt-rtx]"' in build(SSER_CNN.fp32, status=1)[1]


def test_options_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        (["m.onnx", "--target", "tensorrt", "--compute-capability", "sm86"], "belongs to --target tensorrt-rtx"),
        (["m.safetensors", "--out", "x", "--int8", "--target", "tensorrt-rtx"], "builds from a model file"),
    ):
        assert main(["export", *arguments]) == 2
        assert expected in capsys.readouterr().err
