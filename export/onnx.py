"""Writes a student as one ONNX file, and checks that the file computes the same."""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edge_sser.commands.bench import demo_samples
from edge_sser.errors import ModelError
from edge_sser.files import write_file
from edge_sser.model.model import CARD_KEY, Card
from edge_sser.model.onnx_backend import cpu_session
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.train.data.features import windows
from edge_sser.train.students.net import Student

TOLERANCE = 1e-4  # largest difference of a logit between the file and the network it came from


class _Exported(nn.Module):
    """A student with the two outputs of the file, without the auxiliary task."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.student(log_mel)
        return logits.stress, logits.emotions


def export_onnx(student: Student, card: Card, path: Path) -> float:
    """Writes a student, in evaluation mode and on the CPU, atomically, with its card and the difference found.

    Returns:
        The largest difference between the file's logits and the student's, over loud, faint and empty windows and
        the windows of the demo recording.

    Raises:
        ModelError: the file computes different logits, or cannot be written.
    """
    sample = torch.from_numpy(_test_windows())
    model = convert(_Exported(student).eval(), sample[:2], card, student.opset)
    difference = _difference(student, model.SerializeToString(), card, sample)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"export: the ONNX file's logits differ by {difference:.2g} from the network's, over {TOLERANCE}"
        )
    model.metadata_props.add(key=CARD_KEY, value=replace(card, parity=float(f"{difference:.3g}")).to_json())
    write_model(path, model)
    return difference


def convert(net: nn.Module, batch: Tensor, card: Card, opset: int) -> onnx.ModelProto:
    """Converts a network to ONNX, for batches of any size and without the exporter's traces.

    Args:
        net: in evaluation mode and on the CPU.
        batch: an example of its input, of two or more.
        card: with the names of inputs and outputs.
        opset: of ONNX.

    Raises:
        Exception: of many unrelated classes, when the exporter cannot convert the network.
    """
    buffer = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation notes of the exporter itself
        program = torch.onnx.export(
            net,
            (batch,),
            input_names=[card.input],
            output_names=list(card.outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=opset,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
        program.save(buffer)  # type: ignore[union-attr,arg-type]
    model = onnx.load_from_string(buffer.getvalue())
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    model.producer_name = "edge-sser"
    onnx.checker.check_model(model, full_check=True)
    return model


def write_model(path: Path, model: onnx.ModelProto) -> None:
    """Writes a model file atomically.

    Raises:
        ModelError: the file cannot be written.
    """
    write_file(path, model.SerializeToString(), ModelError, "choose another --out")


def _test_windows() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Returns windows to compare on: loud, faint and empty noise, and speech."""
    random = np.random.default_rng(0)
    shape = (4, FEATURES.frames, FEATURES.bands)
    loudness = np.array([-20.0, -50.0, -90.0, -120.0]).reshape(4, 1, 1)
    spread = np.array([12.0, 12.0, 6.0, 0.0]).reshape(4, 1, 1)
    noise = (loudness + spread * random.standard_normal(shape)).astype(np.float32)
    return np.concatenate([noise, windows(log_mel(demo_samples()))])


def _difference(student: Student, data: bytes, card: Card, sample: Tensor) -> float:
    session = cpu_session(data, threads=0)
    stress, emotions = session.run(list(card.outputs), {card.input: sample.numpy()})
    with torch.inference_mode():
        logits = student(sample)
    return float(max(np.abs(stress - logits.stress.numpy()).max(), np.abs(emotions - logits.emotions.numpy()).max()))
