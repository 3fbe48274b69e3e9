"""Speech encoders as teachers. Published weights are not at hand: tiny ones of the same make stand in for them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from components import require_transformers
from numpy.typing import NDArray
from torch.nn import functional as F
from tqdm import tqdm
from voices import voice

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.features import FeatureStore, windows
from edge_sser.train.evaluate.metrics import auroc
from edge_sser.train.evaluate.predictions import predict
from edge_sser.train.fit.checkpoint import MODEL_FILE, data_key, load_student
from edge_sser.train.fit.loop import Epoch
from edge_sser.train.fit.run import fit
from edge_sser.train.recipe import Recipe, TeacherInput, read_recipe
from edge_sser.train.teachers import hidden
from edge_sser.train.teachers.encoder import load_encoder, sound_windows
from edge_sser.train.teachers.hidden import HiddenStore
from edge_sser.train.teachers.hubert import fit_encoder_teacher
from edge_sser.train.teachers.lesson import open_lesson
from edge_sser.train.teachers.make import make_encoder_teachers
from edge_sser.train.teachers.recipe import TeacherRecipe, read_teacher_recipe, shipped_recipes

try:
    import transformers
except ImportError:
    transformers = None

quiet = partial(tqdm, disable=True)
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}  # how the large ones differ


@pytest.fixture(scope="module", autouse=True)
def _library() -> None:
    require_transformers()


def tiny(kind: str, **settings: Any) -> Any:
    """A network of a family with random weights, in evaluation mode."""
    torch.manual_seed(0)
    family = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM"}[kind]
    configuration = getattr(transformers, f"{family}Config")(**SMALL, **settings)
    return getattr(transformers, f"{family}Model")(configuration).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hubert")
    tiny("hubert").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def rows(toy_table: Path) -> Sequence[Utterance]:
    torch.set_num_threads(1)
    return read_table(toy_table)


def angry(clips: Sequence[Utterance]) -> NDArray[np.int64]:
    return np.array([int(clip.emotion == "angry") for clip in clips])


def recipe(weights: Path, trained: str, **optimisation: Any) -> TeacherRecipe:
    values = read_teacher_recipe("hubert-base").model_dump(mode="json")
    values["encoder"] |= {"weights": str(weights), "trained": trained, "top_layers": 1, "rate_share": 1.0}
    values["head"]["width"] = 16
    values["optimisation"] |= {
        "epochs": 4, "clips_per_epoch": 160, "batch": 16, "average": 0.8, "precision": "float32", "learning_rate": 1e-2,
        **optimisation,
    }  # fmt: skip
    return TeacherRecipe.model_validate(values)


@pytest.mark.parametrize(
    ("kind", "settings"), [("hubert", {}), ("hubert", LARGE), ("wav2vec2", {}), ("wavlm", {}), ("wavlm", LARGE)]
)
@pytest.mark.parametrize("form", ["safetensors", "torch", "with a head"])
def test_an_encoder_read_from_disk_gives_the_hidden_states_of_the_one_that_was_saved(
    tmp_path: Path, kind: str, settings: dict[str, Any], form: str
) -> None:
    model = tiny(kind, **settings)
    if form == "safetensors":
        model.save_pretrained(tmp_path)
    elif form == "torch":  # as the older ones on the hub are: other names for the normalised convolution, and a pickle
        model.config.save_pretrained(tmp_path)
        state = {
            name.replace("parametrizations.weight.original0", "weight_g").replace(
                "parametrizations.weight.original1", "weight_v"
            ): value
            for name, value in model.state_dict().items()
        }
        torch.save(state, tmp_path / "pytorch_model.bin")
    else:  # fine-tuned for something else: the encoder's names have a prefix, and there is more in the file
        family = type(model).__name__.removesuffix("Model")
        whole = getattr(transformers, f"{family}ForSequenceClassification")(model.config)
        getattr(whole, whole.base_model_prefix).load_state_dict(model.state_dict())
        whole.save_pretrained(tmp_path)
    sound = sound_windows(voice(pitch_hz=150, syllables_hz=3, seconds=4.2, seed=1))
    with torch.inference_mode():
        found = load_encoder(str(tmp_path))(sound)
        states = model(sound, output_hidden_states=True).hidden_states
    assert found.shape == (3, 4, 29, 32)
    for layer, state in enumerate(states):
        expected = F.avg_pool1d(state.transpose(1, 2), 5).transpose(1, 2)
        assert torch.allclose(found[:, layer], expected, atol=1e-4)


def test_windows_of_sound_stand_where_those_of_the_features_do_and_have_no_level() -> None:
    for seconds in (1.3, 3.0, 3.49, 3.5, 7.0):
        sound = voice(pitch_hz=150, syllables_hz=3, seconds=seconds, seed=1)
        sound[:4_000] = 0.0
        found = sound_windows(sound)
        assert found.shape == (windows(np.zeros((sound.size // 160, 64), dtype=np.float32)).shape[0], 48_000)
        assert torch.allclose(found, sound_windows(sound * np.float32(0.05)), atol=1e-4)
        assert found.square().mean(dim=1) == pytest.approx(torch.ones(found.shape[0]), abs=1e-2)
        assert int((found == 0.0).sum()) == 0


@pytest.mark.parametrize(("trained", "epochs"), [("head", 25), ("top", 4), ("whole", 4)])
def test_a_tiny_hubert_learns_and_a_student_taught_by_it_alone_agrees_about_strangers(
    weights: Path, rows: Sequence[Utterance], toy_recipe: Path, tmp_path: Path, trained: str, epochs: int
) -> None:
    training, test = split(rows, 1)
    make_encoder_teachers(rows, [1], recipe(weights, trained, epochs=epochs), tmp_path / "teacher", quiet)
    lesson = open_lesson(tmp_path / "teacher" / "fold-1", training, data_key(training), TeacherInput.CLEAN)
    assert auroc(angry(training), lesson.outputs.stress.double().numpy()) > 0.95

    values = read_recipe(str(toy_recipe)).model_dump(mode="json", exclude_none=True)
    values["losses"] = {"emotion": 0.0, "stress": 0.0, "intensity": 0.0}
    values["distillation"] = {"emotion": 1.0, "stress": 1.0, "features": 0.5}
    store = FeatureStore(rows, tmp_path)
    path = fit(training, Recipe.model_validate(values), store, tmp_path / "student", lesson=lesson)
    found = predict(load_student(path)[0], test)
    assert auroc(angry(test), np.array([item.stress for item in found])) > 0.95


def test_a_teacher_is_taught_what_its_preset_calls_stress_and_says_so(
    weights: Path, rows: Sequence[Utterance], tmp_path: Path
) -> None:
    table = tmp_path / "mine.toml"
    table.write_text("[emotions]\ncalm = 1\nangry = 0\n", encoding="utf-8")
    training, _ = split(rows, 1)
    plan = recipe(weights, "head", epochs=25).model_copy(update={"preset": str(table)})
    make_encoder_teachers(rows, [1], plan, tmp_path / "teacher", quiet)
    lesson = open_lesson(tmp_path / "teacher" / "fold-1", training, data_key(training), TeacherInput.CLEAN)
    assert auroc(angry(training), lesson.outputs.stress.double().numpy()) < 0.05
    assert lesson.description["preset"]["calm"] == 1


def test_a_head_learns_from_kept_hidden_states_in_either_precision(
    weights: Path, rows: Sequence[Utterance], tmp_path: Path
) -> None:
    training = split(rows, 1)[0]
    encoder = load_encoder(str(weights))
    store = HiddenStore(encoder, training, tmp_path / "states", torch.device("cpu"))
    losses = []
    for precision in ("float32", "bfloat16"):
        epochs: list[Epoch] = []
        plan = recipe(weights, "head", epochs=2, clips_per_epoch=64, precision=precision)
        fit_encoder_teacher(training, plan, encoder, store, tmp_path / precision, epochs.append)
        losses.append([epoch.loss for epoch in epochs])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]


def test_an_interrupted_teacher_ends_with_the_same_bits(
    weights: Path, rows: Sequence[Utterance], tmp_path: Path
) -> None:
    class Interruption(KeyboardInterrupt):
        pass

    def kill(epoch: Epoch) -> None:
        raise Interruption

    training = split(rows, 1)[0]
    plan = recipe(weights, "whole", epochs=2, clips_per_epoch=32)
    fit_encoder_teacher(training, plan, load_encoder(str(weights)), None, tmp_path / "whole")
    with pytest.raises(Interruption):
        fit_encoder_teacher(training, plan, load_encoder(str(weights)), None, tmp_path / "again", kill)
    fit_encoder_teacher(training, plan, load_encoder(str(weights)), None, tmp_path / "again")
    assert (tmp_path / "whole" / MODEL_FILE).read_bytes() == (tmp_path / "again" / MODEL_FILE).read_bytes()


def test_hidden_states_are_computed_once_even_if_it_is_stopped_on_the_way(
    weights: Path, rows: Sequence[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden, "CLIPS_A_FILE", 4)
    encoder = load_encoder(str(weights))
    device = torch.device("cpu")

    class StopError(Exception):
        pass

    def stop(clip: Utterance) -> None:
        if clip == rows[5]:
            raise StopError

    with pytest.raises(StopError):
        HiddenStore(encoder, rows[:8], tmp_path, device, stop)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(first) == 2
    store = HiddenStore(encoder, rows[:8], tmp_path, device)
    assert all(path.stat().st_mtime_ns == written for path, written in first.items())
    assert store[rows[6]].shape[1:] == (4, 29, 32)


@pytest.mark.parametrize("network", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_weights_that_cannot_be_fetched_are_named_with_the_place_to_put_them(
    toy_table: Path, tmp_path: Path, network: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_sser.cli", "train", "teacher", toy_table, "--recipe", "hubert-base", "--out", "x"],
        capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
        env={**os.environ, **network, "HF_HOME": str(tmp_path / "hub"), "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 1
    chosen, line = [line for line in done.stderr.splitlines() if line.strip()]
    assert chosen.startswith("threads: ")
    assert line.startswith("edge-sser: error: encoder facebook/hubert-base-ls960")
    for message in (
        "config.json",
        "pytorch_model.bin",
        "huggingface.co",
        str(tmp_path / "facebook" / "hubert-base-ls960"),
    ):
        assert message in line


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("sprung",))


def spoil(folder: Path, kind: str) -> None:
    file = folder / "model.safetensors"
    if kind == "cut short":
        file.write_bytes(file.read_bytes()[:-1000])
    elif kind == "other net":
        (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    elif kind == "no weights":
        file.unlink()
    elif kind == "trap":
        file.unlink()
        with (folder / "pytorch_model.bin").open("wb") as handle:
            pickle.dump({"encoder": Trap()}, handle, protocol=2)
    elif kind == "other weights":
        from safetensors.torch import save_file

        save_file({"linear.weight": torch.zeros(2, 2)}, file, {"format": "pt"})
    elif kind == "no json":
        (folder / "config.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    "kind", ["cut short", "other net", "no weights", "trap", "other weights", "no json", "checksum"]
)
def test_weights_that_cannot_be_used_are_named_in_one_line_and_nothing_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "weights"
    tiny("hubert").save_pretrained(folder)
    spoil(folder, kind)
    with pytest.raises(TrainingError, match="encoder") as caught:
        load_encoder(str(folder), "0" * 64 if kind == "checksum" else "")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


def test_the_recipes_that_ship_are_read() -> None:
    assert {"hubert-base", "hubert-large", "wavlm-large"} <= set(shipped_recipes())
    for name in shipped_recipes():
        assert read_teacher_recipe(name).name == name
