from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from edge_sser.errors import TrainingError, UsageError
from edge_sser.model.model import Calibration
from edge_sser.train.ablation import render
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.metrics import (
    auroc,
    average_precision,
    bootstrap_speakers,
    calibrated,
    confusion,
    expected_calibration_error,
    fit_calibration,
    precision_recall_curve,
    precisions,
    recalls,
    reliability,
    roc_curve,
    unweighted_accuracy,
    unweighted_precision,
)
from edge_sser.train.evaluate.predictions import COLUMNS, Prediction, read_predictions, write_predictions
from edge_sser.train.evaluate.scores import Scores, evaluate, markdown_table

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


@settings(deadline=None)
@given(labelled)
def test_curves_and_the_areas_under_them_agree_with_a_second_implementation(pairs: list[tuple[int, int]]) -> None:
    labels = np.array([label for label, _ in pairs])
    scores = np.array([score / 5 for _, score in pairs])
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores))
    false, hits = roc_curve(labels, scores)
    thresholds = [np.inf, *np.unique(scores)[::-1]]
    for rate, kind in ((false, 0), (hits, 1)):
        np.testing.assert_allclose(rate, [np.mean(scores[labels == kind] >= threshold) for threshold in thresholds])
    assert np.trapezoid(hits, false) == pytest.approx(auroc(labels, scores))
    recall, precision = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(recall, hits[1:])
    np.testing.assert_allclose(precision, [labels[scores >= threshold].mean() for threshold in thresholds[1:]])
    assert recall[-1] == 1.0
    assert precision[-1] == pytest.approx(labels.mean())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_recall_and_precision_of_each_class_agree_with_a_second_implementation(pairs: list[tuple[int, int]]) -> None:
    labels = np.array([label for label, _ in pairs])
    decisions = np.array([decision for _, decision in pairs])
    matrix = confusion(labels, decisions, 4)
    counted = [[np.sum((labels == label) & (decisions == decision)) for decision in range(4)] for label in range(4)]
    np.testing.assert_array_equal(matrix, counted)
    present = sorted(set(labels.tolist()))
    theirs = {"labels": present, "average": None, "zero_division": 0}
    np.testing.assert_allclose(recalls(matrix)[present], recall_score(labels, decisions, **theirs))
    np.testing.assert_allclose(np.nan_to_num(precisions(matrix))[present], precision_score(labels, decisions, **theirs))
    assert unweighted_precision(matrix) == pytest.approx(precision_score(labels, decisions, **theirs).mean())


def test_reliability_counts_every_clip_once_and_says_what_was_so() -> None:
    labels = np.array([0, 1, 1, 0])
    predicted, found, clips = reliability(labels, np.array([0.05, 0.95, 1.0, 0.96]), bins=10)
    assert clips.sum() == 4
    assert (predicted[0], found[0], clips[0]) == (0.05, 0.0, 1)
    assert found[9] == pytest.approx(2 / 3)
    assert np.isnan(predicted[5])


def test_intervals_cover_the_score_narrow_with_speakers_and_are_repeatable() -> None:
    random = np.random.default_rng(1)
    widths = []
    for speakers in (8, 128):
        values = np.repeat(random.normal(size=speakers), 5)
        names = np.repeat(np.arange(speakers), 5).astype(str)
        statistic = lambda places, values=values: (float(values[places].mean()),)  # noqa: E731
        (first,) = bootstrap_speakers(statistic, names, draws=300)
        assert bootstrap_speakers(statistic, names, draws=300) == (first,)
        assert first.low < first.value < first.high
        widths.append(first.high - first.low)
    # By the law of large numbers the interval narrows with the root of the number of speakers, here to a quarter.
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.5)


def test_one_speaker_says_nothing_of_others() -> None:
    (found,) = bootstrap_speakers(lambda places: (0.5,), np.array(["a", "a"]), draws=10)
    assert found.value == 0.5
    assert np.isnan([found.low, found.high]).all()


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


def test_a_fold_of_one_class_is_left_out_of_the_mean_and_told() -> None:
    predictions = [
        replace(item, emotion="calm") if (item.corpus, item.fold) == ("first", 2) else item for item in toy(good=True)
    ]
    evaluation = evaluate(predictions)
    assert evaluation.corpora[0].one_class_folds == (2,)
    assert evaluation.corpora[0].auroc == 1.0
    assert evaluation.as_dict()["corpora"][0]["one_class_folds"] == [2]
    assert "one_class_folds" not in evaluation.as_dict()["corpora"][1]
    assert "first, model: fold 2 has clips of one stress class only" in markdown_table({"model": evaluation})


def with_calm_readers(predictions: list[Prediction]) -> list[Prediction]:
    """Adds a corpus of calm speech: stress 0 is all that is known of it. Three in ten sound stressed."""
    calm = [
        replace(item, corpus="readers", emotion="", given=0.0, stress=0.9 if place % 10 < 3 else 0.1)
        for place, item in enumerate(item for item in predictions if item.corpus == "first")
    ]
    return [*predictions, *calm]


def test_a_corpus_without_stress_and_emotions_tells_its_false_alarms_and_what_it_cannot_tell() -> None:
    alone, beside = evaluate(toy(good=True)), evaluate(with_calm_readers(toy(good=True)))
    assert beside.calibration == alone.calibration  # it would move the bias by how much of it there is
    assert [scores.as_dict() for scores in beside.corpora[::2]] == [scores.as_dict() for scores in alone.corpora]
    readers = beside.corpora[1]
    assert np.isnan([readers.ua, readers.ua_worst, readers.auroc, readers.auroc_worst, readers.uar]).all()
    assert readers.false_alarms == pytest.approx(0.3)
    values = json.loads(json.dumps(readers.as_dict(), allow_nan=False))
    assert (values["auroc"], values["false_alarms"], values["missed"]) == (None, 0.3, None)
    text = markdown_table({"model": beside})
    assert "| readers | 90 / 6 / 3 | model | - | - | - | - |" in text
    assert "readers, model: its clips have no emotion that the model knows, or all the same one: there is no UA" in text
    assert (
        "none of its judged clips is stressed: there is no AUROC and no UAR; 30.0 % of them are called stress" in text
    )
    assert "nan" not in text


def test_corpora_that_tell_nothing_apart_are_told_and_calibrate_nothing(recwarn: pytest.WarningsRecorder) -> None:
    one_kind = [replace(item, emotion="angry", given=1.0) for item in toy(good=True) if item.corpus == "first"]
    unknown = [replace(item, emotion="disgust", corpus="unknown") for item in toy(good=True) if item.corpus == "first"]
    found = evaluate([*one_kind, *unknown])
    assert not found.calibrated
    assert found.calibration == Calibration(temperature=1.0, bias=0.0)
    assert found.corpora[0].missed == pytest.approx(1 / 3)  # calm ones predicted at 0.3
    assert found.corpora[0].classes == 0  # a choice of one is no decision
    text = markdown_table({"model": found})
    assert "first, model: all its judged clips are stressed" in text
    assert "unknown, model: no label of its clips says under this preset if they are stressed" in text
    assert "model: its probabilities are not calibrated" in text
    assert not recwarn.list


def test_calibration_stays_finite_where_few_clips_are_parted_without_a_fault_or_backwards() -> None:
    logits, labels = np.array([-1.0, -0.5, 0.5, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    for found in (fit_calibration(logits, labels, np.ones(4)), fit_calibration(-logits, labels, np.ones(4))):
        assert 0.099 <= found.temperature <= 10.01
        assert abs(found.bias) <= 10.01


def test_a_preset_that_is_not_known_is_named() -> None:
    with pytest.raises(UsageError, match=r"preset nonsense: .* one of quadrant"):
        evaluate(toy(good=True), "nonsense")


def test_predictions_survive_the_file_to_the_digit_that_scores_need(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    write_predictions(path, toy(good=True))
    header = path.read_text("utf-8").splitlines()[0]
    assert (
        header
        == "path,corpus,speaker,sex,fold,emotion,intensity,"
        + ",".join(f"p_{e}" for e in EMOTIONS)
        + ",stress,given_stress,votes,arousal,valence"
    )
    read, kept = evaluate(read_predictions(path)), evaluate(toy(good=True))
    assert [scores.as_dict() for scores in read.corpora] == [scores.as_dict() for scores in kept.corpora]
    assert read.calibration.bias == pytest.approx(kept.calibration.bias, rel=1e-3)


def test_given_stress_and_votes_survive_the_file_and_come_before_the_emotion(tmp_path: Path) -> None:
    labelled = [
        replace(item, emotion="", given=float(item.emotion == "angry"))
        if item.corpus == "first"
        else replace(item, emotion="calm", soft={"angry": 0.75, "sad": 0.25} if item.emotion == "angry" else {})
        for item in toy(good=True)
        if item.emotion != "disgust"
    ]
    write_predictions(tmp_path / "toy.csv", labelled)
    read = read_predictions(tmp_path / "toy.csv")
    assert [(item.given, item.soft, item.emotion) for item in read] == [
        (item.given, item.soft, item.emotion) for item in labelled
    ]
    first, second = evaluate(read).corpora
    assert (first.auroc, first.judged, first.classes) == (1.0, 60, 0)
    assert second.auroc == 1.0


def test_arousal_and_valence_survive_the_file_and_are_scored_under_their_preset(tmp_path: Path) -> None:
    corner = {"angry": (0.9, 0.1), "disgust": (0.9, 0.9), "calm": (0.25, 0.75)}
    labelled = [
        replace(item, emotion="", stress=0.9 if item.emotion == "angry" else 0.2, arousal=arousal, valence=valence)
        for item in toy(good=True)
        for arousal, valence in (corner[item.emotion],)
    ]
    labelled[0] = replace(labelled[0], arousal=5 / 6, valence=0.4)  # a half, which six digits would make less
    write_predictions(tmp_path / "toy.csv", labelled)
    read = read_predictions(tmp_path / "toy.csv")
    assert [(item.arousal, item.valence) for item in read] == [(item.arousal, item.valence) for item in labelled]
    for found in evaluate(read, "arousal_valence").corpora:
        assert (found.judged, found.auroc, found.uar) == (90, 1.0, 1.0)
        assert math.isnan(found.ua)
    assert [found.judged for found in evaluate(read).corpora] == [0, 0]  # no label is stress as the quadrant has it


@pytest.mark.parametrize("labels", [0, 2])
def test_files_from_before_there_were_all_labels_are_read(tmp_path: Path, labels: int) -> None:
    path = tmp_path / "toy.csv"
    written = [replace(item, given=0.25, soft={"angry": 1.0}, arousal=0.1, valence=0.2) for item in toy(good=True)]
    write_predictions(path, written)
    kept = len(COLUMNS) - 4 + labels
    path.write_text(
        "".join(",".join(line.split(",")[:kept]) + "\n" for line in path.read_text("utf-8").splitlines()),
        encoding="utf-8",
    )
    first = read_predictions(path)[0]
    assert (first.given, first.soft) == ((0.25, {"angry": 1.0}) if labels else (None, {}))
    assert (first.arousal, first.valence, first.path) == (None, None, written[0].path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "columns"),
        (lambda text: text.splitlines()[0] + "\n", "none"),
        (lambda text: text.replace("first/3.wav,first,s1,F,2", "first/3.wav,first,s1,F,3"), "stands in two folds"),
        (lambda text: text.replace(",calm,", ",calm,", 1).replace("0.930000", "1.930000", 1), "not within 0..1"),
        (lambda text: text.replace("0.930000", "x", 1), "could not convert"),
        (lambda text: text.replace(",calm,", ",cross,", 1), "unknown emotion 'cross'"),
        (lambda text: text.replace(",,,,\n", ",2,,,\n", 1), "not within 0..1"),
        (lambda text: text.replace(",,,,\n", ",,,0.5,-1\n", 1), "not within 0..1"),
        (lambda text: text.replace(",,,,\n", ",,[1],,\n", 1), "make them with edge-sser train evaluate"),
    ],
)
def test_predictions_that_cannot_be_scored_are_named(tmp_path: Path, change: object, message: str) -> None:
    path = tmp_path / "bad.csv"
    write_predictions(path, toy(good=True))
    path.write_text(change(path.read_text("utf-8")), encoding="utf-8")  # type: ignore[operator]
    with pytest.raises(TrainingError, match=r"bad\.csv") as caught:
        read_predictions(path)
    assert message in str(caught.value)


def test_the_table_sets_systems_beside_each_other() -> None:
    text = markdown_table({"model": evaluate(toy(good=True)), "level-only": evaluate(toy(good=False))})
    rows = [line.split("|")[3].strip() for line in text.splitlines()[2:]]
    assert rows == ["model", "level-only", "model", "level-only"]


def test_an_ablation_says_once_what_is_so_of_all_its_runs_and_else_of_which() -> None:
    def corpora(emotion: str, given: float) -> Sequence[Scores]:
        changed = [replace(item, emotion=emotion, given=given) for item in toy(good=True) if item.corpus == "first"]
        return evaluate(changed).corpora

    nobody, everybody = corpora("", 0.0), corpora("", 1.0)
    lines = render({"labels": [nobody, nobody], "labels + noise": [nobody, nobody]}).splitlines()
    assert [line for line in lines if line.startswith("first")] == [f"first: {line}" for line in nobody[0].remarks()]
    lines = render({"labels": [nobody, nobody], "labels + noise": [nobody, everybody]}).splitlines()
    only = [line for line in lines if line.startswith("first (labels + noise, seed 2): ")]
    assert len(only) == 1
    assert "all its judged clips are stressed" in only[0]
