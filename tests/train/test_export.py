from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from voices import voice

from edge_sser.errors import ModelError
from edge_sser.export.card import make_card
from edge_sser.export.onnx import TOLERANCE, export_onnx
from edge_sser.features import log_mel
from edge_sser.model import load_model
from edge_sser.train.labels import EMOTIONS
from edge_sser.train.recipe import read_recipe
from edge_sser.train.students.cnn import CompactCnn

HEADER = {"emotions": list(EMOTIONS), "corpora": [{"name": "ravdess", "utterances": 1, "speakers": 1}]}


def student() -> CompactCnn:
    torch.manual_seed(0)
    net = CompactCnn(width=4, emotions=8, dropout=0.3)
    net(torch.randn(8, 300, 64) * 10 - 50)  # batch norm sees something
    return net.eval()


def test_the_file_computes_what_the_student_does_for_any_batch(tmp_path: Path) -> None:
    net = student()
    path = tmp_path / "small.onnx"
    assert export_onnx(net, make_card(read_recipe("sser-cnn"), HEADER, {}, 1), path) <= TOLERANCE
    model = load_model(path, provider="cpu")
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


def test_the_card_says_what_was_heard_its_licence_and_what_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    export_onnx(student(), make_card(read_recipe("sser-cnn"), HEADER, {}, 7), path)
    card = load_model(path).card
    assert card.licence == "CC BY-NC-SA 4.0"
    assert card.training[0]["name"] == "ravdess"
    assert "7 parameters" in card.architecture
    assert "Not a medical device" in card.notice


def test_nothing_half_written_remains_where_the_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    with pytest.raises(ModelError, match="--out"):
        export_onnx(student(), make_card(read_recipe("sser-cnn"), HEADER, {}, 1), tmp_path / "taken" / "small.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
