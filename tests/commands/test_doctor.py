"""`edge-sser doctor`: what is wrong with settings, model and runtime is found, with its remedy."""

from __future__ import annotations

import json
import sys

import pytest
from components import require_tensorrt_rtx
from doctor_report import read_report
from models import changed_card, write_model

from edge_sser.commands.doctor.checkup import ACTIVE, CHECKS, OF_SETTINGS, print_checks
from edge_sser.model.onnx_backend import onnx_runtime
from edge_sser.pipeline.features import FEATURES

RECORDING = '[[source]]\ndevice = "talk.flac"'


def test_a_machine_that_analyses_recordings_is_fine(examine):
    status, found = examine(RECORDING)
    assert status == 0
    for name in ("settings", "runtime", "model", "recordings", "speech gate", "capture"):
        assert found[name].startswith("fine")
    assert "tiny@" in found["model"]
    assert "CPU" in found["runtime"]


def test_what_could_compute_the_model_is_listed_with_the_reasons(examine, monkeypatch):
    monkeypatch.setattr("edge_sser.model.cuda.LIBRARY", "libcuda.so.none")
    monkeypatch.setattr("edge_sser.model.tensorrt_library.find_spec", lambda name: None)
    status, found = examine(RECORDING)
    assert status == 0
    assert "; TensorRT: not installed; TensorRT for RTX: not installed" in found["runtime"]
    for provider in ("TensorrtExecutionProvider", "CUDAExecutionProvider"):
        present = provider in onnx_runtime().get_available_providers()
        reason = "no NVIDIA driver can be loaded" if present else "not in this build"
        assert f"ONNX Runtime's {provider.removesuffix('ExecutionProvider')}: {reason}" in found["runtime"]


def test_tensorrt_for_rtx_without_a_driver_is_told(examine, monkeypatch):
    require_tensorrt_rtx()
    monkeypatch.setattr("edge_sser.model.cuda.LIBRARY", "libcuda.so.none")
    assert "TensorRT for RTX: no NVIDIA driver can be loaded" in examine(RECORDING)[1]["runtime"]


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("gone.onnx", None, "No such file or directory: give an .onnx file made by edge-sser export"),
        ("text.onnx", b"not a model", "not a model that ONNX Runtime can use"),
        ("folder.onnx", "folder", "Is a directory: give an .onnx file made by edge-sser export"),
    ],
)
def test_a_model_file_that_is_none_is_a_problem(examine, tmp_path, path, content, said):
    if isinstance(content, bytes):
        (tmp_path / path).write_bytes(content)
    elif content is not None:
        (tmp_path / path).mkdir()
    status, found = examine(RECORDING, model=str(tmp_path / path))
    assert status == 1
    assert found["model"].startswith("problem")
    assert path in found["model"]
    assert said in found["model"]


@pytest.mark.parametrize(
    ("card", "said"),
    [
        (None, "it has no card (edge_sser.card): only files made by edge-sser export can be used"),
        ("{}", "its card is damaged or of another version"),
        (
            changed_card(features={**FEATURES.as_dict(), "bands": 40}),
            "(bands differ): export it again with this version",
        ),
    ],
    ids=["none", "damaged", "other features"],
)
def test_a_model_whose_card_does_not_fit_is_a_problem(examine, tmp_path, card, said):
    status, found = examine(RECORDING, model=str(write_model(tmp_path / "other.onnx", card=card)))
    assert status == 1
    assert found["model"].startswith("problem")
    assert said in found["model"]


def test_thresholds_that_do_not_fit_the_card_of_the_model_are_a_problem(examine):
    status, found = examine(f"{RECORDING}\n[rolling]\nelevated = 0.8\ntime_constant_seconds = 8.0")
    assert status == 1
    assert "rolling.elevated is 0.8 and rolling.high is 0.75 (one of them from the model's card)" in found["model"]


@pytest.mark.parametrize(
    ("provider", "name"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_a_runtime_without_the_provider_asked_for_is_a_problem(examine, monkeypatch, provider, name):
    if name in onnx_runtime().get_available_providers():
        pytest.skip(f"this ONNX Runtime has {name}")
    monkeypatch.setenv("EDGE_SSER_MODEL_RUNTIME", provider)
    status, found = examine(RECORDING)
    assert status == 1
    assert found["model"].startswith("problem")
    assert f"has no {name}" in found["model"]
    assert "--runtime auto, or install the onnxruntime build for this board" in found["model"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("[gate]\nagressiveness = 1", "gate.aggressiveness"),
        ("[gate]\naggressiveness = 9", "gate.aggressiveness"),
        ("[gate", "config.toml"),
    ],
    ids=["unknown key", "out of range", "no TOML"],
)
def test_wrong_settings_are_a_problem_and_the_other_checks_go_on(examine, settings, said):
    status, found = examine(settings)
    assert status == 1
    assert found["settings"].startswith("problem")
    assert said in found["settings"]
    assert "listen ends with exit status 2" in found["settings"].partition("->")[2]
    assert found["speech gate"].startswith("fine")
    for name in OF_SETTINGS:
        assert found[name].startswith("skipped"), "what the settings would say is not known"


def test_a_settings_file_that_is_not_there_is_a_problem(call, tmp_path):
    result = call("doctor", "--config", tmp_path / "gone.toml")
    assert result.status == 1
    assert "gone.toml" in read_report(result.out)["settings"]


def test_a_runtime_that_cannot_be_imported_is_a_problem(examine, monkeypatch):
    monkeypatch.setitem(sys.modules, "webrtcvad", None)
    status, found = examine(RECORDING)
    assert status == 1
    assert found["speech gate"].startswith("problem")
    assert "pip install" in found["speech gate"]


def test_findings_as_json_without_a_microphone_or_connection(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = tmp_path / "config.toml"
    config.write_text('[[source]]\ndevice = "mic:nobody"\n[mqtt]\nurl = "mqtts://cab12@broker.invalid"\n')
    assert print_checks(config, as_json=True, passive=True) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert found["model"]["state"] == "fine"
    assert set(found) & ACTIVE == set()
    assert set(found) == {"settings", *CHECKS} - ACTIVE


def test_the_last_line_counts_problems_and_warnings_and_warnings_alone_are_no_failure(call, tmp_path, model):
    config = tmp_path / "config.toml"
    config.write_text(f'{RECORDING}\n[model]\npath = "{model}"\n')
    result = call("doctor", "--config", config)
    lines = result.out.splitlines()
    warnings = sum(line.startswith("warning") for line in lines)
    assert result.status == 0
    assert lines[-1].startswith(f"no problems, {warnings or 'no'} warning")
    assert "Azure" not in result.out
    config.write_text("nothing = 1\n")
    result = call("doctor", "--config", config)
    assert result.status == 1
    assert " problem" in result.out.splitlines()[-1]
