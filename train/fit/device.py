"""Device of a training, its random seed, and its arithmetic."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from edge_sser.train.recipe import Optimisation


def seed_everything(settings: Optimisation) -> torch.device:
    """Seeds torch and makes it deterministic, before a task is made; returns the device to train on."""
    torch.manual_seed(settings.seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU refuses to be deterministic
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # a debugging aid that costs a fifth of the time
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def uses_bfloat16(settings: Optimisation, device: torch.device) -> bool:
    """Returns True where a recipe trains in bfloat16 on a device."""
    return has_bfloat16(device) if settings.precision == "auto" else settings.precision == "bfloat16"


def has_bfloat16(device: torch.device) -> bool:
    """Returns True for a device that multiplies bfloat16 in hardware. Elsewhere it is slower than float32."""
    if device.type == "cuda":
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8").split()
    except OSError:  # no Linux
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
