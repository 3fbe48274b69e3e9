"""A frozen trunk of Whisper under a linear head. A tiny encoder with random weights stands in for the published one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from components import require_transformers
from tqdm import tqdm
from voices import voice

from edge_sser.errors import SettingsError, TrainingError, UsageError
from edge_sser.pipeline.features import FEATURES, log_mel
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.evaluate.predictions import predict
from edge_sser.train.fit import frozen
from edge_sser.train.fit.checkpoint import Checkpoint, data_key, load_checkpoint, load_student, save_checkpoint
from edge_sser.train.fit.frozen import EmbeddingStore, fit_head, load_companions, load_trunk
from edge_sser.train.fit.run import FitRequest, fit, run
from edge_sser.train.recipe import Recipe, read_recipe
from edge_sser.train.students.cnn import CompactCnn
from edge_sser.train.students.whisper_trunk import POSITIONS, WhisperTrunk
from edge_sser.train.teachers.encoder import load_encoder
from edge_sser.train.teachers.ensemble import Ensemble
from edge_sser.train.teachers.outputs import OUTPUTS_FILE, concatenate_outputs, read_outputs
from edge_sser.train.teachers.trunk import make_trunk_teachers, trunk_recipe

try:
    import transformers
except ImportError:
    transformers = None

WIDTH = 64


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    require_transformers()
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    configuration = transformers.WhisperConfig(
        d_model=WIDTH, encoder_layers=3, encoder_attention_heads=1, encoder_ffn_dim=4 * WIDTH, decoder_layers=1,
        decoder_attention_heads=1, decoder_ffn_dim=16, vocab_size=60, max_target_positions=8, pad_token_id=1,
        bos_token_id=1, eos_token_id=1, decoder_start_token_id=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("encoder")
    transformers.WhisperModel(configuration).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def changes(weights: Path) -> list[str]:
    return [
        f"trunk.weights={weights}", f"student.width={WIDTH}", "trunk.variants=2", "trunk.components=60",
        "trunk.penalty=3", "student.companion=false",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(changes: list[str]) -> Recipe:
    return read_recipe("sser-plus", changes)


@pytest.fixture(scope="module")
def rows(toy_table: Path) -> Sequence[Utterance]:
    return read_table(toy_table)


@pytest.fixture(scope="module")
def embeddings(
    recipe: Recipe, rows: Sequence[Utterance], tmp_path_factory: pytest.TempPathFactory
) -> tuple[WhisperTrunk, EmbeddingStore]:
    folder = tmp_path_factory.mktemp("embeddings")
    trunk = load_trunk(recipe)
    return trunk, EmbeddingStore(trunk, recipe, rows, FeatureStore(rows, folder), folder)


@pytest.fixture(scope="module")
def student(embeddings: tuple[WhisperTrunk, EmbeddingStore], recipe: Recipe, rows: Sequence[Utterance]) -> WhisperTrunk:
    _, store = embeddings
    found = load_trunk(recipe)
    fit_head(found, split(rows, 1)[0], recipe, store)
    return found


def sound(pitch_hz: float = 130.0) -> Any:
    return torch.from_numpy(log_mel(voice(pitch_hz=pitch_hz, syllables_hz=3, seconds=3.0, seed=5)))[None]


def test_the_trunk_computes_what_the_encoder_does_from_the_same_input(weights: Path, recipe: Recipe) -> None:
    trunk, encoder = load_trunk(recipe), load_encoder(str(weights)).model.encoder
    mel = trunk.whisper_mel(sound())
    with torch.inference_mode():
        states = encoder(mel, output_hidden_states=True).hidden_states[1:3]
        parts = [
            part for state in states for part in (state.mean(dim=1), (state.var(dim=1, correction=0) + 1e-4).sqrt())
        ]
        alike = torch.full((1, 1, POSITIONS), 1.0 / POSITIONS)
        assert torch.allclose(trunk.encode(mel, alike), torch.cat(parts, dim=1), atol=1e-4)


def test_a_step_counts_by_a_power_of_its_loudness() -> None:
    frames = torch.zeros(1, FEATURES.frames, FEATURES.bands) - 60.0
    frames[:, 100:200] -= 20.0  # a hundredth of the power: at 0.25 a step counts 10**0.5 times less
    frames[:, 200:] -= 140.0
    alike, by_loudness = (
        WhisperTrunk(width=8, layers=1, loudness=loudness, emotions=8, dropout=0.0).step_weights(frames)[0, 0]
        for loudness in (0.0, 0.25)
    )
    assert torch.allclose(alike, torch.full((POSITIONS,), 1.0 / POSITIONS))
    assert by_loudness.sum() == pytest.approx(1.0, abs=1e-5)
    assert float(by_loudness[0] / by_loudness[60]) == pytest.approx(10**0.5, rel=1e-3)
    assert float(by_loudness[0] / by_loudness[120]) == pytest.approx(10**2.25, rel=1e-3)  # no step counts for less


def test_whispers_input_is_made_of_the_devices_bands(weights: Path, recipe: Recipe) -> None:
    samples = voice(pitch_hz=130, syllables_hz=3, seconds=3.0, seed=5)
    level = samples / np.sqrt(np.mean(np.square(samples)))
    theirs = load_encoder(str(weights)).model.features(torch.from_numpy(level.astype(np.float32))[None] * 0.1)
    own = load_trunk(recipe).whisper_mel(sound())
    assert (own - theirs).abs().mean() < 0.1  # of a range of 2
    assert np.corrcoef(own.flatten().numpy(), theirs.flatten().numpy())[0, 1] > 0.95


@pytest.mark.parametrize("gain_db", [-30.0, 12.0])
def test_the_level_does_not_matter(student: WhisperTrunk, gain_db: float) -> None:
    with torch.inference_mode():
        assert torch.allclose(student(sound()).stress, student(sound() + gain_db).stress, atol=1e-4)


def test_the_head_tells_agitated_from_calm_strangers(student: WhisperTrunk, rows: Sequence[Utterance]) -> None:
    found = predict(student, split(rows, 1)[1])
    angry = [item.stress for item in found if item.emotion == "angry"]
    calm = [item.stress for item in found if item.emotion == "calm"]
    assert np.mean(angry) > np.mean(calm)
    assert np.mean([one > other for one in angry for other in calm]) > 0.9


def test_a_larger_penalty_gives_smaller_weights(
    embeddings: tuple[WhisperTrunk, EmbeddingStore], changes: list[str], rows: Sequence[Utterance]
) -> None:
    _, store = embeddings
    norms = []
    for penalty in (3, 300):
        plan = read_recipe("sser-plus", [*changes, f"trunk.penalty={penalty}"])
        trunk = load_trunk(plan)
        fit_head(trunk, rows, plan, store)
        norms.append(float(trunk.head.weight.detach().norm()))
    assert norms[1] < 0.5 * norms[0]


def test_the_same_run_gives_the_same_bits_and_another_recipe_is_refused(
    changes: list[str], toy_table: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        request = FitRequest(
            table=toy_table, out=tmp_path / name, recipe="sser-plus", changes=changes, folds=[1], threads=1
        )
        run(request, lambda line: None)
    one, two = (load_student(tmp_path / name / "fold-1" / "model.safetensors")[0] for name in ("one", "two"))
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    other = FitRequest(
        table=toy_table, out=tmp_path / "one", recipe="sser-plus", changes=[*changes, "trunk.penalty=9"], folds=[1],
        threads=1,
    )  # fmt: skip
    with pytest.raises(TrainingError, match="another recipe or other data"):
        run(other, lambda line: None)


def test_an_encoder_of_another_size_is_refused(changes: list[str], tmp_path: Path) -> None:
    plan = read_recipe("sser-plus", [*changes, "student.width=128"])
    with pytest.raises(TrainingError, match=r"does not fit student\.width = 128"):
        load_trunk(plan)


def test_a_recipe_with_a_trunk_and_another_network_is_refused() -> None:
    with pytest.raises(SettingsError, match="belong together"):
        read_recipe("sser-plus", ["student.kind=compact-cnn", "student.width=12"])


@pytest.mark.parametrize("key", ["recorded_noise", "babble"])
def test_noise_that_a_trunk_would_ignore_is_refused(key: str) -> None:
    with pytest.raises(SettingsError, match="has no recorded_noise or babble"):
        read_recipe("sser-plus", [f"augmentation.{key}=0.5"])


def test_the_training_loop_refuses_a_frozen_trunk(recipe: Recipe, rows: Sequence[Utterance], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="frozen trunk"):
        fit(rows, recipe, FeatureStore(rows, tmp_path), tmp_path)


def test_beside_others_the_logits_are_the_mean_of_all(
    embeddings: tuple[WhisperTrunk, EmbeddingStore],
    student: WhisperTrunk,
    changes: list[str],
    rows: Sequence[Utterance],
) -> None:
    _, store = embeddings
    companions = [CompactCnn(width=width, emotions=8, dropout=0.0).eval() for width in (4, 6)]
    plan = read_recipe("sser-plus", [*changes, "student.companion=true", "trunk.share=0.25"])
    every = load_trunk(plan)
    fit_head(every, split(rows, 1)[0], plan, store, companions)
    with torch.inference_mode():
        found, trunk = every(sound()), student(sound())
        one, other = (companion(sound()) for companion in companions)
        assert torch.allclose(found.stress, 0.25 * trunk.stress + 0.375 * (one.stress + other.stress), atol=1e-4)
        assert torch.allclose(
            found.emotions, 0.25 * trunk.emotions + 0.375 * (one.emotions + other.emotions), atol=1e-4
        )


def test_a_companion_must_be_given_and_fit(
    changes: list[str], rows: Sequence[Utterance], toy_recipe: Path, tmp_path: Path
) -> None:
    plan = read_recipe("sser-plus", [*changes, "student.companion=true"])
    training = split(rows, 1)[0]
    for chosen, given in (([*changes, "student.companion=true"], ()), (changes, [tmp_path])):
        with pytest.raises(UsageError, match="leave --companion out" if given else "give --companion RUN"):
            FitRequest(table=tmp_path, out=tmp_path, recipe="sser-plus", changes=chosen, companions=given)
    with pytest.raises(UsageError, match="leave --tensorboard out"):
        FitRequest(table=tmp_path, out=tmp_path, recipe="sser-plus", changes=changes, tensorboard=True)
    with pytest.raises(TrainingError, match="no such file"):
        load_companions([tmp_path], 1, plan, data_key(training))
    toy = read_recipe(str(toy_recipe), ["optimisation.epochs=1", "optimisation.clips_per_epoch=16"])
    fit(training, toy, FeatureStore(rows, tmp_path), tmp_path / "fold-1")
    (_,), described = load_companions([tmp_path], 1, plan, data_key(training))
    assert described["companions"][0]["recipe"]["student"]["width"] == toy.student.width
    with pytest.raises(TrainingError, match="other recordings"):
        load_companions([tmp_path], 1, plan, data_key(rows))
    other = read_recipe("sser-plus", [*changes, "student.companion=true", "preset=sssr"])
    with pytest.raises(TrainingError, match="learnt stress under the preset quadrant"):
        load_companions([tmp_path], 1, other, data_key(training))


def test_a_run_beside_another_companion_is_refused(
    changes: list[str], toy_table: Path, toy_recipe: Path, rows: Sequence[Utterance], tmp_path: Path
) -> None:
    training = split(rows, 1)[0]
    companions = []
    for seed in (1, 2):
        toy = read_recipe(
            str(toy_recipe),
            ["optimisation.epochs=1", "optimisation.clips_per_epoch=16", f"optimisation.seed={seed}"],
        )
        companions.append(tmp_path / f"seed-{seed}")
        fit(training, toy, FeatureStore(rows, tmp_path), companions[-1] / "fold-1")
    chosen = [*changes, "student.companion=true"]
    one, other = (
        FitRequest(table=toy_table, out=tmp_path / "out", recipe="sser-plus", changes=chosen, folds=[1], final=False,
                   threads=1, companions=[companion])
        for companion in companions
    )  # fmt: skip
    run(one, lambda line: None)
    path = tmp_path / "out" / "fold-1" / "model.safetensors"
    before = path.stat().st_mtime_ns
    run(one, lambda line: None)
    assert path.stat().st_mtime_ns == before
    with pytest.raises(TrainingError, match="comes from another recipe"):
        run(other, lambda line: None)


def test_all_components_are_those_of_no_rotation_at_all(
    embeddings: tuple[WhisperTrunk, EmbeddingStore],
    changes: list[str],
    rows: Sequence[Utterance],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, store = embeddings
    dims = 2 * 2 * WIDTH  # means and deviations of two layers
    plan = read_recipe("sser-plus", [*changes, f"trunk.components={dims}"])

    def heard() -> Any:
        trunk = load_trunk(plan)
        fit_head(trunk, split(rows, 1)[0], plan, store)
        with torch.inference_mode():
            return torch.cat([trunk(sound(pitch)).stress for pitch in (110.0, 160.0, 260.0)])

    plain = heard()
    assert dims == store.select(rows).shape[2]

    def rotation(values: torch.Tensor, weights: torch.Tensor, components: int) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(dims, dims, generator=torch.Generator().manual_seed(1)))[0]

    monkeypatch.setattr(frozen, "_principal_axes", rotation)
    assert torch.allclose(heard(), plain, atol=0.02)


def test_a_checkpoint_loads_without_the_encoders_weights(student: WhisperTrunk, recipe: Recipe, tmp_path: Path) -> None:
    header = {
        "recipe": recipe.model_dump(mode="json"), "emotions": ["calm"] * 8, "data": "x",
        "corpora": [{"name": "toy", "utterances": 1, "speakers": 1}],
    }  # fmt: skip
    save_checkpoint(tmp_path / "model.safetensors", Checkpoint(dict(student.state_dict()), header))
    again, _, _ = load_student(tmp_path / "model.safetensors")
    with torch.inference_mode():
        assert torch.equal(again(sound()).stress, student(sound()).stress)


def test_a_preset_without_emotions_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="emotion_share"):
        FitRequest(table=tmp_path, out=tmp_path, recipe="sser-plus", changes=["preset=arousal_valence"])


def test_clips_without_a_label_change_no_head(
    embeddings: tuple[WhisperTrunk, EmbeddingStore], recipe: Recipe, rows: Sequence[Utterance]
) -> None:
    training, _ = split(rows, 1)
    bare = [replace(clip, corpus="telephone", emotion="", intensity="") for clip in training[::2]]
    heads = []
    for clips in (training[1::2], [*bare, *training[1::2]]):
        student = load_trunk(recipe)
        fit_head(student, clips, recipe, embeddings[1])
        heads.append(student.head.weight)
    assert torch.equal(*heads)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights where the teacher looks for Whisper tiny: a name is a folder where the command is given."""
    monkeypatch.chdir(tmp_path)
    configuration = transformers.WhisperConfig(
        d_model=384, encoder_layers=2, encoder_attention_heads=6, encoder_ffn_dim=1536, decoder_layers=1,
        decoder_attention_heads=1, decoder_ffn_dim=16, vocab_size=60, max_target_positions=8, pad_token_id=1,
        bos_token_id=1, eos_token_id=1, decoder_start_token_id=1,
    )  # fmt: skip
    transformers.WhisperModel(configuration).save_pretrained(tmp_path / "openai" / "whisper-tiny")


def teach(rows: Sequence[Utterance], out: Path, preset: str = "quadrant") -> None:
    make_trunk_teachers(rows, [1], preset, out, out / "cache", partial(tqdm, disable=True))


@pytest.mark.usefixtures("tiny")
def test_the_trunk_teaches_students_with_their_own_windows(
    toy_table: Path, toy_recipe: Path, rows: Sequence[Utterance], tmp_path: Path
) -> None:
    changes = [
        "distillation.teacher_hears=student", "distillation.views=2", "distillation.stress=1",
        "distillation.emotion=1", "optimisation.epochs=1",
    ]  # fmt: skip
    request = FitRequest(
        table=toy_table, out=tmp_path / "run", recipe=str(toy_recipe), changes=changes, folds=[1], final=False,
        teachers=["whisper-trunk"], threads=1,
    )  # fmt: skip
    run(request, lambda line: None)
    training, _ = split(rows, 1)
    folder = tmp_path / "run" / "teacher" / "whisper-trunk" / "fold-1"
    _, _, header = load_student(tmp_path / "run" / "fold-1" / "model.safetensors")
    ensemble = Ensemble([folder / "member-1.safetensors"], data_key(training))
    assert header["teacher"] == ensemble.describe()
    assert header["teacher"]["members"][0]["name"] == "whisper-trunk"
    assert {"taught stress", "taught emotion"} <= set(header["history"][0]["parts"])
    kept, _ = read_outputs(folder / OUTPUTS_FILE, training, data_key(training))
    heard = concatenate_outputs([ensemble(clip).mean() for clip in training])
    assert np.corrcoef(kept.stress, heard.stress)[0, 1] > 0.99  # kept in bfloat16 where the processor has it
    assert np.corrcoef(kept.emotions.ravel(), heard.emotions.ravel())[0, 1] > 0.99


@pytest.mark.usefixtures("tiny")
def test_a_teacher_that_was_interrupted_is_made_whole_and_one_that_is_whole_is_kept(
    rows: Sequence[Utterance], tmp_path: Path
) -> None:
    folder = tmp_path / "teacher" / "fold-1"
    member, outputs, trained = folder / "member-1.safetensors", folder / OUTPUTS_FILE, "run/fold-1/model.safetensors"
    teach(rows, folder.parent)
    first, before = outputs.read_bytes(), (folder.parent / trained).stat().st_mtime_ns
    outputs.unlink()
    teach(rows, folder.parent)
    assert outputs.read_bytes() == first
    member.unlink()
    kept = outputs.stat().st_mtime_ns
    teach(rows, folder.parent)
    assert member.read_bytes() == (folder.parent / trained).read_bytes()
    assert outputs.stat().st_mtime_ns == kept
    assert (folder.parent / trained).stat().st_mtime_ns == before
    with pytest.raises(TrainingError, match="another recipe or other data"):
        teach(rows[:-4], folder.parent)


@pytest.mark.usefixtures("tiny")
def test_a_teacher_of_before_a_new_key_of_the_recipe_is_kept(rows: Sequence[Utterance], tmp_path: Path) -> None:
    teach(rows, tmp_path / "teacher")
    path = tmp_path / "teacher" / "run" / "fold-1" / "model.safetensors"
    found = load_checkpoint(path)
    recipe = {key: value for key, value in found.header["recipe"].items() if key != "twins"}
    save_checkpoint(path, Checkpoint(found.tensors, {**found.header, "recipe": recipe}))
    (tmp_path / "teacher" / "fold-1" / OUTPUTS_FILE).unlink()
    teach(rows, tmp_path / "teacher")
    assert "twins" not in load_checkpoint(path).header["recipe"]


def test_a_teacher_under_a_preset_without_emotions_has_no_vote() -> None:
    assert trunk_recipe("quadrant").emotion_share == read_recipe("sser-plus").emotion_share > 0.0
    assert trunk_recipe("arousal_valence").emotion_share == 0.0


@pytest.mark.usefixtures("tiny")
def test_calm_speech_alone_makes_no_teacher(rows: Sequence[Utterance], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to tell apart"):
        teach([clip for clip in rows if clip.emotion == "calm"], tmp_path / "teacher")
