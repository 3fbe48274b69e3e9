from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import torch
from voices import RATE, voice

from edge_sser.errors import ModelError
from edge_sser.export.card import make_card
from edge_sser.export.onnx import TOLERANCE, export_onnx
from edge_sser.model.model import Model
from edge_sser.pipeline.features import log_mel
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.recipe import StudentKind, read_recipe
from edge_sser.train.students.cnn import CompactCnn
from edge_sser.train.students.net import Student
from edge_sser.train.students.vit import ColumnVit
from edge_sser.train.students.whisper_trunk import WhisperTrunk
from edge_sser.train.students.yamnet import Yamnet

HEADER = {"emotions": list(EMOTIONS), "corpora": [{"name": "ravdess", "utterances": 1, "speakers": 1}]}


def student(kind: StudentKind = StudentKind.COMPACT_CNN) -> Student:
    torch.manual_seed(0)
    net: Student = CompactCnn(width=4, emotions=8, dropout=0.3)
    if kind is StudentKind.COLUMN_VIT:
        net = ColumnVit(width=40, token_frames=2, emotions=8, dropout=0.3)
    if kind is StudentKind.WHISPER_TRUNK:
        net = WhisperTrunk(width=64, layers=2, companions=[net], emotions=8, dropout=0.0)
    if kind is StudentKind.YAMNET:
        net = Yamnet(width=8, layers=4, frozen=0, emotions=8, dropout=0.0)
    net(torch.randn(8, 300, 64) * 10 - 50)  # batch norm sees something
    return net.eval()


@pytest.mark.parametrize("kind", list(StudentKind))
def test_the_file_computes_what_the_student_does_for_any_batch(tmp_path: Path, kind: StudentKind) -> None:
    net = student(kind)
    path = tmp_path / "small.onnx"
    assert export_onnx(net, make_card(read_recipe("sser-cnn"), HEADER, {}, 1), path) <= TOLERANCE
    model = Model.load(path, runtime="cpu")
    window = log_mel(voice(pitch_hz=130, syllables_hz=3, seconds=3.0, seed=5))
    for batch in (1, 7):
        stress, emotions = model.logits(np.stack([window] * batch))
        with torch.inference_mode():
            logits = net(torch.from_numpy(np.stack([window] * batch)))
        assert np.abs(stress - logits.stress.numpy()).max() <= TOLERANCE
        assert np.abs(emotions - logits.emotions.numpy()).max() <= TOLERANCE
    score = model.score(window)
    assert 0.0 <= score.stress <= 1.0
    assert score.emotions.sum() == pytest.approx(1.0, abs=1e-5)


# What TensorRT 10.3, that of JetPack 6, has an importer for.
PLAIN = {
    "Add", "Clip", "Concat", "Conv", "Div", "Erf", "Exp", "Expand", "Gather", "Gelu", "Gemm", "LayerNormalization",
    "Log", "MatMul", "Max", "Mul", "Pow", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Slice",
    "Softmax", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip


@pytest.mark.parametrize("kind", list(StudentKind))
def test_a_file_is_made_of_operators_that_all_the_runtimes_know(tmp_path: Path, kind: StudentKind) -> None:
    path = tmp_path / "small.onnx"
    export_onnx(student(kind), make_card(read_recipe("sser-cnn"), HEADER, {}, 1), path)
    assert {node.op_type for node in onnx.load(path).graph.node} <= PLAIN


def test_a_vit_streams(tmp_path: Path) -> None:
    path = tmp_path / "vit.onnx"
    export_onnx(student(StudentKind.COLUMN_VIT), make_card(read_recipe("sser-vit"), HEADER, {}, 1), path)
    sound = voice(pitch_hz=130, syllables_hz=3, seconds=6.0, seed=5)
    soundfile.write(tmp_path / "voice.wav", sound, RATE, subtype="FLOAT")
    done = subprocess.run(
        [sys.executable, "-m", "edge_sser.cli", "analyze", tmp_path / "voice.wav", "--model", path],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    readings = [json.loads(line) for line in done.stdout.splitlines() if '"reading"' in line]
    assert [reading["end_s"] for reading in readings] == [3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]
    assert {reading["model"].partition("@")[0] for reading in readings} == {"sser-vit"}
    assert any(reading["stress"] is not None for reading in readings)


def test_the_card_says_what_was_heard_its_licence_and_what_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    export_onnx(student(), make_card(read_recipe("sser-cnn"), HEADER, {}, 7), path)
    card = Model.load(path).card
    assert card.licence == "CC BY-NC-SA 4.0"
    assert card.training[0]["name"] == "ravdess"
    assert "7 parameters" in card.architecture
    assert "Not a medical device" in card.notice


def test_nothing_half_written_remains_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(ModelError, match="--out"):
        export_onnx(student(), make_card(read_recipe("sser-cnn"), HEADER, {}, 1), tmp_path / "taken" / "small.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
