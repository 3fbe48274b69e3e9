"""A real TensorRT on a real GPU, with EDGE_SSER_GPU=1. docs/tensorrt.md has the steps for a person."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_sser.cli import main
from edge_sser.model.cuda import Cuda
from edge_sser.model.model import Model
from edge_sser.model.shipped import MODELS
from edge_sser.model.tensorrt_library import LIBRARIES, RTX
from edge_sser.pipeline.features import FEATURES

FILES = [path for model in MODELS.values() for path in model.for_engines()]
pytestmark = [pytest.mark.gpu, pytest.mark.timeout(3600)]  # a small board builds an engine for many minutes


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines of the shipped files, of TensorRT, or of TensorRT for RTX where that alone is installed."""
    library = next((each for each in LIBRARIES if each.is_installed), None)
    if library is None:
        pytest.fail("neither TensorRT nor TensorRT for RTX is installed: docs/tensorrt.md")
    folder = tmp_path_factory.mktemp("engines")
    options = [*(["--compute-capability", "current"] if library is RTX else []), "--engines", str(folder)]
    for model in FILES:
        assert main(["export", str(model), "--target", library.target, *options]) == 0
    return folder


def test_memory_goes_to_the_gpu_and_back(engines: Path) -> None:
    cuda = Cuda()
    assert cuda.name
    assert float(cuda.capability) >= 7.0
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    back = np.zeros_like(values)
    address = cuda.allocate(values.nbytes)
    cuda.upload(address, values)
    cuda.download(back, address)
    cuda.synchronize()
    np.testing.assert_array_equal(back, values)
    cuda.close()


@pytest.mark.parametrize("model", FILES, ids=lambda path: path.name)
def test_an_engine_computes_what_onnx_runtime_computes(engines: Path, model: Path) -> None:
    engine, reference = Model.load(model, runtime="engine", engines=engines), Model.load(model, runtime="cpu")
    windows = np.random.default_rng(0).normal(-60.0, 20.0, (200, FEATURES.frames, FEATURES.bands)).astype(np.float32)
    for found, expected in zip(engine.logits(windows), reference.logits(windows), strict=True):
        assert np.abs(found - expected).max() < 0.5
    alone = np.concatenate([engine.logits(window[np.newaxis])[0] for window in windows])
    assert np.abs(alone - engine.logits(windows)[0]).max() < 0.1


def test_a_recording_is_analysed_with_the_engine(engines: Path, speech: Path) -> None:
    command = [sys.executable, "-m", "edge_sser.cli", "analyze", speech, "--runtime"]
    environment = {**os.environ, "EDGE_SSER_MODEL_ENGINES": str(engines)}
    levels = []
    for runtime in ("engine", "cpu"):
        done = subprocess.run([*command, runtime], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        levels.append([json.loads(line)["level"] for line in done.stdout.splitlines() if '"reading"' in line])
    assert np.mean([one == other for one, other in zip(*levels, strict=True)]) >= 0.97
