"""Trust by seconds of speech and scores under the recipe's own preset, in the card of an exported model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from untrained_run import write_run

from edge_sser.cli import main
from edge_sser.errors import TrainingError
from edge_sser.export.card import SpeechScore, fit_speech_trust, read_speech_trust
from edge_sser.model.card import Curve, least_speech_ratio
from edge_sser.model.model import Card, Model
from edge_sser.train.corpora.table import read_table
from edge_sser.train.evaluate.predictions import Prediction, read_predictions, write_predictions
from edge_sser.train.evaluate.scores import evaluate
from edge_sser.train.fit.checkpoint import MODEL_FILE

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def measured(corpus: str, areas: Sequence[float | None], windows: Sequence[int] = (100, 100, 100)) -> list[SpeechScore]:
    return [
        SpeechScore(corpus=corpus, seconds=seconds, windows=count, auroc=area)
        for seconds, area, count in zip((0.5, 1.5, 3.0), areas, windows, strict=True)
    ]


def test_trust_is_how_far_auroc_stands_above_chance() -> None:
    assert fit_speech_trust(measured("a", (0.55, 0.8, 0.9))) == ((0.5, 0.125), (1.5, 0.75), (3.0, 1.0))


def test_worse_than_chance_is_no_trust_at_all() -> None:
    assert fit_speech_trust(measured("a", (0.3, 0.6, 0.7))) == ((0.5, 0.0), (1.5, 0.5), (3.0, 1.0))


def test_corpora_count_the_same_and_those_without_an_auroc_everywhere_do_not_count() -> None:
    several = [
        *measured("a", (0.5, 0.7, 0.9), (10, 10, 10)),
        *measured("b", (0.6, 0.7, 0.7), (900, 900, 900)),
        *measured("calm", (None, None, None)),
        *measured("short", (0.9, 0.9, None)),
    ]
    assert fit_speech_trust(several) == ((0.5, pytest.approx(0.167)), (1.5, pytest.approx(0.667)), (3.0, 1.0))


def test_a_curve_that_falls_is_levelled_by_the_number_of_windows() -> None:
    assert fit_speech_trust(measured("a", (0.6, 0.8, 0.7), (100, 300, 100))) == (
        (0.5, pytest.approx(0.1 / 0.275, abs=1e-3)),
        (1.5, 1.0),
        (3.0, 1.0),
    )


@pytest.mark.parametrize(
    ("areas", "reason"),
    [((0.6, None, 0.7), "no corpus has a stress AUROC at every length"), ((0.5, 0.5, 0.5), "no better than chance")],
)
def test_figures_that_tell_nothing_are_refused(areas: Sequence[float | None], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_speech_trust(measured("a", areas))


def test_the_committed_evaluation_gives_the_curve_that_the_document_shows() -> None:
    curve = read_speech_trust(RESULTS / "evaluation.json", system="sser-cnn", preset="quadrant")
    page = (RESULTS / "alarms.md").read_text("utf-8")
    for seconds, value in curve:
        (row,) = [line for line in page.splitlines() if line.startswith(f"| {seconds:g} | ")]
        assert row.endswith(f"| {value:.2f} |".replace("0.", ".") if value < 1.0 else "| 1 |")
    assert f"a share of {least_speech_ratio(curve):.2f} of".replace("0.", ".") in " ".join(page.split())


def report(**changes: Any) -> dict[str, Any]:
    """An evaluation of the toy system, as far as it matters here."""
    rows = [
        {"corpus": "ravdess", "seconds": seconds, "windows": 50, "auroc": area, "confidence": 0.4}
        for seconds, area in ((0.5, 0.55), (1.5, 0.8), (3.0, 0.9))
    ]
    values = {"schema": 1, "preset": "quadrant", "systems": systems("toy"), "seconds_of_speech": rows}
    return {**values, **changes}


def systems(name: str, heard: Sequence[str] = ()) -> dict[str, Any]:
    return {
        name: {"origin": {"system": name, "heard": list(heard)}, "seeds": []},
        "level-only": {"origin": {"system": "level-only"}},
    }


CURVE: Curve = ((0.5, 0.125), (1.5, 0.75), (3.0, 1.0))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        ("{", "Expecting property name"),
        ("[]", "the whole: "),
        ({"seconds_of_speech": []}, "preset: Field required"),
        (report(systems={}), "it is of none with preset quadrant, expected toy with quadrant"),
        (report(systems=systems("other")), "it is of other with preset quadrant"),
        (report(preset="sssr"), "it is of toy with preset sssr"),
        (report(systems=systems("toy", heard=["ravdess"])), "voices that the model had heard"),
        (report(seconds_of_speech=[]), "it has no seconds_of_speech"),
        (report(seconds_of_speech=[{"corpus": "a", "seconds": 1.0}]), "seconds_of_speech.0.windows: Field required"),
        (
            report(seconds_of_speech=[{"corpus": "a", "seconds": 4.0, "windows": 50, "auroc": 0.9}]),
            "do not rise within 0..3",
        ),
    ],
)
def test_a_file_that_gives_no_curve_gets_one_line(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "e.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(TrainingError) as caught:
        read_speech_trust(path, system="toy", preset="quadrant")
    message = str(caught.value)
    assert message.startswith(f"evaluation {path}: ")
    assert reason in message
    assert "train evaluate RUN --table TABLE --streaming" in message
    assert "\n" not in message


@pytest.fixture
def export(
    toy_table: Path, toy_recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Card | None, str]]:
    """Exports an untrained student of the toy recipe with another preset; the card and what was said beside it."""

    def call(*arguments: str | Path, preset: str = "quadrant", status: int = 0) -> tuple[Card | None, str]:
        recipe = tmp_path / "toy.toml"
        recipe.write_text(toy_recipe.read_text("utf-8").replace('"quadrant"', f'"{preset}"'), encoding="utf-8")
        folder = write_run(tmp_path / "run", read_table(toy_table)[:1], recipe)
        out = tmp_path / "out"
        capsys.readouterr()
        assert main(["export", str(folder / "final" / MODEL_FILE), "--out", str(out), *map(str, arguments)]) == status
        said = capsys.readouterr().err
        return (None if status else Model.load(out / "toy.onnx", runtime="cpu").card), said

    return call


def test_the_curve_of_an_evaluation_rides_in_the_card(export: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps(report()), encoding="utf-8")
    card, _ = export("--evaluation", tmp_path / "e.json")
    assert card.speech_trust == CURVE
    (tmp_path / "e.json").write_text(json.dumps(report(seconds_of_speech=[])), encoding="utf-8")
    _, said = export("--evaluation", tmp_path / "e.json", status=1)
    assert "it has no seconds_of_speech" in said


def test_without_an_evaluation_the_card_has_no_curve(export: Callable[..., Any]) -> None:
    card, _ = export()
    assert card.speech_trust is None
    assert "speech_trust" not in card.to_json()


def test_an_evaluation_does_not_go_with_a_model_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [tmp_path / "x.onnx", "--target", "tensorrt", "--evaluation", tmp_path / "e.json"]
    assert main(["export", *map(str, arguments)]) == 2
    assert "only --engines, --workspace-mib and --compute-capability go with it" in capsys.readouterr().err


@pytest.fixture(scope="module")
def some() -> list[Prediction]:
    """Predictions of a few speakers of RAVDESS."""
    found = [item for item in read_predictions(RESULTS / "sser-cnn.csv") if item.corpus == "ravdess"]
    return found[::4]


@pytest.mark.parametrize("preset", ["quadrant", "sssr", "arousal_valence"])
def test_the_scores_of_a_card_are_of_the_recipes_preset(
    export: Callable[..., Any], tmp_path: Path, some: list[Prediction], preset: str
) -> None:
    placed = [replace(item, arousal=0.9, valence=0.1 if item.emotion == "angry" else 0.9) for item in some]
    write_predictions(tmp_path / "toy.csv", placed)
    card, _ = export("--predictions", tmp_path / "toy.csv", preset=preset)
    expected = evaluate(read_predictions(tmp_path / "toy.csv"), preset)
    assert expected.calibrated
    assert card.stress_preset == preset
    assert card.accuracy["toy"] == expected.as_dict()
    assert card.calibration == expected.calibration


def test_predictions_that_give_no_calibration_are_told(
    export: Callable[..., Any], tmp_path: Path, some: list[Prediction]
) -> None:
    write_predictions(tmp_path / "toy.csv", [item for item in some if item.emotion == "calm"])
    card, said = export("--predictions", tmp_path / "toy.csv")
    assert (card.calibration.temperature, card.calibration.bias) == (1.0, 0.0)
    assert "the probabilities are not calibrated" in said


def test_the_verdict_on_the_system_is_repeated(
    export: Callable[..., Any], tmp_path: Path, some: list[Prediction]
) -> None:
    write_predictions(tmp_path / "toy.csv", some)
    _, said = export("--predictions", tmp_path / "toy.csv")
    assert "verdict on toy: usable with care" in said
    constant = [replace(item, emotions=(1.0, *[0.0] * (len(item.emotions) - 1)), stress=0.5) for item in some]
    write_predictions(tmp_path / "toy.csv", constant)
    _, said = export("--predictions", tmp_path / "toy.csv")
    assert "verdict on toy: degenerate: one answer for everything" in said
