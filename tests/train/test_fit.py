from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_sser.errors import SettingsError, TrainingError, UsageError
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.features import FeatureStore, windows
from edge_sser.train.data.sampling import Sampler
from edge_sser.train.evaluate.predictions import predict
from edge_sser.train.evaluate.scores import evaluate
from edge_sser.train.fit.checkpoint import Checkpoint, load_checkpoint, load_student, save_checkpoint
from edge_sser.train.fit.loop import LAST_FILE, Epoch
from edge_sser.train.fit.run import FitRequest, fit
from edge_sser.train.recipe import Recipe, read_recipe


@pytest.fixture(scope="module")
def rows(toy_table: Path) -> Sequence[Utterance]:
    return read_table(toy_table)


@pytest.fixture(scope="module")
def store(rows: Sequence[Utterance], tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(rows, tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def recipe(toy_recipe: Path) -> Recipe:
    return read_recipe(str(toy_recipe))


@pytest.fixture(scope="module")
def whole(
    rows: Sequence[Utterance], recipe: Recipe, store: FeatureStore, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    torch.set_num_threads(1)
    return fit(split(rows, 1)[0], recipe, store, tmp_path_factory.mktemp("whole"))


def test_it_learns_to_tell_agitated_from_calm_strangers_of_equal_level(whole: Path, rows: Sequence[Utterance]) -> None:
    student, _, _ = load_student(whole)
    found = predict(student, split(rows, 1)[1])
    angry = [item.stress for item in found if item.emotion == "angry"]
    calm = [item.stress for item in found if item.emotion == "calm"]
    assert min(angry) > max(calm)


def test_an_interrupted_run_ends_with_the_same_bits(
    whole: Path, rows: Sequence[Utterance], recipe: Recipe, store: FeatureStore, tmp_path: Path
) -> None:
    class Interruption(KeyboardInterrupt):
        pass

    def kill(epoch: Epoch) -> None:
        if epoch.number == 2:
            raise Interruption

    training = split(rows, 1)[0]
    with pytest.raises(Interruption):
        fit(training, recipe, store, tmp_path, kill)
    last = load_checkpoint(tmp_path / LAST_FILE)
    older = {name: value for name, value in last.header["recipe"].items() if name != "twins"}  # before there were any
    save_checkpoint(tmp_path / LAST_FILE, Checkpoint(last.tensors, {**last.header, "recipe": older}))
    epochs: list[int] = []
    path = fit(training, recipe, store, tmp_path, lambda epoch: epochs.append(epoch.number))
    assert epochs == [3, 4, 5]
    expected, found = load_checkpoint(whole), load_checkpoint(path)
    assert expected.header == found.header
    assert all(torch.equal(value, found.tensors[name]) for name, value in expected.tensors.items())


def test_another_seed_gives_another_student(
    whole: Path, rows: Sequence[Utterance], recipe: Recipe, store: FeatureStore, tmp_path: Path
) -> None:
    values = recipe.model_dump(mode="json")
    values["optimisation"] |= {"seed": 2, "epochs": 1}
    path = fit(split(rows, 1)[0], Recipe.model_validate(values), store, tmp_path)
    name = "head.weight"
    assert not torch.equal(load_checkpoint(path).tensors[name], load_checkpoint(whole).tensors[name])


def test_a_folder_of_another_run_is_refused(
    whole: Path, rows: Sequence[Utterance], recipe: Recipe, store: FeatureStore
) -> None:
    with pytest.raises(TrainingError, match="another recipe or other data"):
        fit(split(rows, 2)[0], recipe, store, whole.parent)


def test_a_users_preset_that_was_changed_is_another_run(
    rows: Sequence[Utterance], recipe: Recipe, store: FeatureStore, tmp_path: Path
) -> None:
    table = tmp_path / "mine.toml"
    table.write_text("[emotions]\nangry = 1\ncalm = 0\n", encoding="utf-8")
    values = recipe.model_dump(mode="json") | {"preset": str(table)}
    values["optimisation"] |= {"epochs": 1, "clips_per_epoch": 16}
    plan = Recipe.model_validate(values)
    path = fit(split(rows, 1)[0], plan, store, tmp_path / "run")
    assert fit(split(rows, 1)[0], plan, store, tmp_path / "run") == path
    table.write_text("[emotions]\nangry = 0\ncalm = 1\n", encoding="utf-8")
    with pytest.raises(TrainingError, match="another recipe or other data"):
        fit(split(rows, 1)[0], plan, store, tmp_path / "run")


def test_a_loss_that_is_no_number_stops_the_run_and_says_where(
    rows: Sequence[Utterance], recipe: Recipe, store: FeatureStore, tmp_path: Path
) -> None:
    values = recipe.model_dump(mode="json")
    values["optimisation"] |= {"learning_rate": 1e30, "warmup": 0.0, "clip_gradient": 1e30}
    with pytest.raises(TrainingError, match=r"epoch \d+, batch \d+"):
        fit(split(rows, 1)[0], Recipe.model_validate(values), store, tmp_path)


def test_a_full_disk_keeps_the_last_good_checkpoint(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    good = load_checkpoint(whole)
    save_checkpoint(path, good)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_sser.train.fit.checkpoint.save_file", full)
    with pytest.raises(TrainingError, match="No space left"):
        save_checkpoint(path, Checkpoint(good.tensors, {}))
    assert load_checkpoint(path).header == good.header
    assert list(tmp_path.iterdir()) == [path]


def damaged(path: Path, whole: Path, kind: str) -> Path:
    data = whole.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        torch.save({"weights": torch.zeros(1)}, path)
    elif kind == "foreign":
        from safetensors.torch import save_file

        save_file({"weights": torch.zeros(1)}, path)
    elif kind == "other net":
        checkpoint = load_checkpoint(whole)
        tensors = {name: value for name, value in checkpoint.tensors.items() if not name.startswith("head")}
        save_checkpoint(path, Checkpoint(tensors, checkpoint.header))
    return path


@pytest.mark.parametrize("kind", ["missing", "truncated", "empty", "pickle", "foreign", "other net"])
def test_a_checkpoint_that_cannot_be_used_is_named_in_one_line(whole: Path, tmp_path: Path, kind: str) -> None:
    path = damaged(tmp_path / "bad.safetensors", whole, kind)
    with pytest.raises(TrainingError, match=r"bad\.safetensors") as caught:
        load_student(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"emotions": 8},
        {"emotions": "neutral!"},
        {"data": ...},
        {"data": None},
        {"corpora": ...},
        {"corpora": ["ravdess"]},
        {"corpora": [{}]},
        {"recipe": "toy"},
    ],
    ids=str,
)
def test_a_header_that_cannot_be_used_is_told_in_one_line(whole: Path, tmp_path: Path, changes: dict) -> None:
    checkpoint = load_checkpoint(whole)
    header = {name: value for name, value in {**checkpoint.header, **changes}.items() if value is not ...}
    path = tmp_path / "bad.safetensors"
    for spoilt in (header, [header]):
        save_checkpoint(path, Checkpoint(checkpoint.tensors, spoilt))
        with pytest.raises(TrainingError, match=r"bad\.safetensors: not a trained student") as caught:
            load_student(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stress", "message"),
    [
        (None, "stress is not known for any clip, so that there is nothing to tell apart"),
        (0.0, "stress is 0 for all clips that say"),
    ],
)
def test_labels_that_tell_nothing_apart_stop_before_training(
    rows: Sequence[Utterance], recipe: Recipe, store: FeatureStore, tmp_path: Path, stress: float | None, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        fit([replace(row, emotion="", stress=stress) for row in rows], recipe, store, tmp_path)
    with pytest.raises(TrainingError, match="all speakers stand in one fold"):
        fit([], recipe, store, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_key_in_a_recipe_is_named(toy_recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(toy_recipe.read_text("utf-8").replace("dropout", "dropuot"), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"wrong\.toml: student\.dropuot: unknown key"):
        read_recipe(str(path))


def test_a_name_that_no_recipe_or_teacher_has_is_told_before_the_table_is_read(tmp_path: Path) -> None:
    table = tmp_path / "gone.csv"
    ships = "ones that ship: sser-cnn, sser-plus, sser-vit, sser-yamnet"
    with pytest.raises(SettingsError, match=f"no recipe 'sser-pluss': did you mean sser-plus. {ships}"):
        FitRequest(table=table, out=tmp_path, recipe="sser-pluss")
    with pytest.raises(SettingsError, match=f"no recipe 'nothing-of-it': {ships}"):
        FitRequest(table=table, out=tmp_path, recipe="nothing-of-it")
    with pytest.raises(SettingsError, match=r"recipe mine\.toml: No such file or directory: give"):
        FitRequest(table=table, out=tmp_path, recipe="mine.toml")
    with pytest.raises(UsageError, match="no teacher 'whisper-tny': did you mean whisper-tiny"):
        FitRequest(table=table, out=tmp_path, recipe="sser-cnn", teachers=["whisper-tny"])


def test_each_corpus_has_its_share_of_an_epoch_and_no_clip_waits() -> None:
    def clip(corpus: str, number: int) -> Utterance:
        return Utterance(
            path="", corpus=corpus, speaker=str(number), sex="", emotion="calm", intensity="", fold=1, duration_s=1.0,
            sha256=f"{corpus}{number}",
        )  # fmt: skip

    clips = [clip("a", n) for n in range(10)] + [clip("b", n) for n in range(30)] + [clip("c", n) for n in range(90)]
    order = Sampler(clips, {"a": 0.5}, 120).epoch(np.random.default_rng(0))
    drawn = [clips[place].corpus for place in order]
    assert [drawn.count(name) for name in "abc"] == [60, 15, 45]
    counts = np.bincount(order, minlength=130)
    assert set(counts[:10]) == {6}
    assert counts[10:].max() == 1


def test_a_short_clip_fills_its_window_and_a_long_one_gives_one_every_half_second() -> None:
    frames = np.arange(130 * 64, dtype=np.float32).reshape(130, 64)
    short = windows(frames)
    assert short.shape == (1, 300, 64)
    assert np.array_equal(short[0, 130:260], frames)
    assert windows(np.zeros((425, 64), dtype=np.float32)).shape == (3, 300, 64)


def test_kept_features_that_are_damaged_are_named(rows: Sequence[Utterance], tmp_path: Path) -> None:
    FeatureStore(rows, tmp_path)
    (path,) = (path for path in tmp_path.glob("features-*.npy") if ".frames" not in path.name)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(TrainingError, match=rf"{path.name}: damaged .* remove it, and it is made again"):
        FeatureStore(rows, tmp_path)


def test_out_of_fold_scores_are_those_of_the_folds_own_models(whole: Path, rows: Sequence[Utterance]) -> None:
    student, _, _ = load_student(whole)
    found = predict(student, rows)
    scores = evaluate(found).corpora[0]
    assert (scores.clips, scores.speakers, scores.folds, scores.classes) == (48, 6, 6, 2)
    assert scores.auroc > 0.9
