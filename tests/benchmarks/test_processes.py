"""benchmarks/processes.py and benchmarks/daemon.py give every figure they promise, however large they are."""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import shutil

import daemon
import mosquitto
import processes
import pytest
from components import require, require_programs, require_pyaudio
from daemon import SOURCES, broker_cost, crowd_cost, daemon_figures
from processes import HUBERT, listen_cost

from edge_sser.errors import EdgeSserError


def require_sound_server() -> None:
    require_programs("pulseaudio", packages="pulseaudio libasound2-plugins")
    require_pyaudio()


def test_every_figure_of_a_quick_run_is_printed_and_written(model_file, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(processes, "HELP_RUNS", 1)
    monkeypatch.setattr(processes, "HUBERT", tmp_path / "none.py")
    processes.main([str(model_file), "--quick", "--json", str(tmp_path / "figures.json")])
    report = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert report["machine"].keys() == {"machine", "date", "versions"}
    figures = {figure["name"]: figure["value"] for figure in report["figures"]}
    assert figures["edge-sser --help"] > 0
    assert figures["4 s through analyze"] > 0
    assert figures["1 minute through analyze, memory"] > 0
    assert figures["HuBERT-base, one pass over 3 s"] is None
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(report["figures"])
    assert (
        'HuBERT-base, one pass over 3 s    not measured: it needs transformers: pip install ".[train,teacher]"'
        in printed
    )


def test_listening_is_measured_from_outside(model_file, samples, monkeypatch):
    monkeypatch.setattr(processes, "WARM_UP_SECONDS", 3.5)
    cost = listen_cost(samples, model=model_file, seconds=0.5)
    assert 0.0 <= cost.cpu_share < 2.0
    assert cost.peak_mb > 1.0
    assert cost.first_reading_s > -1.0


@pytest.mark.parametrize("microphone", [False, pytest.param(True, marks=pytest.mark.mic)])
def test_how_soon_a_broker_has_a_reading_is_measured_from_its_last_sample(
    model_file, samples, monkeypatch, tmp_path, microphone
):
    found = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    require(found is not None, "mosquitto not found: apt install mosquitto")
    if microphone:
        require_sound_server()
    monkeypatch.setattr(processes, "WARM_UP_SECONDS", 3.2)
    monkeypatch.setattr(daemon, "WARM_UP_SECONDS", 3.2)
    cost = broker_cost(samples, model=model_file, seconds=2.0, microphone=microphone, folder=tmp_path)
    assert 2 <= len(cost.delivery_s) <= 4
    assert 0.0 < min(cost.delivery_s) <= cost.median_s
    assert 0.0 <= cost.cpu_share < 2.0


@pytest.mark.mic
def test_sixteen_microphones_at_once_are_measured(model_file, samples, monkeypatch, tmp_path):
    require_sound_server()
    monkeypatch.setattr(processes, "WARM_UP_SECONDS", 3.2)
    cost = crowd_cost(samples, model=model_file, seconds=1.0, folder=tmp_path)
    assert cost.readings >= SOURCES
    assert cost.dropped >= 0
    assert cost.peak_mb > 1.0


def test_a_program_that_a_figure_needs_and_is_missing_is_named_with_its_remedy(
    model_file, samples, monkeypatch, tmp_path
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mosquitto, "SYSTEM_PROGRAMS", "")
    figures = daemon_figures(model_file, samples)
    assert len(figures) == len({figure.name for figure in figures}) > 8
    assert all(figure.value is None for figure in figures)
    assert {figure.remark for figure in figures} == {
        "it needs mosquitto: apt install mosquitto",
        "it needs pulseaudio: apt install pulseaudio libasound2-plugins",
    }


def test_a_listen_that_fails_is_one_error(tmp_path, samples):
    with pytest.raises(EdgeSserError, match=r"listen .* failed: .*gone\.onnx"):
        listen_cost(samples, model=tmp_path / "gone.onnx", seconds=0.5)


@pytest.mark.train
def test_the_network_to_compare_with_is_hubert_base():
    found = importlib.util.find_spec("transformers")
    require(found is not None, 'transformers not found: pip install "edge-sser[train,teacher]"')
    import torch

    hubert = runpy.run_path(str(HUBERT))
    network = hubert["make_model"]()
    assert sum(parameter.numel() for parameter in network.parameters()) == hubert["PARAMETERS"]
    with torch.inference_mode():
        hidden = network(torch.zeros(1, hubert["WINDOW_SAMPLES"])).last_hidden_state
    assert tuple(hidden.shape) == (1, 149, 768)  # 149 frames of 20 ms, as the paper has them
