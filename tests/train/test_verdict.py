"""The verdict on a model: usable, weak, below the level meter, or one answer for everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_sser.train.evaluate.predictions import Prediction, read_origin, read_predictions
from edge_sser.train.evaluate.systems import System, group_systems, score
from edge_sser.train.evaluate.verdict import Grade, Verdict, verdicts

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def systems(change: Callable[[Prediction], Prediction] = lambda item: item, *, level: bool = True) -> list[System]:
    names = ("sser-cnn", "level-only") if level else ("sser-cnn",)
    scored = []
    for name in names:
        found = [item for item in read_predictions(RESULTS / f"{name}.csv") if item.corpus in ("ravdess", "nemo")]
        found = [change(item) for item in found] if name == "sser-cnn" else found
        scored.append(score(read_origin(RESULTS / f"{name}.csv"), found))
    return group_systems(scored, draws=2)


def one_emotion(item: Prediction) -> Prediction:
    return replace(item, emotions=(1.0, *[0.0] * (len(item.emotions) - 1)))


def judge(change: Callable[[Prediction], Prediction] = lambda item: item, *, level: bool = True) -> Verdict:
    (verdict,) = verdicts(systems(change, level=level))
    return verdict


def test_the_committed_predictions_are_usable_with_care():
    verdict = judge()
    assert verdict.grade is Grade.USABLE
    assert "ravdess (stress AUROC 0.94, level meter 0.81)" in verdict.text
    assert "women and men are not served alike on nemo, ravdess" in verdict.text


def test_one_class_for_everything_is_degenerate():
    constant = judge(lambda item: one_emotion(replace(item, stress=0.5)))
    assert constant.grade is Grade.DEGENERATE
    assert "one answer for everything" in constant.headline
    assert "One answer for all clips of nemo" in constant.text


def test_one_emotion_for_everything_is_degenerate_although_stress_is_ranked_well():
    one = judge(one_emotion)
    assert one.grade is Grade.DEGENERATE


def test_a_model_below_the_level_meter_is_called_that():
    inverted = judge(lambda item: replace(item, stress=1.0 - item.stress))
    assert inverted.grade is Grade.BELOW_LEVEL
    assert "no better than a level meter" in inverted.headline


def test_a_missing_level_meter_is_told():
    assert "give --predictions of level-only" in judge(level=False).text


@pytest.mark.parametrize("heard", [(), ("ravdess",)])
def test_speakers_heard_in_training_are_told(heard):
    found = systems()
    changed = [replace(system, origin=replace(system.origin, heard=heard)) for system in found]
    assert ("Heard in training" in verdicts(changed)[0].text) is bool(heard)
