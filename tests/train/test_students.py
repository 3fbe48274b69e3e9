from __future__ import annotations

import pytest
import torch
from voices import voice

from edge_sser.features import log_mel
from edge_sser.train.students.cnn import RANGE_DB, CompactCnn, standardise


def student(width: int = 12) -> CompactCnn:
    torch.manual_seed(0)
    return CompactCnn(width=width, emotions=8, dropout=0.3).eval()


@pytest.mark.parametrize("gain_db", [-12.0, 12.0])
def test_turning_the_gain_changes_no_logit(gain_db: float) -> None:
    samples = voice(pitch_hz=150, syllables_hz=4, seconds=3.0, seed=3)
    samples[:8_000] = 0.0  # digital silence has no level to be turned
    turned = samples * 10 ** (gain_db / 20)
    batch = torch.stack([torch.from_numpy(log_mel(sound)) for sound in (samples, turned.astype("float32"))])
    with torch.inference_mode():
        logits = student()(batch)
    assert torch.allclose(logits.stress[0], logits.stress[1], atol=1e-3)
    assert torch.allclose(logits.emotions[0], logits.emotions[1], atol=1e-3)


def test_standardised_windows_have_mean_zero_and_a_floor_below_the_loudest() -> None:
    window = torch.randn(2, 300, 64) * 40 - 60
    out = standardise(window)
    assert out.mean(dim=(1, 2)) == pytest.approx(torch.zeros(2), abs=1e-4)
    assert (out.amax(dim=(1, 2)) - out.amin(dim=(1, 2))) * 15.0 == pytest.approx(torch.full((2,), RANGE_DB), abs=1e-2)


def test_the_shipped_width_has_the_parameters_the_documents_say() -> None:
    assert sum(value.numel() for value in student().parameters()) == 139_223


def test_logits_of_a_clip_do_not_depend_on_its_batch() -> None:
    batch = torch.randn(5, 300, 64) * 10 - 50
    net = student()
    with torch.inference_mode():
        together = net(batch).stress
        alone = torch.cat([net(batch[n : n + 1]).stress for n in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)
