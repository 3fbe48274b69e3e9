"""Twins of clips, and recorded noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from components import require
from voices import RATE, voice

from edge_sser.errors import SettingsError, TrainingError, UsageError
from edge_sser.pipeline.features import log_mel
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.augment import Augmenter
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.mixing import AugmentationSources, open_augmentation_sources
from edge_sser.train.data.settings import Augmentation, Twins
from edge_sser.train.data.waveform import CODECS, RecordingFolders, WaveformAugmenter, apply_codec, noise_bank
from edge_sser.train.fit.checkpoint import load_checkpoint
from edge_sser.train.fit.loop import Epoch
from edge_sser.train.fit.parallel import World
from edge_sser.train.fit.run import fit
from edge_sser.train.fit.task import StudentTask
from edge_sser.train.recipe import Recipe, read_recipe

try:
    import audiomentations
except ImportError:
    audiomentations = None

ALL = {
    "count": 2, "noise": 1.0, "room": 1.0, "codec": 0.5, "clipping": 0.5, "pitch": 0.5, "stretch": 0.5, "shift": 1.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _library() -> None:
    require(audiomentations is not None, 'audiomentations not found: pip install "edge-sser[augment]"')


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> RecordingFolders:
    """A hum at 500 Hz with a stretch of digital silence, and a room with one loud echo after 0.2 s."""
    noise, rooms = tmp_path_factory.mktemp("noise"), tmp_path_factory.mktemp("rooms")
    hum = 0.1 * np.sin(2 * np.pi * 500 * np.arange(20 * RATE) / RATE)
    hum[RATE : 2 * RATE] = 0.0
    soundfile.write(noise / "hum.wav", hum, RATE)
    response = np.zeros(RATE // 2)
    response[0], response[RATE // 5] = 1.0, 0.9
    soundfile.write(rooms / "echo.wav", response, RATE, subtype="FLOAT")
    return RecordingFolders(noise, rooms)


@pytest.fixture(scope="module")
def rows(toy_table: Path) -> Sequence[Utterance]:
    torch.set_num_threads(1)
    return read_table(toy_table)


def sound(seconds: float = 2.0) -> np.ndarray:
    samples = voice(pitch_hz=150, syllables_hz=3, seconds=seconds, seed=4)
    samples[: RATE // 2] = 0.0  # as some corpora have it
    return samples


def twin(clip: Utterance, folders: RecordingFolders, number: int = 1, **settings: Any) -> np.ndarray:
    return WaveformAugmenter(Twins.model_validate({"count": 1, **settings}), folders)(sound(), clip, number)


def test_the_same_clip_has_the_same_twin_and_another_number_another(
    rows: Sequence[Utterance], folders: RecordingFolders
) -> None:
    first, again, second = (twin(rows[0], folders, number, **ALL) for number in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.shape != second.shape or not np.allclose(first, second)
    assert not np.array_equal(first, twin(rows[1], folders, **ALL))


@pytest.mark.parametrize("settings", [{}, ALL, {"codec": 1.0}, {"clipping": 1.0}, {"room": 1.0}])
def test_a_twin_holds_no_digital_silence(
    rows: Sequence[Utterance], folders: RecordingFolders, settings: dict[str, Any]
) -> None:
    for clip in rows[:4]:
        made = twin(clip, folders, **settings)
        assert made.dtype == np.float32
        assert np.isfinite(made).all()
        assert not (np.diff(np.flatnonzero(np.append(made, 1.0) != 0.0)) > 2).any()
        assert log_mel(made).max(axis=1).min() > -115.0


def band_db(samples: np.ndarray, low: float, high: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(samples.size, 1 / RATE)
    return float(10 * np.log10(spectrum[(hertz > low) & (hertz < high)].sum() / samples.size**2))


def test_noise_comes_from_the_folder_at_the_ratio_asked_for(
    rows: Sequence[Utterance], folders: RecordingFolders
) -> None:
    made = [twin(clip, folders, noise=1.0, noise_snr_db=(6.0, 6.0)) - sound() for clip in rows[:8]]
    added = max(made, key=lambda part: float(np.mean(part**2)))  # the hum has a pause
    assert band_db(added, 490, 510) > band_db(added, 600, 8000) + 20
    assert 10 * np.log10(np.mean(sound() ** 2) / np.mean(added**2)) == pytest.approx(6.0, abs=1.0)


def test_a_room_s_echo_is_heard(rows: Sequence[Utterance], folders: RecordingFolders) -> None:
    made = twin(rows[0], folders, room=1.0)
    both = np.correlate(made[:RATE], made[:RATE], "full")[RATE - 1 :]
    dry = np.correlate(sound()[:RATE], sound()[:RATE], "full")[RATE - 1 :]
    echo = slice(RATE // 5 - 20, RATE // 5 + 20)
    assert both[echo].max() / both[0] > dry[echo].max() / dry[0] + 0.1


def test_a_higher_pitch_is_higher(rows: Sequence[Utterance], folders: RecordingFolders) -> None:
    made = [twin(clip, folders, pitch=1.0, pitch_semitones=4.0) for clip in rows[:6]]
    peaks = [float(np.argmax(np.abs(np.fft.rfft(part))[100:800]) + 100) / part.size * RATE for part in made]
    assert max(peaks) > 160.0
    assert min(peaks) < 140.0


def test_overload_flattens_peaks(rows: Sequence[Utterance], folders: RecordingFolders) -> None:
    made = [twin(clip, folders, clipping=1.0, clipping_percent=40) for clip in rows[:6]]
    assert min(float(np.abs(part).max()) for part in made) < 0.7 * np.abs(sound()).max()


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_keeps_the_speech_in_its_place_and_a_telephone_has_no_high_bands(codec: tuple[str, str, int]) -> None:
    clean = sound()
    made = apply_codec(clean, *codec)
    assert made.shape == clean.shape
    assert np.abs(made - clean).max() > 1e-4
    if codec[2] == 8_000:
        assert band_db(made, 4_300, 8_000) < band_db(clean, 4_300, 8_000) - 20
    shift = int(np.argmax(np.correlate(made, clean, "full"))) - clean.size + 1
    assert abs(shift) < 0.15 * RATE


def changed(toy_recipe: Path, **tables: dict[str, Any]) -> Recipe:
    values = read_recipe(str(toy_recipe)).model_dump(mode="json", exclude_none=True)
    for name, table in tables.items():
        values[name] = {**values.get(name, {}), **table}
    return Recipe.model_validate(values)


def test_a_student_hears_the_twins_of_its_training_clips_and_the_checkpoint_says_so(
    rows: Sequence[Utterance], toy_recipe: Path, folders: RecordingFolders, tmp_path: Path
) -> None:
    recipe = changed(
        toy_recipe, twins={"count": 1, "noise": 1.0}, optimisation={"epochs": 1, "clips_per_epoch": 32},
        augmentation={"recorded_noise": 0.5},
    )  # fmt: skip
    computed: list[Utterance] = []
    sources = open_augmentation_sources(recipe, rows, tmp_path, noise=folders.noise, progress=computed.append)
    assert computed == list(rows)
    sources = open_augmentation_sources(recipe, rows, tmp_path, noise=folders.noise, progress=computed.append)
    assert len(computed) == len(rows), "the twins are made once"
    store = FeatureStore(rows, tmp_path)
    training = split(rows, 1)[0]
    found = load_checkpoint(fit(training, recipe, store, tmp_path / "twins", sources=sources))
    assert found.header["twins"] == [sources.twins[0].key]
    assert len(found.header["noise"]) == 64
    alone = load_checkpoint(
        fit(training, recipe, store, tmp_path / "alone", sources=AugmentationSources(noise=sources.noise))
    )
    assert not torch.equal(found.tensors["head.weight"], alone.tensors["head.weight"])
    with pytest.raises(TrainingError, match="another recipe or other data"):
        fit(training, recipe, store, tmp_path / "twins", sources=AugmentationSources(noise=sources.noise))


def test_fresh_twins_are_made_as_they_are_drawn_each_another_and_the_same_run_draws_the_same(
    rows: Sequence[Utterance], toy_recipe: Path, folders: RecordingFolders, tmp_path: Path
) -> None:
    recipe = changed(
        toy_recipe, twins={"count": 0, "fresh": 0.5, "noise": 1.0, "codec": 0.5},
        optimisation={"epochs": 2, "clips_per_epoch": 16},
    )  # fmt: skip
    computed: list[Utterance] = []
    sources = open_augmentation_sources(recipe, rows, tmp_path, noise=folders.noise, progress=computed.append)
    assert (computed, sources.twins) == ([], [])
    store = FeatureStore(rows, tmp_path)
    training = split(rows, 1)[0]
    task = StudentTask(training, recipe, store, sources, None, World(), torch.device("cpu"))
    places = torch.zeros(200, dtype=torch.int64)
    drawn = task.draw(places, torch.Generator().manual_seed(1))
    own = torch.from_numpy(store[training[0]].copy())
    new = [clip for clip in drawn if clip.shape != own.shape or not torch.equal(clip.float(), own.float())]
    assert 70 <= len(new) <= 130
    assert not torch.equal(new[0], new[1])
    half = StudentTask(training, recipe, store, sources, None, World(1, 2), torch.device("cpu"))
    mine = half.draw(places, torch.Generator().manual_seed(1))
    assert all(torch.equal(mine[row], drawn[row]) for row in World(1, 2).rows(200).tolist())

    def kill(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(training, recipe, store, tmp_path / "killed", kill, sources=sources)
    whole, killed = (fit(training, recipe, store, tmp_path / name, sources=sources) for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()
    assert len(load_checkpoint(whole).header["fresh"]) == 64
    other = open_augmentation_sources(recipe, rows, tmp_path, noise=folders.rooms)
    with pytest.raises(TrainingError, match="another recipe or other data"):
        fit(training, recipe, store, tmp_path / "whole", sources=other)


def test_recorded_noise_is_heard_in_the_windows_at_the_ratio_asked_for(folders: RecordingFolders) -> None:
    assert folders.noise is not None
    bank = noise_bank(folders.noise)
    assert 1900 <= bank.shape[0] < 1905, "the digital silence in it is left out"
    values = read_recipe("sser-cnn").augmentation.model_dump()
    off = dict.fromkeys(("overhang_frames", "loop", "warp", "room", "tilt_db", "ripple_db", "band_limit", "gain_db"), 0)
    ratio = {"noise": 1.0, "noise_snr_db": (10.0, 10.0), "mask_bands": 0, "mask_frames": 0, "recorded_noise": 1.0}
    augment = Augmenter(Augmentation.model_validate({**values, **off, **ratio}), bank)
    out = augment([torch.full((300, 64), -20.0)], torch.Generator().manual_seed(1))[0]
    added = 10 ** (out / 10) - 10 ** (-20.0 / 10)
    band = int(added.mean(dim=0).argmax())
    assert band == int(bank.mean(dim=0).argmax())
    assert float(10 * torch.log10(64 * 10**-2 / added.sum(dim=1).mean())) == pytest.approx(10.0, abs=0.5)


def test_twins_that_are_neither_kept_nor_made_are_refused(toy_recipe: Path) -> None:
    with pytest.raises(SettingsError, match="count and fresh are both 0"):
        read_recipe(str(toy_recipe), ["twins.count=0", "twins.noise=0.5"])


@pytest.mark.parametrize(
    ("settings", "make", "error", "message"),
    [
        ({"twins": {"count": 1, "noise": 0.5}}, None, UsageError, "--noise"),
        ({"twins": {"count": 1, "room": 0.5}}, None, UsageError, "--rooms"),
        ({"augmentation": {"recorded_noise": 0.5}}, None, UsageError, "--noise"),
        ({"twins": {"count": 1, "noise": 0.5}}, Path.mkdir, TrainingError, "no recording"),
        ({"augmentation": {"recorded_noise": 0.5}}, Path.mkdir, TrainingError, "no recording"),
    ],
)
def test_a_folder_that_is_not_there_or_empty_is_named(
    rows: Sequence[Utterance], toy_recipe: Path, tmp_path: Path, settings: dict[str, Any],
    make: Callable[[Path], None] | None, error: type[Exception], message: str,
) -> None:  # fmt: skip
    folder = None
    if make:
        folder = tmp_path / "noise"
        make(folder)
    with pytest.raises(error, match=message):
        open_augmentation_sources(changed(toy_recipe, **settings), rows, tmp_path, noise=folder)
