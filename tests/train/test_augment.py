from __future__ import annotations

import pytest
import torch
from voices import voice

from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.train.data.augment import Augmenter, babble_bank
from edge_sser.train.data.settings import Augmentation
from edge_sser.train.recipe import read_recipe

OFF = {
    "overhang_frames": 0,
    "loop": 0.0,
    "piece": 0.0,
    "warp": 0.0,
    "room": 0.0,
    "tilt_db": 0.0,
    "ripple_db": 0.0,
    "band_limit": 0.0,
    "noise": 0.0,
    "noise_snr_db": (45.0, 45.0),
    "babble": 0.0,
    "gain_db": 0.0,
    "mask_bands": 0,
    "mask_frames": 0,
}


def augmenter(**changed: object) -> Augmenter:
    values = read_recipe("sser-cnn").augmentation.model_dump()
    return Augmenter(Augmentation.model_validate({**values, **OFF, **changed}))


def talking(**changed: object) -> Augmenter:
    """The recipe's with babble, or with changed settings."""
    values = read_recipe("sser-cnn").augmentation.model_dump()
    return Augmenter(Augmentation.model_validate({**values, **changed}), babble=babble_bank(clips(), seed=0))


def clips(count: int = 8, seconds: float = 3.0) -> list[torch.Tensor]:
    return [
        torch.from_numpy(log_mel(voice(pitch_hz=100 + 20 * n, syllables_hz=3, seconds=seconds, seed=n))).half()
        for n in range(count)
    ]


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_switched_off_it_hands_the_window_through() -> None:
    whole = clips()
    out = augmenter()(whole, generator())
    assert out.shape == (8, FEATURES.frames, FEATURES.bands)
    clean = torch.stack(whole).float()
    audible = clean > -85
    assert audible.float().mean() > 0.9
    assert torch.allclose(out[audible], clean[audible], atol=0.3)


def test_the_same_seed_gives_the_same_windows_and_another_seed_others() -> None:
    make = Augmenter(read_recipe("sser-cnn").augmentation)
    first, again, other = (make(clips(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_faster_voice_stands_in_higher_bands_and_ends_sooner() -> None:
    make = augmenter(warp=1.0, speed=0.0, stretch=0.0)
    bands = torch.full((4, FEATURES.frames, FEATURES.bands), -60.0)
    bands[:, :, 20] = 0.0
    faster = make._shift_bands(bands, torch.tensor([0.9, 1.0, 1.1, 1.2]))
    peak = [float(torch.softmax(row, 0) @ torch.arange(64.0)) for row in faster[:, 0] / 2]
    assert peak[0] < peak[1] < peak[2] < peak[3]
    assert peak[1] == pytest.approx(20.0, abs=0.1)


def test_noise_comes_at_the_ratio_asked_for() -> None:
    loud = [torch.full((300, 64), -20.0)]
    clean = 10 ** (augmenter()(loud, generator()) / 10)
    noisy = 10 ** (augmenter(noise=1.0, noise_snr_db=(10.0, 10.0), noise_tilt_db=(0.0, 0.0))(loud, generator()) / 10)
    ratio = clean.sum() / (noisy - clean).sum()
    assert float(10 * ratio.log10()) == pytest.approx(10.0, abs=0.2)


def test_a_room_fills_the_pause_after_a_sound_and_lets_it_die() -> None:
    click = torch.full((300, 64), -90.0)
    click[100] = 0.0
    room = augmenter(room=1.0, room_rt60_s=(0.5, 0.5), room_direct_db=(0.0, 0.0))
    out = room([click], generator())[0, :, 0]
    assert out[99] < -80
    assert out[101] > -25
    assert float(out[101] - out[121]) == pytest.approx(24.0, abs=2.0)  # 60 dB in 0.5 s are 24 dB in 0.2 s


@pytest.mark.parametrize("loop", [0.0, 1.0])
def test_a_short_clip_never_brings_digital_silence_to_the_net(loop: float) -> None:
    out = augmenter(loop=loop, noise=1.0, noise_snr_db=(25.0, 25.0), noise_tilt_db=(0.0, 0.0))(
        clips(seconds=1.0), generator()
    )
    assert out.min() > -110.0
    loud = (out.amax(dim=2) > -50).float().mean()
    assert (loud > 0.6) == bool(loop)


def test_digital_silence_in_a_clip_reaches_the_net_as_faint_noise() -> None:
    whole = clips()
    for clip in whole:
        clip[:60] = -120.0
    quiet = {"noise": 0.0, "mask_bands": 0, "mask_frames": 0}
    make = Augmenter(read_recipe("sser-cnn").augmentation.model_copy(update=quiet))
    for seed in range(20):
        deviation = make(whole, generator(seed)).std(dim=2)
        assert float(deviation.min()) > 0.2  # dB over the bands of any frame; the floor would give 0


def test_a_piece_of_speech_is_as_long_as_asked_for_and_holds_something_loud() -> None:
    whole = clips(32)
    out = augmenter(piece=1.0, piece_s=(0.5, 1.5))(whole, generator())
    for window, clip in zip(out, whole, strict=True):
        left = (window > -100).any(dim=1).nonzero().squeeze(1)
        assert left.numel() == left[-1] - left[0] + 1, "it is in one piece"
        assert 0.25 * 100 - 1 <= left.numel() <= 1.5 * 100, "what lies outside the window is cut off"
        assert window.max() > clip.max() - 20.5
    lengths = [(window > -100).any(dim=1).sum().item() for window in out]
    assert max(lengths) - min(lengths) > 50


def test_babble_is_two_minutes_of_several_talkers_at_a_mean_power_of_one() -> None:
    bank = babble_bank(clips(), seed=0)
    assert (bank.shape, bank.dtype) == ((12_000, FEATURES.bands), torch.float32)
    assert float(bank.mean()) == pytest.approx(1.0, rel=1e-4)
    assert torch.equal(bank, babble_bank(clips(), seed=0))
    assert not torch.equal(bank, babble_bank(clips(), seed=1))
    quieter = [clip - 20.0 for clip in clips()]
    assert torch.allclose(babble_bank(quieter, seed=0), bank, rtol=0.05), "each talker is as loud as the others"
    uneven = [clips(1, seconds)[0] for seconds in (1.3, 1.7, 2.1, 2.6, 3.4)]  # equal ones would speak in unison
    alone = torch.cat([10 ** (clip.float() / 10) for clip in uneven]).sum(dim=1)
    together = babble_bank(uneven, seed=0).sum(dim=1)
    assert together.std() / together.mean() < 0.7 * alone.std() / alone.mean(), "pauses of one are filled by others"


def test_babble_takes_the_place_of_noise_and_some_rows_of_a_batch_come_out_as_in_the_whole() -> None:
    whole = clips(6)
    without, with_it = talking(babble=0.0, noise=1.0), talking(babble=1.0, noise=1.0)
    out = with_it(whole, generator())
    assert not torch.equal(out, without(whole, generator()))
    assert torch.equal(out, with_it(whole, generator()))
    rows = torch.tensor([4, 1])
    assert torch.equal(with_it(whole, generator(), rows), out[rows])
    assert torch.equal(talking(babble=0.5)(whole, generator(), rows), talking(babble=0.5)(whole, generator())[rows])


def test_babble_comes_at_the_ratio_asked_for() -> None:
    loud = [torch.full((300, 64), -20.0)]
    settings = {**OFF, "noise": 1.0, "noise_snr_db": (10.0, 10.0), "babble": 1.0}
    clean = 10 ** (augmenter()(loud, generator()) / 10)
    noisy = 10 ** (talking(**settings)(loud, generator()) / 10)
    assert float(10 * (clean.sum() / (noisy - clean).sum()).log10()) == pytest.approx(10.0, abs=0.2)


def test_without_babble_the_windows_are_the_same_to_the_bit_whether_there_is_a_bank_or_not() -> None:
    settings = read_recipe("sser-cnn").augmentation.model_copy(update={"babble": 0.0})
    assert torch.equal(talking(babble=0.0)(clips(), generator()), Augmenter(settings)(clips(), generator()))
