"""`edge-sser bench` gives every figure it promises. How large they are is no matter of a test."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import shutil

import pytest
from components import require, require_programs, require_pyaudio
from models import changed_card, write_model

from edge_sser.commands.bench import HUBERT, _daemon_figures
from edge_sser.commands.bench_daemon import SOURCES, broker_cost, crowd_cost
from edge_sser.commands.bench_processes import listen_cost
from edge_sser.commands.latency import Latency, latency_table
from edge_sser.errors import EdgeSserError


def require_sound_server() -> None:
    require_programs("pulseaudio", packages="pulseaudio libasound2-plugins")
    require_pyaudio()


def test_every_figure_of_a_quick_run_is_there_for_each_model(call, tmp_path, model, monkeypatch):
    monkeypatch.setattr("edge_sser.commands.bench.INFERENCES", 20)
    monkeypatch.setattr("edge_sser.commands.latency.INFERENCES", {1: 3, 8: 2, 32: 2})
    monkeypatch.setattr("edge_sser.commands.bench.HELP_RUNS", 1)
    monkeypatch.setattr("edge_sser.commands.bench.HUBERT", tmp_path / "none.py")
    other = write_model(tmp_path / "other.onnx", card=changed_card(name="other"))
    result = call("bench", model, other, "--quick", "--json")
    assert (result.status, result.err) == (0, "")
    report = json.loads(result.out)
    assert report["machine"].keys() == {"machine", "date", "versions"}
    figures = {figure["name"]: figure["value"] for figure in report["figures"]}
    latencies = {f"{label.partition('@')[0]}@": each for label, each in report["latencies"].items()}
    for label in ("tiny@", "other@"):
        costs = {name.partition(": ")[2]: value for name, value in figures.items() if name.startswith(label)}
        whole = costs["one whole hop of speech"]
        parts = [value for name, value in costs.items() if name.startswith("  ")]
        assert sum(parts) == pytest.approx(whole)
        assert costs["streams per core, all speaking"] == pytest.approx(500.0 / whole)
        assert [(each["threads"], each["batch"]) for each in latencies[label]] == [
            (threads, batch) for threads in (1, 2) for batch in (1, 8, 32)
        ]
        assert all(each["p95_ms"] >= each["median_ms"] > 0 for each in latencies[label])
    assert figures["edge-sser --help"] > 0
    assert figures["1 minute through analyze, memory"] > 0
    assert figures["HuBERT-base, one pass over 3 s"] is None


def test_listening_is_measured_from_outside(model, speech_samples, monkeypatch):
    monkeypatch.setattr("edge_sser.commands.bench_processes.WARM_UP_SECONDS", 3.5)
    cost = listen_cost(speech_samples, model=model, seconds=0.5)
    assert 0.0 <= cost.cpu_share < 2.0
    assert cost.peak_mb > 1.0
    assert cost.first_reading_s > -1.0


@pytest.mark.parametrize("microphone", [False, pytest.param(True, marks=pytest.mark.mic)])
def test_how_soon_a_broker_has_a_reading_is_measured_from_its_last_sample(
    model, speech_samples, monkeypatch, tmp_path, microphone
):
    found = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    require(found is not None, "mosquitto not found: apt install mosquitto")
    if microphone:
        require_sound_server()
    monkeypatch.setattr("edge_sser.commands.bench_processes.WARM_UP_SECONDS", 3.2)
    monkeypatch.setattr("edge_sser.commands.bench_daemon.WARM_UP_SECONDS", 3.2)
    cost = broker_cost(speech_samples, model=model, seconds=2.0, microphone=microphone, folder=tmp_path)
    assert 2 <= len(cost.delivery_s) <= 4
    assert 0.0 < min(cost.delivery_s) <= cost.median_s
    assert 0.0 <= cost.cpu_share < 2.0


@pytest.mark.mic
def test_sixteen_microphones_at_once_are_measured(model, speech_samples, monkeypatch, tmp_path):
    require_sound_server()
    monkeypatch.setattr("edge_sser.commands.bench_processes.WARM_UP_SECONDS", 3.2)
    cost = crowd_cost(speech_samples, model=model, seconds=1.0, folder=tmp_path)
    assert cost.readings >= SOURCES
    assert cost.dropped >= 0
    assert cost.peak_mb > 1.0


def test_what_a_figure_needs_and_is_not_here_is_said_with_its_remedy(model, speech_samples, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("edge_sser.commands.bench_daemon._SYSTEM_PROGRAMS", "")
    figures = _daemon_figures(model, speech_samples)
    assert len(figures) == len({figure.name for figure in figures}) > 8
    assert all(figure.value is None for figure in figures)
    assert {figure.remark for figure in figures} == {
        "it needs mosquitto: apt install mosquitto",
        "it needs pulseaudio: apt install pulseaudio libasound2-plugins",
    }


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


def test_latencies_of_several_files_stand_side_by_side():
    latency = Latency(threads=2, batch=8, median_ms=1.5, p95_ms=2.25)
    assert latency_table({"a@1": [latency], "b@2": [latency]}).splitlines() == [
        "| ms a batch: median (p95) | a@1 | b@2 |",
        "|---|---|---|",
        "| 2 threads, batch 8 | 1.500 (2.250) | 1.500 (2.250) |",
    ]
