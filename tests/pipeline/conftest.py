"""What the tests of the streaming path share: speech as samples, and a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from models import write_model

from edge_sser.model import Model


@pytest.fixture(scope="session")
def samples(speech: Path) -> np.ndarray:
    """Speech with pauses, float32 16 kHz mono, about 45 s."""
    data, rate_hz = soundfile.read(speech, dtype="float32")
    assert rate_hz == 16_000
    data.flags.writeable = False
    return data


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose stress follows the contrast of the sound."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny.onnx")


@pytest.fixture(scope="session")
def model(model_file: Path) -> Model:
    """That model, loaded."""
    return Model.load(model_file)
