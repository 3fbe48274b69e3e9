"""From a folder of recordings to a model file that a device runs, by the commands alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_sser.model.model import Model


def edge_sser(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_sser.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200", "EDGE_SSER_CONFIG": ""}
    environment.pop("EDGE_SSER_CONFIG")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def run(toy_corpus: Path, toy_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    edge_sser("train", "index", f"ravdess={toy_corpus}", "--out", out / "table.csv")
    edge_sser("train", "fit", out / "table.csv", "--recipe", toy_recipe, "--out", out / "toy", "--threads", "1")
    return out


def test_a_trained_model_goes_from_recordings_to_a_file_whose_card_has_its_scores(run: Path, toy_corpus: Path) -> None:
    done = edge_sser(
        "train", "evaluate", run / "toy", "--table", run / "table.csv",
        "--out", run / "toy.csv", "--json", run / "scores.json",
    )  # fmt: skip
    assert "| ravdess | 48 / 6 / 6 | toy |" in done.stdout
    scores = json.loads((run / "scores.json").read_text("utf-8"))["systems"]["toy"]["seeds"][0]
    assert scores["corpora"][0]["auroc"] > 0.9

    edge_sser("train", "baseline", run / "table.csv", "--out", run / "level-only.csv")
    both = edge_sser("train", "evaluate", "--predictions", run / "toy.csv", "--predictions", run / "level-only.csv")
    rows = [line for line in both.stdout.splitlines() if line.startswith("| ravdess")]
    assert rows[0] == next(line for line in done.stdout.splitlines() if line.startswith("| ravdess"))
    level = float(rows[1].split("|")[5].split()[0])
    assert level < 0.8  # the toy voices are equally loud

    checkpoint = run / "toy" / "final" / "model.safetensors"
    edge_sser(
        "export", checkpoint, "--out", run / "export", "--predictions", run / "toy.csv",
        "--predictions", run / "level-only.csv",
    )  # fmt: skip
    card = Model.load(run / "export" / "toy.onnx").card
    assert card.accuracy["toy"]["corpora"] == scores["corpora"]
    assert card.calibration.temperature == pytest.approx(scores["calibration"]["temperature"], rel=0.01)
    assert set(card.accuracy) == {"toy", "level-only"}


def test_turning_the_level_changes_no_score(run: Path) -> None:
    for gain in ("-12", "12"):
        done = edge_sser(
            "train", "evaluate", run / "toy", "--table", run / "table.csv", "--gain-db", gain,
            "--json", run / f"gain{gain}.json",
        )  # fmt: skip
        assert "ravdess" in done.stdout
    first, second = (
        json.loads((run / f"gain{gain}.json").read_text("utf-8"))["systems"]["toy"]["seeds"][0]
        for gain in ("-12", "12")
    )
    assert abs(first["corpora"][0]["auroc_pooled"] - second["corpora"][0]["auroc_pooled"]) <= 0.01


def test_a_finished_run_is_not_trained_again(run: Path, toy_recipe: Path) -> None:
    path = run / "toy" / "final" / "model.safetensors"
    before = path.stat().st_mtime_ns
    edge_sser("train", "fit", run / "table.csv", "--recipe", toy_recipe, "--out", run / "toy", "--threads", "1")
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("train", "index", "nowhere", "--out", "x.csv"), 1, "nowhere"),
        (("train", "fit", "nowhere.csv", "--out", "x"), 1, "nowhere.csv"),
        (
            ("train", "fit", "nowhere.csv", "--recipe", "nothing", "--out", "x"),
            2,
            "no recipe 'nothing': ones that ship",
        ),
        (("train", "evaluate"), 2, "--predictions"),
        (("train", "evaluate", "--predictions", "nowhere.csv"), 1, "nowhere.csv"),
        (("export", "nowhere.safetensors", "--out", "x"), 1, "nowhere.safetensors"),
    ],
)
def test_what_cannot_be_used_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], status: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = edge_sser(*arguments, status=status)
    assert done.stdout == ""
    assert message in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("edge-sser: error:")]) == 1


def test_what_goes_wrong_in_training_is_named_in_one_line(
    run: Path, toy_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = toy_recipe.read_text("utf-8")
    (tmp_path / "key.toml").write_text(text.replace("dropout", "dropuot"), encoding="utf-8")
    lines = (run / "table.csv").read_text("utf-8").splitlines()
    header = lines[0].split(",")
    values = dict(zip(header, lines[1].split(","), strict=True)) | {"fold": "6", "sha256": "other"}
    (tmp_path / "overlap.csv").write_text(
        "\n".join([*lines, ",".join(values[name] for name in header)]), encoding="utf-8"
    )
    model = (run / "toy" / "fold-1" / "model.safetensors").read_bytes()
    for name in ("cut/fold-1/last.safetensors", "cut/fold-2/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(model[: len(model) // 2])
    fit = ("train", "fit", run / "table.csv", "--cache", run / "toy" / "cache", "--no-final", "--threads", "1")
    for arguments, status, message in (
        ((*fit, "--recipe", "key.toml", "--out", "x"), 2, "recipe key.toml: student.dropuot: unknown key"),
        ((*fit, "--recipe", toy_recipe, "--set", "student.mood=1", "--out", "x"), 2, "student.mood"),
        (("train", "fit", "overlap.csv", "--recipe", toy_recipe, "--out", "x"), 1, "stands in fold"),
        ((*fit, "--recipe", toy_recipe, "--fold", "1", "--out", "cut"), 1, "last.safetensors: damaged"),
        ((*fit, "--recipe", toy_recipe, "--fold", "2", "--out", "cut"), 1, "model.safetensors: damaged"),
        (("train", "evaluate", "cut", "--table", run / "table.csv"), 1, "model.safetensors: damaged"),
        (
            (*fit, "--recipe", toy_recipe, "--fold", "1", "--out", "nan", "--set", "optimisation.learning_rate=1e30",
             "--set", "optimisation.warmup=0.0", "--set", "optimisation.clip_gradient=1e30"),
            1, "batch",
        ),
    ):  # fmt: skip
        done = edge_sser(*arguments, status=status)
        errors = [line for line in done.stderr.splitlines() if "edge-sser: error:" in line]
        assert len(errors) == 1, done.stderr
        assert message in errors[0]


def test_a_checkpoint_of_other_recordings_is_not_scored(run: Path, tmp_path: Path) -> None:
    lines = (run / "table.csv").read_text("utf-8").splitlines()
    (tmp_path / "fewer.csv").write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    done = edge_sser("train", "evaluate", run / "toy", "--table", tmp_path / "fewer.csv", status=1)
    assert "was trained on other recordings" in done.stderr
