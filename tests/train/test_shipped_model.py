"""The model that ships is what its card, the committed predictions and the documents say."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from edge_sser.export.tensorrt import check_tensorrt_graph
from edge_sser.model.model import Model
from edge_sser.model.shipped import DEFAULT, MODELS, SSER_CNN, ShippedModel, models_folder
from edge_sser.settings.schema import Runtime
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.affect import AROUSAL, VALENCE, fit_axis
from edge_sser.train.evaluate.operating_result import operating_points, summary
from edge_sser.train.evaluate.predictions import read_origin, read_predictions, write_origin, write_predictions
from edge_sser.train.evaluate.scores import evaluate, markdown_table
from edge_sser.train.fit.checkpoint import load_student
from edge_sser.train.recipe import read_recipe
from edge_sser.train.students.backend import emotion_vote
from edge_sser.train.students.yamnet import Yamnet

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
NAME = SSER_CNN.name
REPORTS = {"sser-cnn": "export-report", "sser-plus": "export-report-plus"}
POINTS = {"sser-cnn": "operating-points.json", "sser-plus": "operating-points-plus.json"}
each_model = pytest.mark.parametrize("shipped", MODELS.values(), ids=lambda shipped: shipped.name)


def files(shipped: ShippedModel) -> list[Path]:
    """All files of a model, as an export reports them."""
    return [*([shipped.fp32] if shipped.has_fp32 else []), shipped.int8, shipped.tensorrt]


def test_the_files_are_small() -> None:
    assert SSER_CNN.fp32.stat().st_size < 1_000_000
    assert DEFAULT.int8.stat().st_size < 6_000_000


def test_nothing_else_ships() -> None:
    found = {path for path in models_folder().iterdir() if ".onnx" in path.name}
    assert found == {path for model in MODELS.values() for path in files(model)}


@each_model
def test_the_files_that_ship_are_those_of_the_committed_export_report(shipped: ShippedModel) -> None:
    report = json.loads((RESULTS / f"{REPORTS[shipped.name]}.json").read_text("utf-8"))
    by_file = {item["file"]: item for item in report["artefacts"]}
    assert [*by_file] == [f"{shipped.name}.onnx", shipped.int8.name, shipped.tensorrt.name]
    for path in files(shipped):
        data, item = path.read_bytes(), by_file[path.name]
        assert (item["size_bytes"], item["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert by_file[shipped.int8.name]["size_bytes"] <= 0.32 * by_file[f"{shipped.name}.onnx"]["size_bytes"]


def test_the_checkpoint_of_the_report_is_the_committed_one() -> None:
    report = json.loads((RESULTS / "export-report.json").read_text("utf-8"))
    checkpoint = (RESULTS / f"{NAME}.safetensors").read_bytes()
    assert report["checkpoint"]["sha256"] == hashlib.sha256(checkpoint).hexdigest()


@each_model
def test_the_cards_of_the_files_agree_with_each_other_and_the_report(shipped: ShippedModel) -> None:
    report = json.loads((RESULTS / f"{REPORTS[shipped.name]}.json").read_text("utf-8"))
    fp32 = next(item for item in report["artefacts"] if item["made_for"] == "fp32")
    first = Model.load(shipped.int8).card
    for path, choice in zip((shipped.int8, shipped.tensorrt), report["quantisation"], strict=True):
        card = Model.load(path, runtime=Runtime.CPU).card
        assert (card.precision, card.parent_sha256) == ("int8", fp32["sha256"])
        assert (card.calibration, card.accuracy) == (first.calibration, first.accuracy)
        assert (card.speech_trust, card.emotion_vote) == (first.speech_trust, first.emotion_vote)
        assert card.operating_points == first.operating_points
        assert card.quantisation is not None
        assert card.quantisation["calibration"] == report["calibration"]
        assert card.quantisation["target"] == choice["target"]
        assert card.quantisation["float_nodes"] == choice["float_nodes"]
    check_tensorrt_graph(onnx.load(shipped.tensorrt))
    if shipped.has_fp32:
        model = Model.load(shipped.fp32)
        assert (model.card.precision, model.card.parent_sha256) == ("fp32", None)
        assert model.sha256 == fp32["sha256"]
        assert model.card.parity == pytest.approx(fp32["parity"], rel=1e-2)
        assert (model.card.calibration, model.card.accuracy) == (first.calibration, first.accuracy)
        assert model.card.operating_points == first.operating_points
        assert (model.card.speech_trust, model.card.emotion_vote) == (first.speech_trust, first.emotion_vote)


@each_model
def test_the_cards_operating_points_are_those_of_the_committed_result(shipped: ShippedModel) -> None:
    result = json.loads((RESULTS / POINTS[shipped.name]).read_text("utf-8"))
    points = Model.load(shipped.int8).card.operating_points
    assert points == operating_points(result)
    rows = [line for line in summary(result) if line.startswith("|")]
    assert len(rows) == 3 + len(points)
    if shipped is SSER_CNN:
        page = (RESULTS / "decision.md").read_text("utf-8")
        assert [row for row in rows if row not in page] == []


def test_the_results_quote_the_table_that_the_export_printed() -> None:
    table = (RESULTS / "export-report.md").read_text("utf-8").splitlines()
    rows = [line for line in table if line.startswith("|")]
    assert len(rows) > 10
    page = (RESULTS / "int8.md").read_text("utf-8")
    assert [row for row in rows if row not in page] == []


@each_model
def test_the_cards_figures_are_those_of_the_committed_predictions(shipped: ShippedModel) -> None:
    card = Model.load(shipped.int8).card
    for name in (shipped.name, "level-only"):
        assert card.accuracy[name] == evaluate(read_predictions(RESULTS / f"{name}.csv")).as_dict()
    found = evaluate(read_predictions(RESULTS / f"{shipped.name}.csv")).calibration
    assert card.calibration.temperature == pytest.approx(found.temperature, rel=1e-6)  # processors round differently
    assert card.calibration.bias == pytest.approx(found.bias, rel=1e-5)
    assert card.emotions == EMOTIONS


def test_the_results_quote_the_table_that_the_committed_predictions_give() -> None:
    """The page splits the printed table into two, so that its lines stay short; each cell is quoted as printed."""
    evaluations = {name: evaluate(read_predictions(RESULTS / f"{name}.csv")) for name in (NAME, "level-only")}
    page = (RESULTS / "model.md").read_text("utf-8")
    printed = markdown_table(evaluations).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed if line.startswith("| ")]
    assert rows[0][:3] == ["corpus", "clips / speakers / folds", "system"]
    for corpus, counts, system, *scores in rows:
        assert "| " + " | ".join([corpus, system, *scores[:3]]) + " |" in page
        assert "| " + " | ".join([corpus, system, counts, *scores[3:]]) + " |" in page
    notes = [line for line in printed if line and not line.startswith("|")]
    assert [note for note in notes if note not in " ".join(page.split())] == []


def test_the_readme_quotes_the_areas_that_the_committed_predictions_give() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    titles = {"ravdess": "RAVDESS", "nemo": "nEMO", "indian-emospeech": "Indian EmoSpeech"}
    evaluations = {
        name: evaluate(read_predictions(RESULTS / f"{name}.csv")) for name in ("sser-plus", NAME, "level-only")
    }
    printed = {}
    for line in markdown_table(evaluations).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in titles:
            printed[cells[0], cells[2]] = cells[4].partition(" ")[0].lstrip("0")
    for corpus, title in titles.items():
        (row,) = [line for line in readme.splitlines() if line.startswith(f"| {title} | ")]
        areas = [printed[corpus, name] for name in evaluations]
        assert row.endswith(f"| {' | '.join(areas)} |")


def test_no_speaker_stands_in_two_folds_and_all_corpora_are_there() -> None:
    predictions = read_predictions(RESULTS / f"{NAME}.csv")  # refuses a speaker in two folds
    assert {item.corpus for item in predictions} == {"indian-emospeech", "librispeech", "nemo", "ravdess"}
    for item in predictions:
        assert sum(item.emotions) == pytest.approx(1.0, abs=1e-4)


def test_the_defaults_card_names_its_trunk_and_its_vote() -> None:
    card = Model.load(runtime=Runtime.CPU).card
    assert (card.name, card.precision) == ("sser-plus", "int8")
    assert "whisper-tiny" in card.architecture
    assert "beside sser-cnn (" in card.architecture
    assert "and sser-yamnet (" in card.architecture
    assert "MIT" in card.licence
    assert "Apache 2.0 (YAMNet" in card.licence
    assert card.emotion_vote == emotion_vote(read_recipe("sser-plus"))


def test_the_defaults_predictions_are_the_mean_logits_of_its_networks(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "average_predictions.py"
    names = ("whisper-trunk", "whisper-trunk", "sser-cnn", "sser-yamnet")
    members = [RESULTS / f"{name}.csv" for name in names]
    subprocess.run([sys.executable, script, "sser-plus", tmp_path / "sser-plus.csv", *members], check=True, timeout=120)
    assert (tmp_path / "sser-plus.csv").read_bytes() == (RESULTS / "sser-plus.csv").read_bytes()


@pytest.mark.parametrize("difference", ["folds", "preset", "vote"])
def test_predictions_of_other_folds_or_presets_or_with_a_vote_are_not_averaged(tmp_path: Path, difference: str) -> None:
    own = RESULTS / "sser-cnn.csv"
    rows, origin = read_predictions(own), read_origin(own)
    other = tmp_path / "other.csv"
    if difference == "folds":
        write_predictions(other, [replace(row, fold=row.fold % 5 + 1) for row in rows])
        write_origin(other, origin)
    else:
        change = {"preset": "sssr"} if difference == "preset" else {"emotion_share": 0.5}
        write_predictions(other, rows)
        write_origin(other, replace(origin, **change))
    script = ROOT / "scripts" / "average_predictions.py"
    ended = subprocess.run(
        [sys.executable, script, "sser-plus", tmp_path / "out.csv", own, other],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {other} ")
    assert difference in ended.stderr
    assert not (tmp_path / "out.csv").exists()


def test_the_checkpoint_of_sser_yamnet_is_of_the_recipe_that_ships() -> None:
    student, recipe, header = load_student(RESULTS / "sser-yamnet.safetensors")
    assert recipe == read_recipe("sser-yamnet")
    assert isinstance(student, Yamnet)
    assert {corpus["name"] for corpus in header["corpora"]} == {"indian-emospeech", "librispeech", "nemo", "ravdess"}


def test_the_licence_of_the_frozen_layers_lies_beside_the_model() -> None:
    text = (models_folder() / "sser-plus.LICENSE").read_text("utf-8")
    assert "Copyright (c) 2022 OpenAI" in text
    assert "Copyright The TensorFlow Authors" in text


def test_the_table_of_the_emotions_vote_is_what_its_script_prints() -> None:
    script = ROOT / "scripts" / "vote_shares.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=120).stdout
    page = (RESULTS / "plus.md").read_text("utf-8").replace("**", "").replace("| .", "| 0.")
    rows = [line.removeprefix("| sser-plus ") for line in printed.splitlines() if line.startswith("| sser-plus ")]
    assert len(rows) == 5
    assert [row for row in rows if row not in page] == []


@each_model
def test_arousal_and_valence_of_the_card_are_those_of_the_committed_predictions(shipped: ShippedModel) -> None:
    predictions = read_predictions(RESULTS / f"{shipped.name}.csv")
    expected = {"arousal": fit_axis(predictions, AROUSAL), "valence": fit_axis(predictions, VALENCE)}
    for path in files(shipped):
        card = Model.load(path, runtime=Runtime.CPU).card
        for name, axis in expected.items():
            found = getattr(card, name)
            assert (found.high, found.low) == (axis.high, axis.low)
            assert found.calibration.temperature == pytest.approx(axis.calibration.temperature, rel=1e-4)
            assert found.calibration.bias == pytest.approx(axis.calibration.bias, abs=1e-4)


def test_the_tables_of_groups_are_what_their_script_prints_and_the_readme_agrees() -> None:
    script = ROOT / "scripts" / "group_figures.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=120).stdout
    rows = [line for line in printed.splitlines() if line]
    page = (RESULTS / "groups.md").read_text("utf-8")
    sexes_rows, called_rows, axes_rows, (together,) = rows[:7], rows[7:17], rows[17:27], rows[27:]
    assert len(axes_rows) == 10
    assert [row for row in rows if row not in page] == []
    assert f"{together.split('sser-plus ')[1][:4]} over the three." in (RESULTS / "plus.md").read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    (sexes,) = [row for row in sexes_rows if row.startswith("| sser-plus | ")]
    women, men = (float(value) for value in sexes.split(" | ")[1].split(", "))
    assert f"({men:.0f} against {women:.0f} % of emotions right on RAVDESS)" in readme
    lively = sorted(int(row.split(" | ")[2]) for row in called_rows if "| sser-plus | " in row)
    assert f"{lively[0]} to {lively[-1]} % of happy and surprised clips are called stressed" in readme
