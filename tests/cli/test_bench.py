"""`edge-sser bench` gives every figure it promises. How large they are is no matter of a test."""

from __future__ import annotations

import importlib.util
import json
import runpy

import pytest
from components import require
from models import changed_card, write_model

from edge_sser.bench import HUBERT
from edge_sser.bench_processes import listen_cost
from edge_sser.errors import EdgeSserError


def test_every_figure_of_a_quick_run_is_there_for_each_model(call, tmp_path, model, monkeypatch):
    monkeypatch.setattr("edge_sser.bench.INFERENCES", 20)
    monkeypatch.setattr("edge_sser.bench.HELP_RUNS", 1)
    monkeypatch.setattr("edge_sser.bench.HUBERT", tmp_path / "none.py")
    other = write_model(tmp_path / "other.onnx", card=changed_card(name="other"))
    result = call("bench", model, other, "--quick", "--json")
    assert (result.status, result.err) == (0, "")
    report = json.loads(result.out)
    assert report["machine"].keys() == {"machine", "date", "versions"}
    figures = {figure["name"]: figure["value"] for figure in report["figures"]}
    for label in ("tiny@", "other@"):
        costs = {name.partition(": ")[2]: value for name, value in figures.items() if name.startswith(label)}
        whole = costs["one whole hop of speech"]
        parts = [value for name, value in costs.items() if name.startswith("  ")]
        assert sum(parts) == pytest.approx(whole)
        assert costs["streams per core, all speaking"] == pytest.approx(500.0 / whole)
    assert figures["edge-sser --help"] > 0
    assert figures["1 minute through analyze, memory"] > 0
    assert figures["HuBERT-base, one pass over 3 s"] is None


def test_listening_is_measured_from_outside(model, speech_samples, monkeypatch):
    monkeypatch.setattr("edge_sser.bench_processes.WARM_UP_SECONDS", 3.5)
    cost = listen_cost(speech_samples, model=model, seconds=0.5)
    assert 0.0 <= cost.cpu_share < 2.0
    assert cost.peak_mb > 1.0
    assert cost.first_reading_s > -1.0


def test_a_listen_that_fails_is_one_error(tmp_path, speech_samples):
    with pytest.raises(EdgeSserError, match=r"listen .* failed: .*gone\.onnx"):
        listen_cost(speech_samples, model=tmp_path / "gone.onnx", seconds=0.5)


@pytest.mark.train
def test_what_it_is_compared_with_is_hubert_base():
    require(importlib.util.find_spec("torch") is not None, 'torch not found: pip install "edge-sser[train]"')
    import torch

    hubert = runpy.run_path(str(HUBERT))
    network = hubert["HubertBase"]().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == hubert["PARAMETERS"]
    with torch.inference_mode():
        hidden = network(torch.zeros(1, hubert["WINDOW_SAMPLES"]))
    assert tuple(hidden.shape) == (1, 149, 768)  # 149 frames of 20 ms, as the paper has them
