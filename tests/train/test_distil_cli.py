"""Teachers and their students by the commands alone, and what bad input gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from components import require, require_transformers

from edge_sser.cli import main
from edge_sser.train.ablation import ROWS
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import read_table
from edge_sser.train.evaluate.predictions import read_origin, read_predictions
from edge_sser.train.fit.checkpoint import MODEL_FILE, Checkpoint, data_key, load_checkpoint, save_checkpoint
from edge_sser.train.teachers.ensemble import Ensemble
from edge_sser.train.teachers.outputs import OUTPUTS_FILE

try:
    import transformers
except ImportError:
    transformers = None
try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    EventAccumulator = None


def edge_sser(*arguments: str | Path, status: int = 0) -> None:
    assert main(["train", *map(str, arguments)]) == status


ONE_FOLD = ("--fold", "1", "--no-final", "--threads", "1")


@pytest.fixture(scope="module")
def runs(toy_table: Path, toy_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two students of fold 1 and the ensemble of them."""
    out = tmp_path_factory.mktemp("runs")
    members: list[str | Path] = []
    for seed in (1, 2):
        run = out / f"seed-{seed}"
        edge_sser(
            "fit", toy_table, "--recipe", toy_recipe, "--out", run, *ONE_FOLD, "--set", f"optimisation.seed={seed}",
            "--set", "optimisation.epochs=1",
        )  # fmt: skip
        members += ["--ensemble", run]
    edge_sser("teacher", toy_table, *members, "--out", out / "teacher", *ONE_FOLD)
    return out


def test_an_ensemble_teaches_a_student_and_its_checkpoint_says_so(
    runs: Path, toy_table: Path, toy_recipe: Path, tmp_path: Path
) -> None:
    require(EventAccumulator is not None, 'tensorboard not found: pip install "edge-sser[tensorboard]"')
    edge_sser(
        "fit", toy_table, "--recipe", toy_recipe, "--teacher", runs / "teacher", "--out", tmp_path, *ONE_FOLD,
        "--set", "distillation.emotion=1", "--set", "optimisation.epochs=2", "--set", "validation.share=0.2",
        "--tensorboard",
    )  # fmt: skip
    header = load_checkpoint(tmp_path / "fold-1" / "model.safetensors").header
    assert [member["name"] for member in header["teacher"]["members"]] == ["toy", "toy"]
    assert len({member["sha256"] for member in header["teacher"]["members"]}) == 2
    curves = EventAccumulator(str(tmp_path / "fold-1"))
    curves.Reload()
    for name, field in (("loss/taught emotion", "parts"), ("validation/auroc", "scores")):
        values = [epoch[field][name.split("/")[1]] for epoch in header["history"]]
        assert [event.value for event in curves.Scalars(name)] == pytest.approx(values)


def test_several_teachers_teach_together_and_the_checkpoint_names_them(
    runs: Path, toy_table: Path, toy_recipe: Path, tmp_path: Path
) -> None:
    edge_sser("teacher", toy_table, "--ensemble", runs / "seed-1", "--out", tmp_path / "other", *ONE_FOLD)
    edge_sser(
        "fit", toy_table, "--recipe", toy_recipe, "--teacher", runs / "teacher", "--teacher", tmp_path / "other",
        "--out", tmp_path / "run", *ONE_FOLD, "--set", "distillation.emotion=1", "--set", "optimisation.epochs=1",
    )  # fmt: skip
    description = load_checkpoint(tmp_path / "run" / "fold-1" / MODEL_FILE).header["teacher"]
    assert description["kind"] == "several"
    assert [len(member["members"]) for member in description["members"]] == [2, 1]


def test_a_recipe_that_distils_learns_from_labels_alone_without_a_teacher_and_says_so(
    toy_table: Path, toy_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edge_sser(
        "fit", toy_table, "--recipe", toy_recipe, "--out", tmp_path, *ONE_FOLD, "--set", "distillation.emotion=1",
        "--set", "optimisation.epochs=1",
    )  # fmt: skip
    assert f"no --teacher: {toy_recipe} learns from labels alone" in capsys.readouterr().err.splitlines()
    header = load_checkpoint(tmp_path / "fold-1" / MODEL_FILE).header
    assert header["recipe"]["distillation"] is None
    assert "teacher" not in header
    assert set(header["history"][0]["parts"]) == {"emotion", "stress", "intensity"}
    assert all(0.0 < share <= 1.0 for share in header["history"][-1]["right"].values())
    assert set(header["history"][-1]["right"]) == {"emotion", "stress"}


def test_what_each_fold_s_teacher_says_of_strangers_is_kept_as_predictions(
    runs: Path, toy_table: Path, tmp_path: Path
) -> None:
    path = tmp_path / "teacher.csv"
    edge_sser("teacher", toy_table, "--ensemble", runs / "seed-1", "--ensemble", runs / "seed-2", "--out",
              tmp_path / "teacher", "--fold", "1", "--threads", "1", "--no-final", "--predictions", path)  # fmt: skip
    found = read_predictions(path)
    utterances = read_table(toy_table)
    training, strangers = split(utterances, 1)
    assert [item.path for item in found] == ["/".join(Path(clip.path).parts[-2:]) for clip in strangers]
    assert {item.speaker for item in found}.isdisjoint({clip.speaker for clip in training})
    ensemble = Ensemble([runs / f"seed-{seed}" / "fold-1" / MODEL_FILE for seed in (1, 2)], data_key(training))
    for item, clip in zip(found, strangers, strict=True):
        output = ensemble(clip).mean()
        assert item.stress == pytest.approx(float(output.stress.sigmoid()), abs=1e-5)
        assert item.emotions == pytest.approx(output.emotions.softmax(dim=1)[0].tolist(), abs=1e-5)
    origin = read_origin(path)
    assert (origin.system, origin.trained_on) == ("teacher", ("ravdess",))
    edge_sser("evaluate", "--predictions", path)


def test_one_command_goes_from_an_encoder_to_its_student(
    toy_table: Path, toy_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_transformers()
    torch.manual_seed(0)
    configuration = transformers.HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=[8] * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    transformers.HubertModel(configuration).save_pretrained(tmp_path / "facebook" / "hubert-base-ls960")
    command = (
        "fit", toy_table, "--recipe", toy_recipe, "--teacher", "hubert-base", "--out", "run", *ONE_FOLD,
        "--set", "distillation.stress=1.0", "--set", "optimisation.epochs=1",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    edge_sser(*command)
    header = load_checkpoint(tmp_path / "run" / "fold-1" / "model.safetensors").header
    assert header["teacher"]["recipe"]["name"] == "hubert-base"
    outputs = tmp_path / "run" / "teacher" / "hubert-base" / "fold-1" / "outputs.safetensors"
    before = outputs.stat().st_mtime_ns
    edge_sser(*command)
    assert outputs.stat().st_mtime_ns == before


def test_the_ablation_trains_each_row_and_sets_them_beside_each_other(
    runs: Path, toy_table: Path, toy_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (
        "ablation", toy_table, "--recipe", toy_recipe, "--teacher", runs / "teacher", "--out", tmp_path, "--seeds", "2",
        "--fold", "1", "--threads", "1", "--set", "optimisation.epochs=1", "--set", "optimisation.clips_per_epoch=32",
        "--set", "distillation.emotion=1.0", "--set", "distillation.features=1.0",
    )  # fmt: skip
    edge_sser(*command)
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[2].strip() for row in rows] == list(ROWS)
    assert all(row[3].strip() == "2" and "+-" in row[4] for row in rows)
    parts = {
        name: set(load_checkpoint(tmp_path / name / "seed-2" / "fold-1" / MODEL_FILE).header["history"][0]["parts"])
        for name in ("labels", "labels-logits", "labels-logits-features", "labels-noise")
    }
    assert parts["labels"] == parts["labels-noise"] == {"emotion", "stress", "intensity"}
    assert parts["labels-logits"] - parts["labels"] == {"taught emotion"}
    assert parts["labels-logits-features"] - parts["labels-logits"] == {"features"}
    noise = {
        name: load_checkpoint(tmp_path / name / "seed-1" / "fold-1" / MODEL_FILE).header["recipe"]["augmentation"][
            "noise"
        ]
        for name in ("labels-logits-features", "labels-logits-features-noise")
    }
    assert noise["labels-logits-features"] == 0.0 < noise["labels-logits-features-noise"]
    before = (tmp_path / "labels" / "seed-1" / "fold-1" / MODEL_FILE).stat().st_mtime_ns
    edge_sser(*command)
    assert (tmp_path / "labels" / "seed-1" / "fold-1" / MODEL_FILE).stat().st_mtime_ns == before


def test_what_a_teacher_or_its_student_cannot_use_is_named_in_one_line(
    runs: Path, toy_table: Path, toy_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ("fit", toy_table, "--recipe", toy_recipe, "--out", tmp_path / "out", *ONE_FOLD)
    distil = ("--set", "distillation.emotion=1")
    hears = ("--set", "distillation.teacher_hears=student")
    good = runs / "seed-1" / "fold-1" / "model.safetensors"
    short = tmp_path / "short" / "fold-1" / "model.safetensors"
    short.parent.mkdir(parents=True)
    short.write_bytes(good.read_bytes()[:5000])
    other = tmp_path / "other" / "fold-1" / "model.safetensors"
    checkpoint = load_checkpoint(good)
    save_checkpoint(other, Checkpoint(checkpoint.tensors, {**checkpoint.header, "data": "of other speakers"}))
    cases = [
        ((*fit, *distil, *hears, "--teacher", "whisper-tiny", "--teacher", "hubert-base"), 2, "add --teacher"),
        ((*fit, "--teacher", runs / "teacher"), 2, "[distillation]"),
        ((*fit, *distil, "--teacher", tmp_path / "nothing"), 1, "train teacher"),
        ((*fit, "--set", "optimisation.epoch=1"), 2, "optimisation.epoch:"),
        ((*fit, "--set", "student.kind=column-cnn"), 2, "student.kind"),
        ((*fit, "--set", "student.kind=column-vit"), 2, "multiple of 8"),
        ((*fit, "--set", "seed"), 2, "KEY=VALUE"),
        ((*fit, "--set", "name.seed=1"), 2, "name is a value"),
        ((*fit, "--set", "optimisation.learning_rate=1e30", "--set", "optimisation.clip_gradient=1e30"), 1, "epoch"),
        (("teacher", toy_table, "--out", tmp_path / "t"), 2, "--ensemble RUN"),
        (("teacher", toy_table, "--ensemble", short.parents[1], "--out", tmp_path / "t", *ONE_FOLD), 1, "damaged"),
        (("teacher", toy_table, "--ensemble", other.parents[1], "--out", tmp_path / "t", *ONE_FOLD), 1, "other record"),
        (("teacher", toy_table, "--ensemble", runs / "seed-1", "--out", tmp_path / "t", "--fold", "2"), 1, "fold-2"),
        (("teacher", toy_table, "--recipe", "hubert-tiny", "--out", tmp_path / "t"), 2, "hubert-base"),
    ]  # fmt: skip
    for arguments, status, message in cases:
        capsys.readouterr()
        edge_sser(*arguments, status=status)
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edge-sser: error:")]
        assert len(lines) == 1
        assert message in lines[0]


def test_what_is_wrong_with_a_teacher_or_a_preset_is_told_before_anything_is_computed(
    runs: Path, toy_table: Path, toy_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    distil = ("--recipe", toy_recipe, "--out", out, "--threads", "1", "--set", "distillation.stress=1")
    first, other = ("--fold", "1", "--no-final"), ("--set", "preset=sssr")
    cases = [
        (("fit", toy_table, *distil, "--teacher", runs / "teacher"), 1, "fold-2"),  # it was made for the first alone
        (("fit", toy_table, *distil, "--teacher", runs / "teacher", *first, *other), 2,
         "train teacher --set preset=sssr"),
        (("fit", toy_table, *distil, "--teacher", runs / "teacher", "--set", "preset=quadrnt"), 2, "preset quadrnt"),
        (("ablation", toy_table, *distil, "--teacher", tmp_path / "typo"), 1, "typo"),
        (("ablation", toy_table, "--recipe", "sser-plus", "--out", out, "--teacher", runs / "teacher"), 2,
         "takes apart a recipe that distils: give --recipe sser-cnn"),
        (("ablation", toy_table, *distil, "--teacher", runs / "teacher", "--fold", "1", "--set", "preset=sssr"), 2,
         "train teacher --set preset=sssr"),
        (("teacher", toy_table, "--recipe", "hubert-base", "--set", "preset=quadrnt", "--out", out), 2, "quadrnt"),
        (("teacher", toy_table, "--recipe", "hubert-base", "--out", out, "--predictions", tmp_path), 1, "folder"),
    ]  # fmt: skip
    for arguments, status, message in cases:
        capsys.readouterr()
        edge_sser(*arguments, status=status)
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_an_ensemble_is_of_one_preset_and_its_predictions_say_which(
    runs: Path, toy_table: Path, toy_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text("[emotions]\nangry = 0\ncalm = 1\n", encoding="utf-8")
    run = tmp_path / "run"
    edge_sser(
        "fit", toy_table, "--recipe", toy_recipe, "--out", run, *ONE_FOLD, "--set", f"preset={mine}",
        "--set", "optimisation.epochs=1",
    )  # fmt: skip
    path = tmp_path / "teacher.csv"
    command = ("teacher", toy_table, "--out", tmp_path / "teacher", *ONE_FOLD, "--ensemble", run)
    edge_sser(*command, "--predictions", path)
    assert read_origin(path).preset == str(mine)
    members = load_checkpoint(tmp_path / "teacher" / "fold-1" / OUTPUTS_FILE).header["teacher"]["members"]
    assert (members[0]["preset"]["angry"], members[0]["preset"]["calm"]) == (0, 1)
    edge_sser(*command, "--ensemble", runs / "seed-1", status=2)
    assert "different presets" in capsys.readouterr().err
