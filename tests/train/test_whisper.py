"""Whisper's encoder as a teacher. Published weights are not at hand here: tiny ones of the same make stand in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from components import require_transformers
from torch.nn import functional as F
from tqdm import tqdm
from voices import voice

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.fit.checkpoint import MODEL_FILE
from edge_sser.train.teachers.encoder import load_encoder, sound_windows
from edge_sser.train.teachers.hidden import HiddenStore
from edge_sser.train.teachers.make import make_encoder_teachers
from edge_sser.train.teachers.recipe import TeacherRecipe, read_teacher_recipe, shipped_recipes
from edge_sser.train.teachers.teacher import Teacher

try:
    import transformers
except ImportError:
    transformers = None

LAYERS, DIMS = 3, 32
RMS = 0.1  # what Whisper hears; windows for other encoders have 1


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    require_transformers()
    torch.set_num_threads(1)


def tiny(positions: int = 1500) -> Any:
    """A WhisperModel with random weights, in evaluation mode; other sizes in its decoder than in its encoder."""
    torch.manual_seed(0)
    configuration = transformers.WhisperConfig(
        d_model=DIMS, encoder_layers=LAYERS, encoder_attention_heads=2, encoder_ffn_dim=64, decoder_layers=1,
        decoder_attention_heads=4, decoder_ffn_dim=16, vocab_size=60, max_target_positions=8, pad_token_id=1,
        bos_token_id=1, eos_token_id=1, decoder_start_token_id=1, max_source_positions=positions,
        encoder_layerdrop=0.5,
    )  # fmt: skip
    return transformers.WhisperModel(configuration).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    tiny().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(toy_table: Path) -> Sequence[Utterance]:
    return read_table(toy_table)


def recipe(weights: Path, trained: str, **optimisation: Any) -> TeacherRecipe:
    values = read_teacher_recipe("whisper-tiny").model_dump(mode="json")
    values["encoder"] |= {"weights": str(weights), "trained": trained, "top_layers": 1, "rate_share": 1.0}
    values["head"]["width"] = 16
    values["optimisation"] |= {
        "epochs": 2, "clips_per_epoch": 32, "batch": 16, "average": 0.8, "precision": "float32", **optimisation,
    }  # fmt: skip
    return TeacherRecipe.model_validate(values)


def states_of_transformers(model: Any, sound: torch.Tensor) -> Sequence[torch.Tensor]:
    """The hidden states of transformers' own encoder, for three seconds, on transformers' own features."""
    extractor = transformers.WhisperFeatureExtractor(chunk_length=3)
    features = extractor(list((sound * RMS).numpy()), sampling_rate=16_000, return_tensors="pt").input_features
    short = tiny(positions=150).encoder
    state = dict(model.encoder.state_dict())
    state["embed_positions.weight"] = state["embed_positions.weight"][:150]
    short.load_state_dict(state)
    with torch.inference_mode():
        states: Sequence[torch.Tensor] = short(features, output_hidden_states=True).hidden_states
    return states


@pytest.mark.parametrize(("positions", "form"), [(1500, "safetensors"), (150, "safetensors"), (1500, "for speech")])
def test_the_hidden_states_are_those_of_transformers_for_the_same_three_seconds(
    tmp_path: Path, positions: int, form: str
) -> None:
    model = tiny(positions)
    if form == "safetensors":
        model.save_pretrained(tmp_path)
    else:  # as it is published: a model that writes words, whose names have a prefix
        whole = transformers.WhisperForConditionalGeneration(model.config)
        whole.model.load_state_dict(model.state_dict())
        whole.save_pretrained(tmp_path)
    sound = sound_windows(voice(pitch_hz=150, syllables_hz=3, seconds=4.2, seed=1))
    encoder = load_encoder(str(tmp_path))
    assert (encoder.layers, encoder.dims) == (LAYERS + 1, DIMS)
    with torch.inference_mode():
        found = encoder(sound)
    assert (found.shape, found.dtype) == ((3, LAYERS + 1, 30, DIMS), torch.float32)
    for layer, state in enumerate(states_of_transformers(model, sound)):
        expected = F.avg_pool1d(state.transpose(1, 2), 5).transpose(1, 2)
        assert torch.allclose(found[:, layer], expected, atol=1e-4), f"layer {layer}"


def test_its_features_stay_in_float32_where_products_are_in_bfloat16(weights: Path) -> None:
    windows: Any = load_encoder(str(weights)).model
    sound = sound_windows(voice(pitch_hz=150, syllables_hz=3, seconds=3.0, seed=1)) * RMS
    with torch.autocast("cpu", torch.bfloat16):
        rough = windows.features(sound)
    assert torch.equal(rough, windows.features(sound))


def only(model: Any, folder: Path, part: str) -> Path:
    """Writes a part of a model's weights, under its names in the whole."""
    names = {name: value for name, value in model.state_dict().items() if name.startswith(part)}
    model.save_pretrained(folder, state_dict=names)
    return folder


def test_a_file_of_the_encoder_alone_is_enough_and_one_of_half_precision_is_read_in_full(
    weights: Path, tmp_path: Path
) -> None:
    sound = sound_windows(voice(pitch_hz=150, syllables_hz=3, seconds=3.0, seed=1))
    tiny().half().save_pretrained(tmp_path / "half")
    with torch.inference_mode():
        whole = load_encoder(str(weights))(sound)
        assert torch.equal(load_encoder(str(only(tiny(), tmp_path / "encoder", "encoder.")))(sound), whole)
        half = load_encoder(str(tmp_path / "half"))(sound)
    assert half.dtype == torch.float32
    assert torch.allclose(half, whole, atol=0.02)


def test_a_file_without_the_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"encoder\.\S+ is missing: these are not the weights of a whisper"):
        load_encoder(str(only(tiny(), tmp_path, "decoder.")))


def test_a_head_is_trained_on_kept_states_and_asked_about_strangers(
    weights: Path, rows: Sequence[Utterance], tmp_path: Path
) -> None:
    calls: list[tuple[Teacher, Sequence[Utterance]]] = []
    quiet = partial(tqdm, disable=True)
    make_encoder_teachers(
        rows, [1, None], recipe(weights, "head"), tmp_path, quiet, lambda *arguments: calls.append(arguments)
    )
    strangers = split(rows, 1)[1]
    assert [list(clips) for _, clips in calls] == [strangers, []]
    assert calls[0][0](strangers[0]).emotions.shape[1] == 8
    store = HiddenStore(load_encoder(str(weights)), rows, tmp_path / "cache", torch.device("cpu"))
    assert store[rows[0]].shape[1:] == (LAYERS + 1, 30, DIMS)


def test_its_top_layers_are_trained_and_no_others(weights: Path, rows: Sequence[Utterance], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    clips = [clip for clip in rows if clip.fold in (1, 2)]
    make_encoder_teachers(clips, [1], recipe(weights, "top"), tmp_path, partial(tqdm, disable=True))
    found = load_file(tmp_path / "fold-1" / MODEL_FILE)
    learnt = {name for name in found if name.startswith("encoder.") and "layers." in name}
    assert learnt
    assert all(f"layers.{LAYERS - 1}." in name for name in learnt)
    before = load_encoder(str(weights)).state_dict()
    assert any(not np.array_equal(found[name], before[name.removeprefix("encoder.")]) for name in learnt)
    assert not any("embed_positions" in name or "conv" in name for name in found)


def test_its_recipes_ship() -> None:
    assert {"whisper-base", "whisper-tiny"} <= set(shipped_recipes())
    for name in ("whisper-base", "whisper-tiny"):
        assert read_teacher_recipe(name).encoder.weights == f"openai/{name}"
