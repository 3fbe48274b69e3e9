"""Reference systems: their networks, protocols, result files and what refuses to run."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from components import require_package
from torch import nn

from edge_sser.errors import MissingComponentError, SettingsError, SinkError, TrainingError, UsageError
from edge_sser.train.corpora.table import Utterance, read_table, write_table
from edge_sser.train.evaluate.predictions import read_origin, read_predictions
from edge_sser.train.references.cost import measure_cost, operations
from edge_sser.train.references.front_ends import Mfcc, TwinMaker
from edge_sser.train.references.protocols import honest_split, original_splits
from edge_sser.train.references.recipe import ReferenceRecipe, read_reference_recipe, reference_names
from edge_sser.train.references.registry import SYSTEMS, make
from edge_sser.train.references.result_files import Kind, read_groups
from edge_sser.train.references.run import ReferenceRequest, run, stress_probability
from edge_sser.train.references.system import Clip
from edge_sser.train.references.torch_system import TorchSystem, Training, Windows
from edge_sser.train.students.references import mfcc

require_package("librosa", "references")
require_package("audiomentations", "references")
FAMILY = ("cnn1d-mfcc", "cnn2d-mfcc", "rnn-mfcc", "transformer-mfcc", "lstm-mean-mfcc")
QUICK = ("settings.training.epochs=6", "settings.training.learning_rate=3e-3", "settings.training.batch=8")


def parameters(net: nn.Module) -> int:
    return sum(value.numel() for value in net.parameters())


def request(table: Path, out: Path, **changes: object) -> ReferenceRequest:
    values = {"name": "cnn1d-mfcc", "table": table, "out": out, "changes": QUICK, "folds": (1, 2), **changes}
    return ReferenceRequest(**values)  # type: ignore[arg-type]


def trained(wanted: ReferenceRequest) -> tuple[list[str], list[str]]:
    log: list[str] = []
    lines: list[str] = []
    run(wanted, log.append, lines.append)
    return log, lines


@pytest.fixture(scope="module")
def result(toy_table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("references")
    return out, trained(request(toy_table, out))[1]


# Networks


@pytest.mark.parametrize(
    ("net", "published"),
    [
        (mfcc.MfccCnn1d(outputs=1), 77_633),  # stress alone
        (mfcc.MfccCnn2d(outputs=2), 222_722),  # stress and its opposite
        (mfcc.MfccRnn(outputs=1), 48_681),
        (mfcc.MeanMfccLstm(outputs=8), 71_780),
    ],
)
def test_a_network_has_the_published_number_of_parameters(net: nn.Module, published: int) -> None:
    assert parameters(net) == published


@pytest.mark.parametrize("name", FAMILY)
def test_a_system_gives_probabilities_after_an_epoch_and_knows_its_cost(name: str) -> None:
    recipe = read_reference_recipe(name, ["settings.training.epochs=1", "settings.training.batch=2"])
    system = make(recipe.system, recipe.settings, seed=1)
    random = np.random.default_rng(0)
    clips = [Clip(random.normal(size=n).astype(np.float32), n % 8) for n in (9_001, 40_002, 50_003)]
    epochs: list[object] = []
    system.fit(clips, clips[:1], epochs.append)
    found = system.probabilities([clip.samples for clip in clips])
    assert found.shape == (3, 8)
    assert found.sum(axis=1) == pytest.approx(np.ones(3))
    assert len(epochs) == 1
    facts = measure_cost(system)
    assert facts["parameters"] == system.parameters > 0
    assert min(facts["mflops"], facts["cpu_ms"], facts["front_end_ms"]) > 0


def test_operations_of_convolutions_are_two_for_each_product() -> None:
    frames = 126
    products = 16 * 64 * 3 * (frames - 2) + 64 * 128 * 3 * (frames - 4) + 128 * 128 * 3 * (frames - 6) + 128 * 8
    assert operations(mfcc.MfccCnn1d().eval(), torch.zeros(1, 16, frames)) == 2 * products


def test_operations_of_fused_layers_are_counted() -> None:
    sound = torch.zeros(1, 16, 126)
    recurrent = 2 * 126 * (4 * 40 * (16 + 40) + 3 * 4 * 40 * 80) + 2 * 40 * 8
    assert operations(mfcc.MfccRnn().eval(), sound) == recurrent
    dense = 2 * 126 * 4 * (4 * 16 * 16 + 2 * 16 * 512)  # of the four layers, without the products of attention
    assert dense < operations(mfcc.MfccTransformer().eval(), sound) < 1.5 * dense


# Front ends and windows


def test_mfcc_has_frames_or_means_and_takes_sound_shorter_than_a_frame() -> None:
    sound = np.random.default_rng(0).normal(size=32_000).astype(np.float32)
    frames = Mfcc(16, 1024, 256)(sound)
    assert frames.shape == (16, 126)
    assert Mfcc(16, 1024, 256, mean=True)(sound) == pytest.approx(frames.mean(dim=1), abs=1e-3)
    assert torch.isfinite(Mfcc(16, 1024, 256)(sound[:500])).all()


def test_windows_cover_a_clip_and_fill_a_short_one() -> None:
    clip = np.arange(1, 40_001, dtype=np.float32)
    cuts = Windows(seconds=1.0, hop_seconds=0.5).cut(clip)
    assert [int(cut[0]) for cut in cuts] == [1, 8_001, 16_001, 24_001]
    assert {cut.size for cut in cuts} == {16_000}
    assert [int(cut[0]) for cut in Windows(seconds=1.0).cut(clip)] == [1]
    short = clip[:10_000]
    assert Windows(seconds=1.0).cut(short)[0][10_000:].tolist() == short[:6_000].tolist()
    assert Windows(seconds=1.0, fill="zeros").cut(short)[0][10_000:].any() == np.False_


@pytest.mark.parametrize("kind", ["noise", "shift", "pitch", "stretch", "volume"])
def test_a_twin_differs_from_its_clip_and_is_the_same_again(kind: str) -> None:
    clip = np.sin(np.arange(16_000) / 9.0).astype(np.float32) * 0.1
    one, again = (TwinMaker([kind], seed=3)(clip, 1) for _ in range(2))
    assert one.tolist() == again.tolist()
    assert one.shape != clip.shape or np.abs(one - clip).max() > 1e-3


# Training


class Constant(nn.Module):
    """Logits that do not depend on the input, so that every epoch changes the weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(8))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(inputs), 8)


def test_training_stops_early_and_keeps_the_best_epoch() -> None:
    settings = Training(epochs=50, patience=3, learning_rate=0.5, batch=4, precision="float32")
    system = TorchSystem(torch.from_numpy, Constant, settings, seed=1)
    sounds = [np.full(4, n, dtype=np.float32) for n in range(8)]
    training = [Clip(sound, 0) for sound in sounds]
    validation = [Clip(sounds[0], 0), Clip(sounds[1], 1)]  # more certain of 0 is worse for one of them
    losses: list[float] = []
    system.fit(training, validation, lambda figures: losses.append(figures["validation_loss"]))
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3
    kept = system.probabilities([sounds[0], sounds[1]])
    assert -np.log([kept[0, 0], kept[1, 1]]).mean() == pytest.approx(losses[best], abs=1e-4)


def test_the_inputs_of_validation_clips_are_gathered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    system = TorchSystem(torch.from_numpy, Constant, Training(epochs=5, batch=2), seed=1)
    sounds = [np.full(4, n, dtype=np.float32) for n in range(3)]
    asked: list[float] = []
    inputs = system.inputs
    monkeypatch.setattr(system, "inputs", lambda samples: asked.append(float(samples[0])) or inputs(samples))
    system.fit([Clip(sound, 0) for sound in sounds[:2]], [Clip(sounds[2], 0)], lambda figures: None)
    assert asked == [0.0, 1.0, 2.0]


def test_the_learning_rate_falls_in_steps() -> None:
    settings = Training(optimiser="sgd", momentum=0.0, epochs=4, step_epochs=1, step_factor=0.1, batch=2)
    moved: list[float] = []
    system = TorchSystem(torch.from_numpy, Constant, settings, seed=1)
    clips = [Clip(np.zeros(2, dtype=np.float32), 0)] * 2

    def report(figures: object) -> None:
        moved.append(float(system.net.get_parameter("logits").detach()[0]))

    system.fit(clips, [], report)
    steps = np.diff([0.0, *moved])
    assert steps[1:] / steps[:-1] == pytest.approx(np.full(3, 0.1), rel=0.05)


def test_a_doubled_softmax_can_be_had_and_is_no_default() -> None:
    inputs, labels = torch.zeros(2, 2), torch.tensor([0, 1])
    for doubled in (True, False):
        system = TorchSystem(torch.from_numpy, Constant, Training(doubled_softmax=doubled), seed=1)
        system.net.get_parameter("logits").data[0] = 9.0
        logits = system.net(inputs)
        given = logits.softmax(dim=1) if doubled else logits
        assert system.loss(inputs, labels).item() == pytest.approx(nn.functional.cross_entropy(given, labels).item())
    assert not Training().doubled_softmax


def test_an_unusable_learning_rate_is_one_line() -> None:
    settings = Training(optimiser="sgd", learning_rate=3e38, epochs=20, batch=2, precision="float32")
    system = TorchSystem(torch.from_numpy, Constant, settings, seed=1)
    clips = [Clip(np.zeros(2, dtype=np.float32), label) for label in (0, 1)] * 2
    with pytest.raises(TrainingError, match="learning_rate"):
        system.fit(clips, [], lambda figures: None)


# Protocols


@pytest.fixture
def recipe() -> ReferenceRecipe:
    return read_reference_recipe("cnn1d-mfcc", ['twins.kinds=["noise"]', "twins.count=2"])


@pytest.fixture
def utterances(toy_table: Path) -> list[Utterance]:
    return list(read_table(toy_table))


def test_honest_folds_share_no_voice_and_twins_are_learned_from_alone(
    utterances: list[Utterance], recipe: ReferenceRecipe
) -> None:
    splits = [honest_split(utterances, recipe, fold) for fold in (1, 2, 3, 4, 5, 6, None)]
    assert [split.fold for split in splits] == [1, 2, 3, 4, 5, 6, 0]
    assert not splits[-1].test
    for split in splits:
        sides = (split.training, split.validation, split.test)
        voices = [{utterances[item.place].voice for item in items} for items in sides]
        assert not voices[0] & voices[1]
        assert not (voices[0] | voices[1]) & voices[2]
        assert {item.twin for item in split.training} == {0, 1, 2}
        assert not any(item.twin for item in (*split.validation, *split.test))
    tested = [item.place for split in splits for item in split.test]
    assert sorted(tested) == list(range(len(utterances)))


def test_the_protocol_of_a_study_shares_voices_and_twins(utterances: list[Utterance], recipe: ReferenceRecipe) -> None:
    leaky = recipe.original.model_copy(update={"twins": True, "split": "folds", "folds": 3, "validation_share": 0.1})
    splits = original_splits(utterances, recipe.model_copy(update={"original": leaky}), None, seed=1)
    tested = [item for split in splits for item in split.test]
    assert len(set(tested)) == len(tested) == 3 * len(utterances)
    for split in splits:
        assert not {*split.training, *split.validation} & set(split.test)
        assert {item.place for item in split.training} & {item.place for item in split.test}
        assert {utterances[item.place].voice for item in split.training} >= {
            utterances[item.place].voice for item in split.test
        }
        assert split.validation


def test_a_random_split_without_twins_before_it_tests_clips_alone(
    utterances: list[Utterance], recipe: ReferenceRecipe
) -> None:
    (split,) = original_splits(utterances, recipe, None, seed=1)
    assert len(split.test) == round(recipe.original.test_share * len(utterances))
    assert not any(item.twin for item in split.test)
    assert not {item.place for item in split.training} & {item.place for item in split.test}
    assert original_splits(utterances, recipe, None, seed=1) == [split]
    with pytest.raises(UsageError, match="--fold 2"):
        original_splits(utterances, recipe, [2], seed=1)


def test_a_recipe_of_the_user_is_a_reference_beside_ours(toy_table: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    recipes = resources.files("edge_sser.train") / "recipes" / "references"
    own.write_text((recipes / "lstm-mean-mfcc.toml").read_text("utf-8"), "utf-8")
    out = tmp_path / "out"
    trained(request(toy_table, out, name=str(own), folds=(1,), changes=("settings.training.epochs=1",)))
    trained(request(toy_table, out, name=str(own), folds=(1,), changes=("settings.training.epochs=1",), original=True))
    (group,) = read_groups([out])
    assert (group.name, group.kind, len(group.honest)) == ("mine", Kind.REFERENCE, 1)
    assert group.original is not None


def test_a_class_that_nobody_learns_is_named(utterances: list[Utterance], recipe: ReferenceRecipe) -> None:
    odd = [replace(clip, emotion="disgust") if clip.fold == 2 else clip for clip in utterances]
    with pytest.raises(TrainingError, match=r"fold 2: it has clips that are disgust.*--drop emotion=disgust"):
        honest_split(odd, recipe, 2)
    assert all(honest_split(odd, recipe, fold).test for fold in (1, 3))
    calm = [replace(clip, emotion="calm") for clip in utterances]
    with pytest.raises(TrainingError, match="fold 1: its training side has the emotion calm alone"):
        honest_split(calm, recipe, 1)


# Runs


def test_a_run_writes_predictions_facts_and_curves(result: tuple[Path, list[str]]) -> None:
    out, lines = result
    found = read_predictions(out / "cnn1d-mfcc.csv")
    assert {item.fold for item in found} == {1, 2}
    assert len(found) == 16
    origin = read_origin(out / "cnn1d-mfcc.csv")
    assert (origin.system, origin.seed, origin.trained_on, origin.heard) == ("cnn1d-mfcc", 1, ("ravdess",), ())
    history = json.loads((out / "cnn1d-mfcc.history.json").read_text("utf-8"))
    assert [len(history[fold]) for fold in ("1", "2")] == [6, 6]
    assert set(history["1"][0]) == {"loss", "ua", "validation_loss"}
    facts = json.loads((out / "cnn1d-mfcc.facts.json").read_text("utf-8"))
    assert facts["parameters"] == 78_536
    assert "settings.training.epochs=6" in facts["note"]
    row = lines[-1].split("|")
    assert row[1].strip() == "ravdess"
    assert float(row[-2]) > 0.8  # voices that are higher and faster when agitated


def test_a_corpus_without_emotions_is_predicted_but_is_none_that_was_trained_on(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    first = utterances[0].voice
    judged = [
        replace(clip, corpus="judged", emotion="", stress=0.0, sha256=f"{clip.sha256} judged") for clip in utterances
        if clip.voice == first
    ]  # fmt: skip
    rest = [clip for clip in utterances if clip.voice != first]
    write_table(tmp_path / "table.csv", [*rest, *judged])
    trained(request(tmp_path / "table.csv", tmp_path, folds=(), changes=("settings.training.epochs=1",)))
    assert {item.corpus for item in read_predictions(tmp_path / "cnn1d-mfcc.csv")} == {"judged", "ravdess"}
    assert read_origin(tmp_path / "cnn1d-mfcc.csv").trained_on == ("ravdess",)


def test_a_finished_fold_is_kept_and_another_run_is_not_overwritten(
    result: tuple[Path, list[str]], toy_table: Path
) -> None:
    out, lines = result
    before = (out / "cnn1d-mfcc.csv").read_bytes()
    log, again = trained(request(toy_table, out))
    assert log == []
    assert again == lines
    log, _ = trained(request(toy_table, out, folds=(1, 2, 3)))
    assert len(log) == 1
    assert "fold 3 (1 of 1)" in log[0]
    after = (out / "cnn1d-mfcc.csv").read_bytes()
    assert set(before.splitlines()) < set(after.splitlines())
    with pytest.raises(TrainingError, match=r"another recipe, seed or table.*--out"):
        trained(request(toy_table, out, seed=2))


def test_the_protocol_of_a_study_stands_beside_and_says_that_voices_were_heard(toy_table: Path, tmp_path: Path) -> None:
    trained(request(toy_table, tmp_path, original=True, folds=()))
    found = read_predictions(tmp_path / "cnn1d-mfcc.original.csv")
    assert {item.fold for item in found} == {0}
    assert read_origin(tmp_path / "cnn1d-mfcc.original.csv").heard == ("ravdess",)


def test_the_facts_are_of_the_run_on_all_corpora_in_whatever_order(toy_table: Path, tmp_path: Path) -> None:
    def note(number: int, **options: object) -> str:
        changes = (f"settings.training.epochs={number}",)
        trained(request(toy_table, tmp_path, folds=(1,), changes=changes, **options))
        return str(json.loads((tmp_path / "cnn1d-mfcc.facts.json").read_text("utf-8"))["note"])

    assert note(1, corpora=("ravdess",)).endswith("epochs=1")
    assert note(2).endswith("epochs=2")
    assert note(3, original=True).endswith("epochs=2")


def test_a_corpus_of_one_speaker_has_no_honest_fold_but_the_protocol_of_a_study(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    first = utterances[0].voice
    write_table(tmp_path / "one.csv", [clip for clip in utterances if clip.voice == first])
    with pytest.raises(UsageError, match=r"nobody would be left.*--original-protocol"):
        trained(request(tmp_path / "one.csv", tmp_path, folds=()))
    changes = (*QUICK, "settings.training.epochs=1", "original.test_share=0.5")
    _, lines = trained(request(tmp_path / "one.csv", tmp_path, original=True, folds=(), changes=changes))
    assert "ravdess | 4 / 1" in lines[-1]


def test_a_table_of_strangers_is_predicted_by_a_training_on_all_and_not_mixed_with_another(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    voices = sorted({clip.voice for clip in utterances})
    for number, voice in enumerate(voices[:2]):
        write_table(tmp_path / f"{number}.csv", [clip for clip in utterances if clip.voice == voice])
    write_table(tmp_path / "rest.csv", [clip for clip in utterances if clip.voice not in voices[:2]])
    fold = min(clip.fold for clip in utterances if clip.voice not in voices[:2])
    options = {"folds": (fold,), "changes": ("settings.training.epochs=1",)}
    trained(request(tmp_path / "rest.csv", tmp_path, test=tmp_path / "0.csv", **options))
    found = read_predictions(tmp_path / "cnn1d-mfcc.csv")
    assert {item.speaker for item in found if item.fold == 0} == {voices[0].partition("/")[2]}
    assert {item.fold for item in found} == {0, fold}
    log, _ = trained(request(tmp_path / "rest.csv", tmp_path, test=tmp_path / "0.csv", **options))
    assert log == []
    with pytest.raises(TrainingError, match="predictions of another --test"):
        trained(request(tmp_path / "rest.csv", tmp_path, test=tmp_path / "1.csv", **options))
    with pytest.raises(TrainingError, match="stands in fold"):
        trained(request(tmp_path / "rest.csv", tmp_path / "x", test=tmp_path / "rest.csv", **options))


def test_a_clip_shorter_than_a_frame_is_named(utterances: list[Utterance], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "click.wav", np.zeros(300), 16_000)
    short = replace(utterances[0], path=str(tmp_path / "click.wav"), sha256="click", fingerprint=b"")
    write_table(tmp_path / "table.csv", [*utterances[1:], short])
    with pytest.raises(TrainingError, match=r"click.wav: 18.8 ms, shorter than a frame.*--drop"):
        trained(request(tmp_path / "table.csv", tmp_path, folds=()))


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real: Callable[[str], object] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else real(name))


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without("librosa", monkeypatch)
    with pytest.raises(MissingComponentError, match=r"librosa: pip install .edge-sser\[references\]"):
        make("mfcc", read_reference_recipe("cnn1d-mfcc").settings, 1)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"corpora": ("tess",)}, UsageError, "--corpus tess: the table has ravdess.*train index tess=FOLDER"),
        ({"folds": (9,)}, UsageError, "--fold 9: the table has the folds 1, 2"),
        ({"name": "cnn3d"}, SettingsError, "no recipe 'cnn3d': ones that ship: cnn1d-mfcc"),
        ({"changes": ("settings.mood=1",)}, SettingsError, "settings.mood: unknown key"),
        ({"changes": ("system=magic",)}, SettingsError, "system magic: there is none of that name.*mfcc"),
        ({"changes": ("original.twins=true",)}, SettingsError, r"original.twins.*\[twins\]"),
    ],
)
def test_what_cannot_be_run_is_one_line_with_a_remedy(
    toy_table: Path, tmp_path: Path, changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        trained(request(toy_table, tmp_path, **changes))


def test_a_place_that_cannot_be_written_is_refused_before_training(toy_table: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for changes in ({"out": tmp_path / "file"}, {"onnx": tmp_path / "file" / "net.onnx"}):
        with pytest.raises(SinkError, match="cannot be written"):
            trained(request(toy_table, **{"out": tmp_path, **changes}))
    assert not list(tmp_path.glob("*.csv"))


def test_damaged_results_are_named(toy_table: Path, tmp_path: Path) -> None:
    (tmp_path / "cnn1d-mfcc.run.json").write_text("{", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"results are damaged.*remove cnn1d-mfcc\.\*"):
        trained(request(toy_table, tmp_path))


def test_stress_is_the_share_of_what_the_preset_maps() -> None:
    emotions = np.array([[0.1, 0.1, 0.1, 0.1, 0.2, 0.1, 0.2, 0.1], [0, 0, 0, 0, 0, 0, 1.0, 0]])
    assert stress_probability(emotions) == pytest.approx([0.3 / 0.8, 0.0])  # disgust is left out


def test_every_recipe_that_ships_names_a_system() -> None:
    assert set(FAMILY) <= set(reference_names())
    for name in reference_names():
        recipe = read_reference_recipe(name)
        assert recipe.name == name
        assert recipe.system in SYSTEMS


def test_the_network_as_onnx_computes_the_same_and_a_device_refuses_it_with_the_reason(
    toy_table: Path, tmp_path: Path
) -> None:
    onnxruntime = require_package("onnxruntime", "export")
    require_package("onnx", "export")
    from test_train_cli import edge_sser

    file = tmp_path / "cnn1d.onnx"
    trained(request(toy_table, tmp_path, folds=(1,), changes=("settings.training.epochs=1",), onnx=file))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    stress, emotions = session.run(None, {"reference_features": np.zeros((3, 16, 126), np.float32)})
    assert (stress.shape, emotions.shape) == ((3,), (3, 8))
    done = edge_sser("analyze", tmp_path / "none.wav", "--model", file, status=1)
    (line,) = done.stderr.splitlines()
    assert "reference-cnn1d-mfcc (1-D CNN over 16 MFCC of 2 s) is a reference system" in line
    assert "features this device does not compute" in line


def test_the_command_lists_trains_and_prints(toy_table: Path, tmp_path: Path) -> None:
    from test_train_cli import edge_sser

    listed = edge_sser("train", "reference", "--list")
    assert "cnn1d-mfcc: 1-D CNN over 16 MFCC of 2 s" in listed.stdout
    missing = edge_sser("train", "reference", "cnn1d-mfcc", status=2)
    assert "--table FILE is missing" in missing.stderr
    done = edge_sser(
        "train", "reference", "lstm-mean-mfcc", "--table", toy_table, "--out", tmp_path, "--corpus", "ravdess",
        "--fold", "1", "--set", "settings.training.epochs=2",
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == "| corpus | clips / folds | UA % | WA % | macro F1 % | stress AUROC |"
    with (tmp_path / "lstm-mean-mfcc.ravdess.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 8
