from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from voices import voice

from edge_sser.pipeline.features import log_mel
from edge_sser.train.students.cnn import CompactCnn
from edge_sser.train.students.net import RANGE_DB, Student, standardise
from edge_sser.train.students.vit import ColumnVit
from edge_sser.train.students.yamnet import Yamnet


def cnn(width: int = 12) -> Student:
    torch.manual_seed(0)
    return CompactCnn(width=width, emotions=8, dropout=0.3).eval()


def vit(width: int = 64, token_frames: int = 2) -> Student:
    torch.manual_seed(0)
    return ColumnVit(width=width, token_frames=token_frames, emotions=8, dropout=0.3).eval()


def yamnet(layers: int = 6) -> Student:
    torch.manual_seed(0)
    return Yamnet(width=72, layers=layers, frozen=0, emotions=8, dropout=0.3).eval()


def parameters(net: Student) -> int:
    return sum(value.numel() for value in net.parameters())


@pytest.mark.parametrize("student", [cnn, vit, yamnet])
@pytest.mark.parametrize("gain_db", [-12.0, 12.0])
def test_turning_the_gain_changes_no_logit(gain_db: float, student: Callable[[], Student]) -> None:
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
    assert parameters(cnn()) == 139_223


@pytest.mark.parametrize(("make", "narrow", "wide"), [(cnn, 8, 22), (vit, 32, 104)])
def test_the_width_takes_a_student_from_50_k_to_500_k_parameters(
    make: Callable[[int], Student], narrow: int, wide: int
) -> None:
    assert 45_000 < parameters(make(narrow)) < 70_000
    assert 450_000 < parameters(make(wide)) < 500_000


@pytest.mark.parametrize("token_frames", [1, 2])
def test_a_vit_cuts_a_window_into_columns_of_one_or_two_frames_and_knows_where_they_stood(token_frames: int) -> None:
    net = vit(40, token_frames)
    assert net.get_parameter("position").shape == (300 // token_frames, 40)
    window = torch.randn(1, 300, 64) * 10 - 50
    with torch.inference_mode():
        there, back = net(window).stress, net(window.flip(1)).stress
    assert there.shape == (1,)
    assert not torch.allclose(there, back, atol=1e-4)


@pytest.mark.parametrize("student", [cnn, vit, yamnet])
def test_logits_of_a_clip_do_not_depend_on_its_batch(student: Callable[[], Student]) -> None:
    batch = torch.randn(5, 300, 64) * 10 - 50
    net = student()
    with torch.inference_mode():
        together = net(batch).stress
        alone = torch.cat([net(batch[n : n + 1]).stress for n in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)
