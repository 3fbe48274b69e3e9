"""Teachers made of students, and what a student learns from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tqdm import tqdm

from edge_sser.errors import SettingsError, TrainingError, UsageError
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.augment import Augmenter
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.features import windows as crops
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.data.mixing import NO_AUGMENTATION_SOURCES, AugmentationSources
from edge_sser.train.evaluate.predictions import predict
from edge_sser.train.fit.checkpoint import (
    Checkpoint,
    custom_preset,
    data_key,
    load_checkpoint,
    load_student,
    save_checkpoint,
)
from edge_sser.train.fit.losses import Distiller, blend, concordance, similarity_difference
from edge_sser.train.fit.parallel import World
from edge_sser.train.fit.run import fit
from edge_sser.train.fit.task import StudentTask
from edge_sser.train.fit.teaching import check_preset
from edge_sser.train.fit.views import SharedViews, make_views
from edge_sser.train.recipe import Distillation, Recipe, TeacherInput, read_recipe
from edge_sser.train.students.net import Logits
from edge_sser.train.teachers.ensemble import Ensemble
from edge_sser.train.teachers.lesson import open_lesson, open_lessons
from edge_sser.train.teachers.make import make_ensemble
from edge_sser.train.teachers.outputs import OUTPUTS_FILE, Outputs, read_outputs

quiet = partial(tqdm, disable=True)
UNLABELLED = {"emotion": 0.0, "stress": 0.0, "intensity": 0.0}
STRESSED, UNSTRESSED = ("angry", "fearful"), ("neutral", "calm", "happy", "sad", "surprised")


def outputs(clips: int = 6, seed: int = 0) -> Outputs:
    random = torch.Generator().manual_seed(seed)
    return Outputs(
        features=torch.randn(clips, 5, generator=random),
        emotions=torch.randn(clips, 8, generator=random),
        stress=torch.randn(clips, generator=random),
    )


def losses(
    student: Outputs, teacher: Outputs, allowed: torch.Tensor | None = None, **weights: float
) -> dict[str, float]:
    settings = Distillation.model_validate({"temperature": 2.0, **weights})
    allowed = torch.ones(len(teacher.stress), 8, dtype=torch.bool) if allowed is None else allowed
    logits = Logits(stress=student.stress, emotions=student.emotions, intensity=torch.zeros_like(student.stress))
    parts = Distiller(settings, 5, teacher).losses(logits, student.features, teacher, allowed)
    return {name: float(value.detach()) for name, value in parts.items()}


def test_a_student_that_says_what_its_teacher_says_has_nothing_to_learn() -> None:
    weights = {"emotion": 1.0, "stress": 1.0, "concordance": 1.0, "similarity": 1.0}
    assert losses(outputs(), outputs(), **weights)["taught emotion"] == pytest.approx(0.0, abs=1e-6)
    same = losses(outputs(), outputs(), **weights)
    other = losses(outputs(seed=1), outputs(), **weights)
    assert same["taught stress"] == pytest.approx(0.0, abs=1e-6)
    assert same["concordance"] == pytest.approx(0.0, abs=1e-4)
    assert all(other[name] > 0.05 for name in ("taught emotion", "taught stress", "concordance", "similarity"))


def test_soft_labels_are_compared_at_the_temperature_and_over_the_corpus_s_own_classes() -> None:
    student, teacher = outputs(1, seed=1), outputs(1)
    allowed = torch.tensor([[True, False, True, True, False, False, False, False]])
    p_teacher = np.exp(teacher.emotions.numpy()[0, [0, 2, 3]] / 2)
    p_student = np.exp(student.emotions.numpy()[0, [0, 2, 3]] / 2)
    p_teacher, p_student = p_teacher / p_teacher.sum(), p_student / p_student.sum()
    expected = 4.0 * float(np.sum(p_teacher * np.log(p_teacher / p_student)))
    assert losses(student, teacher, allowed, emotion=0.5)["taught emotion"] == pytest.approx(0.5 * expected, rel=1e-4)
    p, q = (1 / (1 + math.exp(-float(value.stress) / 2)) for value in (teacher, student))
    expected = 4.0 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    assert losses(student, teacher, stress=1.0)["taught stress"] == pytest.approx(expected, rel=1e-4)


def test_concordance_punishes_a_shift_that_correlation_forgives() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(0.0, 1.0, 50), random.normal(0.5, 2.0, 50)
    expected = (
        2 * np.cov(first, second, bias=True)[0, 1] / (first.var() + second.var() + (first.mean() - second.mean()) ** 2)
    )
    assert float(concordance(torch.from_numpy(first), torch.from_numpy(second))) == pytest.approx(expected, rel=1e-4)
    assert float(concordance(torch.from_numpy(first), torch.from_numpy(first + 1.0))) < 0.8


def test_which_clips_are_alike_does_not_depend_on_how_an_embedding_is_turned() -> None:
    features = outputs(20).features
    features = features - features.mean(dim=0)
    turned = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(3)))[0]
    assert float(similarity_difference(features @ turned + 7.0, features)) == pytest.approx(0.0, abs=1e-6)


def test_a_part_that_is_switched_off_costs_nothing() -> None:
    assert losses(outputs(), outputs()) == {}
    assert set(losses(outputs(), outputs(), features=1.0)) == {"features"}


@pytest.fixture(scope="module")
def rows(toy_table: Path) -> Sequence[Utterance]:
    return read_table(toy_table)


@pytest.fixture(scope="module")
def store(rows: Sequence[Utterance], tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    torch.set_num_threads(1)
    return FeatureStore(rows, tmp_path_factory.mktemp("features"))


def changed(toy_recipe: Path, **tables: Mapping[str, Any]) -> Recipe:
    values = read_recipe(str(toy_recipe)).model_dump(mode="json", exclude_none=True)
    for name, table in tables.items():
        values[name] = {**values.get(name, {}), **table}
    return Recipe.model_validate(values)


@pytest.fixture(scope="module")
def members(
    rows: Sequence[Utterance], store: FeatureStore, toy_recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Two nets of different width that were not trained on fold 1."""
    folder = tmp_path_factory.mktemp("members")
    return [
        fit(split(rows, 1)[0], changed(toy_recipe, student={"width": width}), store, folder / str(width))
        for width in (4, 5)
    ]


@pytest.fixture(scope="module")
def teacher(rows: Sequence[Utterance], members: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "fold-1"
    make_ensemble(split(rows, 1)[0], members, folder, quiet)
    return folder


def test_an_ensemble_says_the_mean_of_what_its_members_say(rows: Sequence[Utterance], members: list[Path]) -> None:
    training, test = split(rows, 1)
    output = Ensemble(members, data_key(training))(test[0]).mean()
    single = [Ensemble([path], data_key(training))(test[0]).mean() for path in members]
    assert torch.allclose(output.stress, (single[0].stress + single[1].stress) / 2, atol=1e-5)
    assert output.features.shape == (1, 6 * 4 + 6 * 5)
    whole = predict(load_student(members[0])[0], test[:1])[0]
    assert float(single[0].stress.sigmoid()) == pytest.approx(whole.stress, abs=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_a_teacher_for_whom_stress_means_something_else_is_refused_unless_stress_is_not_asked(
    toy_recipe: Path, several: bool
) -> None:
    teacher = {"kind": "hubert", "recipe": {"preset": "quadrant"}}
    teacher = {"kind": "several", "members": [teacher, teacher]} if several else teacher
    check_preset(changed(toy_recipe, distillation={"stress": 1.0}), teacher)
    other = read_recipe(str(toy_recipe), ["preset=sssr", "distillation.emotion=1", "distillation.stress=0"])
    check_preset(other, teacher)
    for weight in ("stress", "concordance"):
        with pytest.raises(UsageError, match=r"quadrant.*sssr"):
            check_preset(read_recipe(str(toy_recipe), ["preset=sssr", f"distillation.{weight}=1"]), teacher)


def test_a_users_table_is_told_from_another_of_the_same_name_and_found_in_the_members_of_members(
    toy_recipe: Path, tmp_path: Path
) -> None:
    tables = [tmp_path / number / "mine.toml" for number in ("1", "2")]
    for path, sad in zip(tables, (0, 1), strict=True):
        path.parent.mkdir()
        path.write_text(f"[emotions]\nangry = 1\ncalm = 0\nsad = {sad}\n", encoding="utf-8")
    student = read_recipe(str(toy_recipe), [f'preset="{tables[0]}"', "distillation.stress=1"])

    def description(path: Path) -> dict[str, Any]:
        ensemble = {"kind": "ensemble", "members": [{"name": "toy", **custom_preset(str(path))}]}
        return {"kind": "several", "members": [ensemble, ensemble]}

    check_preset(student, description(tables[0]))
    with pytest.raises(UsageError, match=r"under the preset of another \.toml file"):
        check_preset(student, description(tables[1]))


def test_an_ensemble_says_what_stress_means_to_its_members(members: list[Path], rows: Sequence[Utterance]) -> None:
    training, _ = split(rows, 1)
    description = Ensemble(members, data_key(training)).describe()
    assert [member["preset"] for member in description["members"]] == ["quadrant"] * len(members)


@pytest.mark.parametrize(
    ("hears", "views"), [(TeacherInput.CLEAN, 0), (TeacherInput.STUDENT, 0), (TeacherInput.STUDENT, 4)]
)
def test_a_student_without_labels_comes_to_agree_with_its_teacher_about_strangers(
    rows: Sequence[Utterance], store: FeatureStore, teacher: Path, members: list[Path], toy_recipe: Path,
    tmp_path: Path, hears: TeacherInput, views: int,
) -> None:  # fmt: skip
    training, test = split(rows, 1)
    recipe = changed(
        toy_recipe,
        losses=UNLABELLED,
        distillation={
            "teacher_hears": hears.value, "views": views, "emotion": 1.0, "stress": 1.0, "features": 0.5,
            "similarity": 1.0, "concordance": 0.5,
        },
    )  # fmt: skip
    lesson = open_lesson(teacher, training, data_key(training), hears)
    path = fit(training, recipe, store, tmp_path, lesson=lesson)
    student, _, header = load_student(path)
    assert header["teacher"]["kind"] == "ensemble"
    found = [item.stress for item in predict(student, test)]
    ensemble = Ensemble(members, data_key(training))
    expected = [float(ensemble(clip).mean().stress.sigmoid()) for clip in test]
    assert np.corrcoef(found, expected)[0, 1] > 0.9


def test_a_member_teaches_its_stress_with_the_vote_of_its_emotions(
    members: list[Path], rows: Sequence[Utterance], tmp_path: Path
) -> None:
    found = load_checkpoint(members[0])
    path = tmp_path / "voting.safetensors"
    header = {**found.header, "recipe": {**found.header["recipe"], "emotion_share": 1.0}}
    save_checkpoint(path, Checkpoint(found.tensors, header))
    key = data_key(split(rows, 1)[0])
    plain, voting = (Ensemble([each], key)(rows[0]) for each in (members[0], path))
    assert torch.equal(voting.emotions, plain.emotions)
    yes, no = ([EMOTIONS.index(name) for name in names] for names in (STRESSED, UNSTRESSED))
    expected = voting.emotions[:, yes].logsumexp(1) - voting.emotions[:, no].logsumexp(1)
    assert torch.allclose(voting.stress, expected, atol=1e-5)
    assert not torch.allclose(plain.stress, expected, atol=1e-2)
    assert Ensemble([path], key).describe()["members"][0]["emotion_share"] == 1.0  # outputs without it are refused
    assert "emotion_share" not in Ensemble(members, key).describe()["members"][0]


def test_the_vote_of_a_user_s_preset_is_that_of_the_checkpoint(
    members: list[Path], rows: Sequence[Utterance], tmp_path: Path
) -> None:
    found = load_checkpoint(members[0])
    recipe = {**found.header["recipe"], "emotion_share": 1.0, "preset": str(tmp_path / "gone.toml")}
    header = {**found.header, "recipe": recipe, "preset": {"angry": 1, "calm": 0}}
    save_checkpoint(tmp_path / "mine.safetensors", Checkpoint(found.tensors, header))
    outputs = Ensemble([tmp_path / "mine.safetensors"], data_key(split(rows, 1)[0]))(rows[0])
    expected = outputs.emotions[:, EMOTIONS.index("angry")] - outputs.emotions[:, EMOTIONS.index("calm")]
    assert torch.allclose(outputs.stress, expected, atol=1e-5)


def test_teacher_and_student_share_the_views(
    members: list[Path], rows: Sequence[Utterance], store: FeatureStore
) -> None:
    ensemble = Ensemble(members, data_key(split(rows, 1)[0]))
    clips = [torch.from_numpy(store[clip].copy()) for clip in (*rows, *rows)]  # more than one batch

    def made(seed: int) -> SharedViews:
        generator, augmenter = torch.Generator().manual_seed(seed), Augmenter(read_recipe("sser-cnn").augmentation)
        return make_views(
            lambda places: augmenter([clips[place] for place in places], generator),
            lambda places, windows: ensemble.predict_windows(windows), len(clips), 3, torch.device("cpu"), False,
        )  # fmt: skip

    views, again, other = made(1), made(1), made(2)
    assert torch.equal(views.windows, again.windows)
    assert not torch.equal(views.windows, other.windows)
    assert views.windows.shape[:2] == (3, 96)
    assert not torch.equal(views.windows[0], views.windows[1])
    places = torch.tensor([95, 0, 33, 0, 0, 0, 0, 0])
    windows, taught = views.draw(places, torch.Generator().manual_seed(0))
    assert len({tuple(window.flatten().tolist()) for window in windows[3:]}) > 1  # not always the same view
    expected = ensemble.predict_windows(windows)
    assert torch.allclose(taught.stress, expected.stress, atol=1e-4)
    assert torch.allclose(taught.emotions, expected.emotions, atol=1e-4)


class _Louder:
    """Stands in for the maker of new twins: a clip, 7 dB louder."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store

    def features(self, clip: Utterance, number: int) -> Any:
        return (self.store[clip].astype(np.float32) + 7.0).astype(np.float16)


def test_all_processes_make_the_same_views(
    members: list[Path], rows: Sequence[Utterance], store: FeatureStore, teacher: Path, toy_recipe: Path
) -> None:
    training, _ = split(rows, 1)
    lesson = open_lesson(teacher, training, data_key(training), TeacherInput.STUDENT)
    changes = [
        "distillation.teacher_hears=student", "distillation.views=2", "distillation.stress=1", "twins.count=0",
        "twins.fresh=0.5",
    ]  # fmt: skip
    plan = read_recipe(str(toy_recipe), changes)
    sources = AugmentationSources(fresh=_Louder(store))  # type: ignore[arg-type]
    made = []
    for world in (World(), World(0, 2), World(1, 2)):
        task = StudentTask(training, plan, store, sources, lesson, world, torch.device("cpu"))
        assert task.views is not None
        made.append(task.views.windows)
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


@pytest.mark.parametrize("change", ["distillation.teacher_hears=clean", "augmentation.mixup=0.2"])
def test_views_that_no_teacher_can_share_are_refused(toy_recipe: Path, change: str) -> None:
    shared = ["distillation.stress=1", "distillation.teacher_hears=student", "distillation.views=2"]
    read_recipe(str(toy_recipe), shared)
    with pytest.raises(SettingsError, match=r"distillation\.views needs"):
        read_recipe(str(toy_recipe), [*shared, change])


def test_several_teachers_are_the_mean_of_their_logits_and_all_their_features(
    rows: Sequence[Utterance], teacher: Path, members: list[Path], tmp_path: Path
) -> None:
    training = split(rows, 1)[0]
    key = data_key(training)
    make_ensemble(training, members[:1], tmp_path / "fold-1", quiet)
    folders = [teacher, tmp_path / "fold-1"]
    first, second = (open_lesson(folder, training, key, TeacherInput.CLEAN) for folder in folders)
    both = open_lessons(folders, training, key, TeacherInput.CLEAN)
    assert torch.allclose(both.outputs.stress, (first.outputs.stress + second.outputs.stress) / 2)
    assert torch.allclose(both.outputs.emotions, (first.outputs.emotions + second.outputs.emotions) / 2)
    assert torch.equal(both.outputs.features, torch.cat([first.outputs.features, second.outputs.features], dim=1))
    assert both.description == {"kind": "several", "members": [first.description, second.description]}
    assert open_lessons(folders[:1], training, key, TeacherInput.CLEAN).description == first.description


def test_teachers_that_hear_no_windows_are_asked_about_the_clean_clip(
    rows: Sequence[Utterance], store: FeatureStore, teacher: Path, members: list[Path], tmp_path: Path
) -> None:
    training = split(rows, 1)[0]
    key = data_key(training)
    make_ensemble(training, members[:1], tmp_path / "deaf" / "fold-1", quiet)
    deaf = tmp_path / "deaf" / "fold-1"
    for member in deaf.glob("member-*"):
        member.unlink()
    lesson = open_lessons([deaf, teacher], training, key, TeacherInput.STUDENT)
    places = torch.tensor([3, 0])
    windows = torch.stack([torch.from_numpy(crops(store[training[place]])[0]) for place in places])
    heard, clean = Ensemble(members, key).predict_windows(windows), read_outputs(deaf / OUTPUTS_FILE, training, key)[0]
    found = lesson.answers(places, windows)
    assert torch.allclose(found.stress, (heard.stress + clean.stress[places]) / 2, atol=1e-5)
    assert torch.allclose(found.emotions, (heard.emotions + clean.emotions[places]) / 2, atol=1e-5)
    assert torch.allclose(found.features, torch.cat([heard.features, clean.features[places]], dim=1), atol=1e-4)
    assert found.features.shape[1] == lesson.outputs.features.shape[1]
    with pytest.raises(UsageError, match="does not listen to log-mel windows"):
        open_lessons([deaf, deaf], training, key, TeacherInput.STUDENT)


def test_a_teacher_is_asked_once(rows: Sequence[Utterance], teacher: Path, members: list[Path]) -> None:
    training = split(rows, 1)[0]
    before = (teacher / OUTPUTS_FILE).stat().st_mtime_ns
    make_ensemble(training, members, teacher, quiet)
    assert (teacher / OUTPUTS_FILE).stat().st_mtime_ns == before
    with pytest.raises(TrainingError, match="another"):
        make_ensemble(training, members[:1], teacher, quiet)


def test_a_teacher_that_heard_the_test_speakers_is_refused(
    rows: Sequence[Utterance], teacher: Path, members: list[Path], tmp_path: Path
) -> None:
    other = split(rows, 2)[0]
    with pytest.raises(TrainingError, match="other recordings"):
        make_ensemble(other, members, tmp_path, quiet)
    with pytest.raises(TrainingError, match="test speakers"):
        open_lesson(teacher, other, data_key(other), TeacherInput.CLEAN)


def test_outputs_come_in_the_order_asked_for_and_a_damaged_file_is_named(
    rows: Sequence[Utterance], teacher: Path, tmp_path: Path
) -> None:
    training = split(rows, 1)[0]
    there, _ = read_outputs(teacher / OUTPUTS_FILE, training, data_key(training))
    back, _ = read_outputs(teacher / OUTPUTS_FILE, training[::-1], data_key(training))
    assert torch.equal(there.emotions.flip(0), back.emotions)
    assert there.emotions.shape == (len(training), len(EMOTIONS))
    data = (teacher / OUTPUTS_FILE).read_bytes()
    (tmp_path / OUTPUTS_FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(TrainingError, match=r"outputs\.safetensors.*train teacher"):
        open_lesson(tmp_path, training, data_key(training), TeacherInput.CLEAN)


def test_a_recipe_that_distils_asks_for_its_teacher_and_one_that_does_not_refuses_it(
    rows: Sequence[Utterance], store: FeatureStore, teacher: Path, toy_recipe: Path, tmp_path: Path
) -> None:
    training = split(rows, 1)[0]
    with pytest.raises(UsageError, match="--teacher"):
        fit(training, changed(toy_recipe, distillation={"emotion": 1.0}), store, tmp_path)
    lesson = open_lesson(teacher, training, data_key(training), TeacherInput.CLEAN)
    with pytest.raises(UsageError, match=r"no \[distillation\]"):
        fit(training, changed(toy_recipe), store, tmp_path, lesson=lesson)


def test_a_mixed_window_is_two_windows_and_is_asked_for_both_their_labels(
    rows: Sequence[Utterance], store: FeatureStore, toy_recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = split(rows, 1)[0]
    places = torch.tensor([0, 1, 2, 3])
    embedded: list[torch.Tensor] = []

    def losses(mixup: float) -> dict[str, float]:
        recipe = changed(toy_recipe, augmentation={"mixup": mixup}, student={"dropout": 0.0})
        torch.manual_seed(1)
        task = StudentTask(training, recipe, store, NO_AUGMENTATION_SOURCES, None, World(), torch.device("cpu"))
        embed = task.net.embed
        monkeypatch.setattr(task.net, "embed", lambda windows: embedded.append(windows) or embed(windows))
        parts = task.losses(places, torch.Generator().manual_seed(2))
        return {name: float(value.detach()) for name, value in parts.items()}

    assert read_recipe("sser-cnn").augmentation.mixup == 0.0
    losses(0.0)
    losses(1.0)
    alone, together = embedded
    share = ((together - alone.flip(0)) / (alone - alone.flip(0)))[0].median()
    assert 0.01 < float(share) < 0.99
    assert torch.allclose(together, share * alone + (1 - share) * alone.flip(0), atol=1e-3)
    assert blend({"a": torch.tensor(1.0)}, {"a": torch.tensor(3.0)}, 0.25)["a"] == 2.5
