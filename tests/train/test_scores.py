from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from edge_sser.errors import TrainingError
from edge_sser.train.calibrate import calibrated, fit_calibration
from edge_sser.train.evaluate import evaluate, table
from edge_sser.train.labels import EMOTIONS
from edge_sser.train.metrics import auroc, expected_calibration_error, unweighted_accuracy
from edge_sser.train.predictions import Prediction, read_predictions, write_predictions

labelled = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=4, max_size=40).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


@settings(deadline=None)
@given(labelled)
def test_auroc_and_ua_agree_with_a_second_implementation(pairs: list[tuple[int, int]]) -> None:
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score / 5 for _, score in pairs])
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    decisions = (scores > 0.5).astype(np.int64)
    assert unweighted_accuracy(labels, decisions) == pytest.approx(balanced_accuracy_score(labels, decisions))


def test_calibration_error_is_the_distance_between_saying_and_being() -> None:
    labels = np.array([1] * 80 + [0] * 20)
    assert expected_calibration_error(labels, np.full(100, 0.8)) == pytest.approx(0.0)
    assert expected_calibration_error(labels, np.full(100, 0.5)) == pytest.approx(0.3)
    assert expected_calibration_error(labels, np.ones(100)) == pytest.approx(0.2)


def test_calibration_undoes_an_overconfident_shifted_score() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(0, 1.5, 20_000)
    labels = (random.random(20_000) < 1 / (1 + np.exp(-truth))).astype(float)
    found = fit_calibration(3.0 * truth + 2.0, labels, np.ones(20_000))
    assert found.temperature == pytest.approx(3.0, rel=0.1)
    assert found.bias == pytest.approx(-2.0 / 3.0, abs=0.1)
    assert expected_calibration_error(labels.astype(np.int64), calibrated(3.0 * truth + 2.0, found)) < 0.02


def toy(*, good: bool) -> list[Prediction]:
    """Two corpora, three folds; one with predictions that are right, or ones that say nothing."""
    random = np.random.default_rng(3)
    out = []
    for corpus in ("first", "second"):
        for number in range(90):
            emotion = ("angry", "calm", "disgust")[number % 3]
            sure = np.full(8, 0.01)
            sure[EMOTIONS.index(emotion) if good else number % 8] = 0.93
            stress = {"angry": 0.8, "calm": 0.3, "disgust": 0.9}[emotion] if good else 0.5
            out.append(
                Prediction(
                    path=f"{corpus}/{number}.wav", corpus=corpus, speaker=f"s{number // 3 % 6}", sex="F",
                    fold=number // 3 % 3 + 1,
                    emotion=emotion, intensity="", emotions=tuple(sure), stress=stress + 0.05 * random.random(),
                )
            )  # fmt: skip
    return out


def test_disgust_counts_for_emotion_and_not_for_stress() -> None:
    scores = evaluate(toy(good=True)).corpora[0]
    assert (scores.ua, scores.auroc, scores.uar) == (1.0, 1.0, 1.0)
    assert scores.ece < scores.ece_raw
    assert (scores.clips, scores.speakers, scores.folds) == (90, 6, 3)


def test_a_system_that_knows_nothing_scores_chance() -> None:
    scores = evaluate(toy(good=False)).corpora[0]
    assert scores.auroc == pytest.approx(0.5, abs=0.2)
    assert scores.uar == pytest.approx(0.5, abs=0.2)


def test_predictions_survive_the_file_to_the_digit_that_scores_need(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    write_predictions(path, toy(good=True))
    header = path.read_text("utf-8").splitlines()[0]
    assert (
        header == "path,corpus,speaker,sex,fold,emotion,intensity," + ",".join(f"p_{e}" for e in EMOTIONS) + ",stress"
    )
    read = evaluate(read_predictions(path)).as_dict()
    assert read == evaluate(toy(good=True)).as_dict()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: "", "columns"),
        (lambda text: text.splitlines()[0] + "\n", "none"),
        (lambda text: text.replace("first/3.wav,first,s1,F,2", "first/3.wav,first,s1,F,3"), "stands in two folds"),
        (lambda text: text.replace(",calm,", ",calm,", 1).replace("0.930000", "1.930000", 1), "not within 0..1"),
        (lambda text: text.replace("0.930000", "x", 1), "could not convert"),
    ],
)
def test_predictions_that_cannot_be_scored_are_named(tmp_path: Path, change: object, told: str) -> None:
    path = tmp_path / "bad.csv"
    write_predictions(path, toy(good=True))
    path.write_text(change(path.read_text("utf-8")), encoding="utf-8")  # type: ignore[operator]
    with pytest.raises(TrainingError, match=r"bad\.csv") as caught:
        read_predictions(path)
    assert told in str(caught.value)


def test_the_table_sets_systems_beside_each_other() -> None:
    text = table({"model": evaluate(toy(good=True)), "level-only": evaluate(toy(good=False))})
    rows = [line.split("|")[3].strip() for line in text.splitlines()[2:]]
    assert rows == ["model", "level-only", "model", "level-only"]
