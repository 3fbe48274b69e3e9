"""What tests share: the recording that ships, and a microphone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from components import require_programs, require_pyaudio
from hypothesis import HealthCheck, settings
from virtual_microphone import VirtualMicrophone

import edge_sser

# How long an example takes is no law: machines are shared.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
MICROPHONE_PACKAGES = "pulseaudio pulseaudio-utils libasound2-plugins"


@pytest.fixture(scope="session")
def speech() -> Path:
    """The recording that ships: synthesised speech, 16 kHz mono, with pauses and two manners of speaking."""
    return Path(edge_sser.__file__).parent / "samples" / "demo.flac"


@pytest.fixture
def virtual_microphone(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualMicrophone]:
    """A microphone that this process finds as its default one."""
    require_programs("pulseaudio", "pactl", packages=MICROPHONE_PACKAGES)
    require_pyaudio()
    microphone = VirtualMicrophone()
    for name, value in microphone.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PULSE_SOURCE", raising=False)
    yield microphone
    microphone.close()
