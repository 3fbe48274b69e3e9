"""The model that ships is what its card, the committed predictions and the documents say."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sser.model import DEFAULT_MODEL, default_model_path, load_model
from edge_sser.train.evaluate import evaluate, table
from edge_sser.train.labels import EMOTIONS
from edge_sser.train.predictions import read_predictions

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
NAME = Path(DEFAULT_MODEL).stem


def test_it_is_one_small_file() -> None:
    assert default_model_path().stat().st_size < 1_000_000
    assert [path.name for path in default_model_path().parent.glob("*.onnx*")] == [DEFAULT_MODEL]


def test_the_cards_figures_are_those_of_the_committed_predictions() -> None:
    card = load_model().card
    for name in (NAME, "level-only"):
        assert card.accuracy[name] == evaluate(read_predictions(RESULTS / f"{name}.csv")).as_dict()
    found = evaluate(read_predictions(RESULTS / f"{NAME}.csv")).calibration
    assert card.calibration.temperature == pytest.approx(found.temperature, rel=1e-3)
    assert card.calibration.bias == pytest.approx(found.bias, abs=1e-3)
    assert card.emotions == EMOTIONS


def test_the_readme_quotes_the_table_that_the_committed_predictions_give() -> None:
    evaluations = {name: evaluate(read_predictions(RESULTS / f"{name}.csv")) for name in (NAME, "level-only")}
    readme = (ROOT / "README.md").read_text("utf-8")
    for line in table(evaluations).splitlines():
        assert line in readme


def test_no_speaker_stands_in_two_folds_and_all_corpora_are_there() -> None:
    predictions = read_predictions(RESULTS / f"{NAME}.csv")  # refuses a speaker in two folds
    assert {item.corpus for item in predictions} == {"indian-emospeech", "nemo", "ravdess"}
    for item in predictions:
        assert sum(item.emotions) == pytest.approx(1.0, abs=1e-4)
