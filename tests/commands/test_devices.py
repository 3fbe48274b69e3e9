"""`edge-sser devices`."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytestmark = pytest.mark.mic


def test_microphones_are_listed_with_id_and_level(call, virtual_microphone):
    virtual_microphone.play(np.random.default_rng(0).integers(-3_000, 3_000, 160_000).astype(np.int16))
    result = call("devices")
    assert (result.status, result.err) == (0, "")
    (line,) = [line for line in result.out.splitlines() if line.startswith("mic:pulse ")]
    assert "[####" in line
    assert "dBFS" in line
    assert sum("(default)" in line for line in result.out.splitlines()) == 1


def test_devices_as_json_name_the_ids_that_listen_takes(call, virtual_microphone):
    result = call("devices", "--no-level", "--json")
    microphones = [json.loads(line) for line in result.out.splitlines()]
    assert "pulse" in [microphone["id"] for microphone in microphones]
    assert all(microphone["dbfs"] is None for microphone in microphones)
