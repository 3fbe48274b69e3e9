"""The page and the figures, from committed predictions and from audio, by the command."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import soundfile
from pitch_model import write_pitch_model
from untrained_run import write_run
from voices import RATE, voice

from edge_sser.errors import TrainingError
from edge_sser.files import write_file
from edge_sser.train.corpora.table import Utterance, read_table, write_table
from edge_sser.train.evaluate.models import History, open_models
from edge_sser.train.evaluate.predictions import Origin, Prediction, read_origin, read_predictions, write_predictions
from edge_sser.train.evaluate.systems import group_systems, matrix, score, score_majority
from edge_sser.train.report.notes import notes
from edge_sser.train.report.page import page
from edge_sser.train.report.report import Report
from edge_sser.train.report.svg import Chart

RESULTS = Path(__file__).parents[2] / "docs" / "results"
COMMITTED = ("sser-cnn", "level-only", "level-pitch")
VOID = frozenset({"meta", "br", "link", "img", "input"})


class Page(HTMLParser):
    """A page as a browser would take it apart: text of headings and cells, and every tag closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
            self.words.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.words[tag][-1] += data


def edge_sser(*arguments: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_sser.cli", "train", "evaluate", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    environment.pop("EDGE_SSER_CONFIG", None)
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def committed() -> Report:
    scored = [
        score(read_origin(RESULTS / f"{name}.csv"), read_predictions(RESULTS / f"{name}.csv")) for name in COMMITTED
    ]
    scored.append(score_majority(read_predictions(RESULTS / "sser-cnn.csv"), "quadrant"))
    systems = group_systems(scored, draws=50)
    return Report("quadrant", systems, matrix(systems), notes=notes(scored, None))


@pytest.fixture(scope="module")
def parsed(committed: Report) -> Page:
    return Page(page(committed))


def test_the_page_of_the_committed_predictions_has_every_part(committed: Report, parsed: Page) -> None:
    corpora = ("indian-emospeech", "librispeech", "nemo", "ravdess")
    assert parsed.words["h2"] == ["Verdict", "Scores", "Limits", "Trained on, tested on", *corpora]
    captions = " ".join(parsed.words["figcaption"])
    for title in (
        "Recall of each emotion", "radar", "ROC of stress", "Precision and recall of stress", "Reliability: sser-cnn",
        "Speakers: sser-cnn", "Emotions: what was taken for what", "Stress at calibrated probability 0.5", "By class",
        "Every speaker alike", "Women and men alike", "Mean stress must rise with intensity",
    ):  # fmt: skip
        assert title in captions
    assert parsed.words["h3"].count("Folds and seeds") == 3
    everything = " ".join([*parsed.words["td"], *parsed.words["th"]])
    for system in committed.systems:
        for measures in system.measures.values():
            if measures.scores.corpus == "librispeech":
                assert math.isnan(measures.scores.auroc)  # nobody is stressed there, and nobody has an emotion
                continue
            assert f"{100 * measures.scores.ua:.1f}" in everything
            assert f"{measures.scores.auroc:.3f}".removeprefix("0") in everything
    assert "≤ .075" in everything


def test_every_figure_is_a_drawing_with_something_in_it(parsed: Page) -> None:
    drawings = [attributes for tag, attributes in parsed.tags if tag == "svg" and attributes.get("role") == "img"]
    assert len(drawings) == 3 * 6 + 1  # of calm readers alone there is nothing to draw but what was said of them
    assert all(attributes["aria-label"] for attributes in drawings)
    shapes = {tag for tag, _ in parsed.tags} & {"polyline", "polygon", "rect", "circle"}
    assert shapes == {"polyline", "polygon", "rect", "circle"}


def test_the_page_needs_nothing_but_itself(committed: Report, parsed: Page) -> None:
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    text = page(committed)
    assert "url(" not in text
    assert "@import" not in text
    assert not re.search(r"https?://", text)
    anchors = {attributes["id"] for _, attributes in parsed.tags if attributes.get("id")}
    assert {(attributes["href"] or "")[1:] for tag, attributes in parsed.tags if tag == "a"} == anchors


def test_names_from_files_cannot_change_the_page(tmp_path: Path) -> None:
    name = '<script>alert("x")</script>'
    predictions = [
        replace(item, corpus=name, speaker=f"{name}{item.speaker}")
        for item in read_predictions(RESULTS / "sser-cnn.csv")
        if item.corpus == "nemo"
    ]
    scored = [score(Origin(system=name, trained_on=(name,)), predictions)]
    systems = group_systems(scored, draws=5)
    report = Report("quadrant", systems, matrix(systems), histories=[History(name, [1, 2], {name: [1.0, 0.5]})])
    found = Page(page(report))
    assert "script" not in {tag for tag, _ in found.tags}
    assert name in found.words["h2"]


def test_the_figures_are_valid_json_that_agrees_with_the_page(committed: Report, tmp_path: Path) -> None:
    done = edge_sser(
        *(argument for name in COMMITTED for argument in ("--predictions", RESULTS / f"{name}.csv")),
        "--html", tmp_path / "report.html", "--json", tmp_path / "report.json",
    )  # fmt: skip
    assert done.stdout.count("| ravdess |") == 4  # the majority is always there
    found = json.loads((tmp_path / "report.json").read_text("utf-8"), parse_constant=pytest.fail)
    assert list(found["systems"]) == [*COMMITTED, "majority"]
    for system in committed.systems:
        assert found["systems"][system.name]["seeds"][0]["corpora"] == [
            measures.scores.as_dict() for measures in system.measures.values()
        ]
    assert found["systems"]["sser-cnn"]["measures"]["ravdess"]["sexes"]["checks"][0]["passed"] is False
    assert (tmp_path / "report.json").stat().st_size < 100_000
    assert Page((tmp_path / "report.html").read_text("utf-8")).words["h1"] == ["edge-sser evaluation: sser-cnn"]


def test_the_committed_figures_are_those_of_the_committed_predictions(committed: Report) -> None:
    found = json.loads((RESULTS / "evaluation.json").read_text("utf-8"))
    assert list(found["systems"]) == [system.name for system in committed.systems]
    for system in committed.systems:
        assert found["systems"][system.name]["seeds"] == [
            json.loads(json.dumps(evaluation.as_dict())) for evaluation in system.evaluations
        ]


def test_predictions_are_scored_and_drawn_without_torch() -> None:
    code = "import sys, edge_sser.train.evaluate.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_a_chart_leaves_gaps_where_nothing_is_known() -> None:
    chart = Chart("t", x=(0.0, 1.0), y=(0.0, 1.0), x_label="x", y_label="y")
    nan = float("nan")
    chart.line([(0.0, 0.1), (0.2, 0.2), (0.4, nan), (0.6, 0.3), (0.8, 0.4)], "s0")
    chart.dots([(0.1, nan), (0.5, 0.5)], "s0")
    assert chart.svg().count("<polyline") == 2
    assert chart.svg().count("<circle") == 1
    assert "nan" not in chart.svg()


@pytest.fixture(scope="module")
def rows(toy_table: Path) -> Sequence[Utterance]:
    return read_table(toy_table)


@pytest.fixture(scope="module")
def run(rows: Sequence[Utterance], toy_recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), rows, toy_recipe)


def test_a_model_file_goes_through_the_whole_battery(toy_table: Path, tmp_path: Path) -> None:
    model = write_pitch_model(tmp_path / "pitch.onnx")
    soundfile.write(tmp_path / "calm.flac", voice(pitch_hz=120.0, syllables_hz=3.0, seconds=8.0, seed=1), RATE)
    edge_sser(
        model, "--table", toy_table, "--out", tmp_path / "out.csv", "--robustness", "--streaming", "--clips", "6",
        "--sound", f"calm={tmp_path / 'calm.flac'}", "--html", tmp_path / "r.html", "--json", tmp_path / "r.json",
    )  # fmt: skip
    found = Page((tmp_path / "r.html").read_text("utf-8"))
    titles = found.words["h2"]
    assert {"Robustness of pitch.onnx", "pitch.onnx as an alarm", "Seconds of speech in a window"} < set(titles)
    told = " ".join(found.words["li"])
    assert "cough at 10 dB: none was given" in told
    assert "No level-only predictions were given for ravdess" in told
    report = json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert report["systems"]["pitch.onnx"]["seeds"][0]["corpora"][0]["auroc"] == 1.0
    knob = [effect for effect in report["robustness"]["effects"] if effect["condition"] == "gain, +12 dB"]
    assert [effect["auroc_change"] for effect in knob] == [0.0]
    calm = [each for each in report["streaming"]["quiet"] if each["point"] == "the card's levels"]
    assert [(each["name"], each["rate"]["alarms"]) for each in calm] == [("calm", 0)]
    assert report["streaming"]["left_out"] == 6  # the toy speakers have too few clips for a stream
    assert len(report["seconds_of_speech"]) == 7
    assert read_origin(tmp_path / "out.csv") == Origin(system="pitch.onnx", trained_on=())


def test_a_model_that_heard_a_corpus_is_told_wherever_it_is_scored_on_it(toy_table: Path, tmp_path: Path) -> None:
    model = write_pitch_model(tmp_path / "pitch.onnx", trained_on=("ravdess",))
    done = edge_sser(model, "--table", toy_table, "--out", tmp_path / "o.csv", "--html", tmp_path / "r.html")
    assert "pitch.onnx heard the speakers of ravdess in training" in done.stdout
    assert read_origin(tmp_path / "o.csv").heard == ("ravdess",)
    found = Page((tmp_path / "r.html").read_text("utf-8"))
    assert "pitch.onnx (known voices)" in found.words["th"]
    assert any("say nothing of strangers" in line for line in found.words["li"])


def said(predictions: Sequence[Prediction]) -> dict[str, float]:
    return {item.path: item.stress for item in predictions}


def test_each_voice_is_scored_by_the_model_that_never_heard_it_and_strangers_by_the_final_one(
    run: Path, rows: Sequence[Utterance], toy_recipe: Path, tmp_path: Path
) -> None:
    strangers = [replace(row, corpus="elsewhere", sha256=f"{row.sha256}x", fingerprint=b"") for row in rows[:4]]
    models = open_models(run, rows, [*rows, *strangers], None)
    assert {id(models.model_for(row)) for row in rows} == {id(model) for model in models.by_fold.values()}
    for row in rows:
        assert models.model_for(row) is models.by_fold[row.fold]
    assert all(models.model_for(stranger) is models.final for stranger in strangers)
    assert models.final not in models.by_fold.values()
    by_fold, by_whole = (said(models.predict(each)) for each in (rows[:4], strangers))
    assert by_fold.keys() == by_whole.keys()
    assert all(by_fold[path] != by_whole[path] for path in by_fold)
    assert models.origin == Origin(system="toy", seed=1, trained_on=("ravdess",))


def test_models_of_a_run_are_calibrated_on_the_other_folds(run: Path, rows: Sequence[Utterance]) -> None:
    models = open_models(run, rows, rows, None)
    table = score(models.origin, models.predict(rows)).table
    models.calibrate(table)
    for fold, model in models.by_fold.items():
        assert model.card.calibration == table.calibration_without(fold)
    assert models.final.card.calibration == table.calibration(table.judged)


def test_the_same_recording_under_another_name_is_a_leak(run: Path, rows: Sequence[Utterance]) -> None:
    twins = [replace(row, corpus="elsewhere") for row in rows[:1]]
    with pytest.raises(TrainingError, match="is the same recording as"):
        open_models(run, rows, twins, None)


def test_a_run_goes_through_the_battery_with_its_training_curves_on_the_page(
    run: Path, toy_table: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    lines = [json.dumps({"epoch": epoch, "loss": 1 / epoch}) for epoch in (1, 2, 3)]
    (copy / "fold-2" / "history.jsonl").write_text("\n".join(lines), encoding="utf-8")
    edge_sser(
        copy, "--table", toy_table, "--name", "mine", "--robustness", "--clips", "12",
        "--html", tmp_path / "r.html", "--json", tmp_path / "r.json",
    )  # fmt: skip
    found = Page((tmp_path / "r.html").read_text("utf-8"))
    assert {"Training", "Robustness of mine"} < set(found.words["h2"])
    assert "fold-2" in found.words["li"]
    assert "mine" in json.loads((tmp_path / "r.json").read_text("utf-8"))["systems"]


def test_a_run_without_all_its_folds_scores_those_it_has_and_says_which_it_has_not(
    run: Path, toy_table: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run / "fold-1", copy / "fold-1")
    done = edge_sser(
        copy, "--table", toy_table, "--out", tmp_path / "o.csv", "--robustness", "--streaming", "--clips", "4",
        "--html", tmp_path / "r.html",
    )  # fmt: skip
    assert done.stdout.startswith(
        f"40 clips are not scored: {copy} has no fold-2, fold-3, fold-4, fold-5, fold-6: train"
    )
    assert "| ravdess | 8 / 1 / 1 | toy |" in done.stdout
    assert "Warning" not in done.stderr
    assert {item.fold for item in read_predictions(tmp_path / "o.csv")} == {1}
    assert any("40 clips are not scored" in line for line in Page((tmp_path / "r.html").read_text("utf-8")).words["li"])
    shutil.rmtree(copy / "fold-1")
    done = edge_sser(copy, "--table", toy_table, status=1)
    assert f"{copy} has no fold-1, fold-2, fold-3, fold-4, fold-5, fold-6: train it with" in done.stderr


def test_only_strangers_need_the_final_model(run: Path, rows: Sequence[Utterance], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "final")
    assert open_models(copy, rows, rows, None).by_fold.keys() == {row.fold for row in rows}
    strangers = [replace(row, corpus="elsewhere", sha256="x") for row in rows[:1]]
    with pytest.raises(TrainingError, match=r"has no final: .*without --no-final"):
        open_models(copy, rows, strangers, None)
    models = open_models(copy, rows, [*rows[:1], *strangers], None)
    assert models.has_model_for(rows[0])
    assert not models.has_model_for(strangers[0])


def test_an_actor_says_the_unseen_sentence_to_the_model_of_the_actors_fold(
    rows: Sequence[Utterance], toy_recipe: Path, tmp_path: Path
) -> None:
    heard, unheard = ([row for row in rows if row.statement == said] for said in ("01", "02"))
    assert len(heard) == len(unheard) == 24
    models = open_models(write_run(tmp_path, heard, toy_recipe, final=False), heard, unheard, None)
    assert not models.missing
    assert all(models.model_for(row) is models.by_fold[row.fold] for row in unheard)


def test_calm_speech_that_the_run_was_trained_on_is_refused(
    run: Path, rows: Sequence[Utterance], toy_table: Path, tmp_path: Path
) -> None:
    shutil.copy(rows[0].path, tmp_path / "reader.flac")
    done = edge_sser(
        run, "--table", toy_table, "--streaming", "--sound", f"calm={tmp_path / 'reader.flac'}",
        "--html", tmp_path / "r.html", status=1,
    )  # fmt: skip
    assert "reader.flac is a recording of ravdess in the run's table, so the model has heard it" in done.stderr


def test_a_checkpoint_alone_takes_the_calibration_that_predictions_give(run: Path, rows: Sequence[Utterance]) -> None:
    models = open_models(run / "final" / "model.safetensors", [], rows, None)
    assert models.origin.heard == ("ravdess",)
    assert models.final.card.calibration.temperature == 1.0
    table = score(Origin(system="net"), read_predictions(RESULTS / "sser-cnn.csv")).table
    models.calibrate(table)
    assert models.final.card.calibration == table.calibration(table.judged)


def test_whose_predictions_calibrate_a_model_is_no_guess(run: Path, toy_table: Path, tmp_path: Path) -> None:
    others = [tmp_path / "one.csv", tmp_path / "two.csv"]
    for other in others:
        shutil.copy(RESULTS / "sser-cnn.csv", other)
    arguments = (run / "final" / "model.safetensors", "--table", toy_table, "--html", tmp_path / "r.html")
    given = [part for other in others for part in ("--predictions", other)]
    edge_sser(*arguments, *given)  # where nothing is calibrated, any number will do
    arguments = (*arguments, "--robustness", "--clips", "2")
    done = edge_sser(*arguments, *given, status=2)
    assert "which --predictions are to calibrate model.safetensors: one, two? Give only those" in done.stderr
    edge_sser(*arguments, *given[:2])


@pytest.mark.parametrize("write", [
    lambda path: write_predictions(path, read_predictions(RESULTS / "sser-cnn.csv")),
    lambda path: write_file(path, "x" * 2**20, TrainingError),
])  # fmt: skip
def test_a_disk_that_fills_is_named_by_the_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "scores.csv"
    path.write_text("before", encoding="utf-8")
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, limit[1]))
    try:
        with pytest.raises(TrainingError, match=r"scores\.csv: cannot be written \(File too large\): make room"):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [(left.name, left.read_text("utf-8")) for left in tmp_path.iterdir()] == [("scores.csv", "before")]


def test_a_model_file_keeps_the_calibration_of_its_card(tmp_path: Path) -> None:
    models = open_models(write_pitch_model(tmp_path / "pitch.onnx"), [], [], None)
    before = models.final.card
    models.calibrate(score(Origin(system="net"), read_predictions(RESULTS / "sser-cnn.csv")).table)
    assert models.final.card == before


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (
            ("nowhere",),
            2,
            "no model 'nowhere': ones that ship: sser-plus, sser-cnn; or give the folder of a run",
        ),
        (("runs/nowhere",), 2, "runs/nowhere: no such file or folder"),
        (("{run}",), 2, "give the run's table of utterances: --table FILE"),
        (("{run}/fold-1/model.safetensors",), 2, "nothing to do"),
        (("{text}", "--table", "{table}"), 2, "expected the folder of a run of train fit"),
        (("{broken}", "--table", "{table}"), 1, "broken.onnx"),
        (("--table", "{table}", "--predictions", "{csv}"), 2, "need a run or a model file"),
        (("--predictions", "{text}"), 1, "expected the columns"),
        (("--predictions", "nowhere.csv", "--html", "x.html"), 1, "nowhere.csv"),
        (("--predictions", "{csv}", "--predictions", "{csv2}"), 2, "two systems are called sser-cnn"),
        (("--predictions", "{csv}", "--preset", "mood"), 2, "preset mood"),
        (("--predictions", "{csv}", "--sound", "birds=x"), 2, "--sound birds=x"),
        (("{model}", "--robustness", "--html", "x.html"), 2, "--robustness distorts labelled clips: give --table"),
        (("{model}", "--streaming", "--html", "x.html"), 2, "--streaming needs something to listen to"),
        (("{model}", "--table", "{table}", "--robustness"), 2, "give --html FILE or --json FILE"),
        (("--predictions", "{csv}", "--html", "{text}/x.html"), 1, "cannot be written"),
        (("--predictions", "{csv}", "--json", "{run}"), 1, "cannot be written (it is a folder)"),
    ],
)
def test_what_cannot_be_evaluated_is_told_in_one_line(
    run: Path, toy_table: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, told: str
) -> None:
    (tmp_path / "text.csv").write_text("nonsense\n", encoding="utf-8")
    (tmp_path / "broken.onnx").write_bytes(b"nonsense")
    few = [item for item in read_predictions(RESULTS / "sser-cnn.csv") if item.corpus == "nemo"]
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        write_predictions(folder / "sser-cnn.csv", few)
    places = {
        "run": run, "table": toy_table, "text": tmp_path / "text.csv", "broken": tmp_path / "broken.onnx",
        "csv": tmp_path / "sser-cnn.csv", "csv2": tmp_path / "other" / "sser-cnn.csv",
        "model": write_pitch_model(tmp_path / "pitch.onnx"),
    }  # fmt: skip
    done = edge_sser(*(argument.format(**places) for argument in arguments), status=status)
    assert told in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("edge-sser: error:")]) == 1


def test_a_table_of_other_recordings_than_the_run_was_given_is_refused(
    run: Path, rows: Sequence[Utterance], tmp_path: Path
) -> None:
    write_table(tmp_path / "fewer.csv", rows[:-1])
    done = edge_sser(run, "--table", tmp_path / "fewer.csv", status=1)
    assert "was trained on other recordings" in done.stderr


def test_another_table_is_scored_with_the_models_of_the_run(
    run: Path, toy_table: Path, rows: Sequence[Utterance], tmp_path: Path
) -> None:
    write_table(tmp_path / "half.csv", [row for row in rows if "-01-01-" in row.path])  # the first statement
    done = edge_sser(run, "--table", toy_table, "--test", tmp_path / "half.csv", "--out", tmp_path / "half-out.csv")
    whole = said(open_models(run, rows, rows, None).predict(rows))
    for path, stress in said(read_predictions(tmp_path / "half-out.csv")).items():
        assert stress == pytest.approx(whole[path], abs=1e-5)
    assert "| ravdess |" in done.stdout


def test_a_file_that_cannot_be_written_leaves_what_stood_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(TrainingError, match="cannot be written"):
        write_file(tmp_path / "file" / "report.html", "y", TrainingError)
    assert (tmp_path / "file").read_text("utf-8") == "x"
