"""What predictions tell beyond the headline: groups, intensity, seeds, corpora, and where predictions came from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from voices import voice

from edge_sser.errors import TrainingError, UsageError
from edge_sser.train.corpora.table import read_table
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.evaluate.baselines import fit_baseline, majority, pitch_hz
from edge_sser.train.evaluate.groups import by_sex, by_speaker, intensity_rises
from edge_sser.train.evaluate.models import read_histories
from edge_sser.train.evaluate.offline import measure
from edge_sser.train.evaluate.predictions import Baseline, Origin, Prediction, origin_path, read_origin, write_origin
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.evaluate.scores import evaluate
from edge_sser.train.evaluate.systems import (
    group_systems,
    matrix,
    matrix_rows,
    matrix_table,
    score,
    score_majority,
    system_labels,
)
from edge_sser.train.fit.checkpoint import MODEL_FILE, Checkpoint, save_checkpoint

PRESET = read_preset("quadrant")


def prediction(speaker: str, emotion: str, *, decided: str, stress: float, intensity: str = "normal") -> Prediction:
    """A clip of a speaker whose number is the fold; odd ones are men, even ones women."""
    emotions = np.full(len(EMOTIONS), 0.01)
    emotions[EMOTIONS.index(decided)] = 0.93
    return Prediction(
        path=f"{speaker}/{emotion}.wav", corpus="toy", speaker=speaker, sex="M" if int(speaker) % 2 else "F",
        fold=int(speaker), emotion=emotion, intensity=intensity, emotions=tuple(emotions), stress=stress,
    )  # fmt: skip


def crowd(wrong: dict[str, int] | None = None, speakers: int = 4) -> list[Prediction]:
    """Speakers of 10 angry and 10 calm clips each; `wrong` says how many angry ones of a speaker are taken for calm."""
    out = []
    for number in range(1, speakers + 1):
        missed = (wrong or {}).get(str(number), 0)
        for place in range(10):
            decision = "calm" if place < missed else "angry"
            out.append(
                prediction(str(number), "angry", decided=decision, stress=0.1 if place < missed else 0.9 - place / 100)
            )
            out.append(prediction(str(number), "calm", decided="calm", stress=0.1 + place / 1000))
    return out


def test_gaps_between_the_sexes_are_those_of_their_confusion_matrices() -> None:
    table = ScoreTable(crowd({"1": 4, "3": 4}), PRESET)
    gaps = by_sex(table, np.ones(80, dtype=np.bool_))
    assert gaps is not None
    found = {check.name: check for check in gaps.checks}
    # Men: 12 of 20 angry clips found, 20 of 20 calm ones; calm is decided 28 times. Women: all right.
    assert found["UA gap of the emotions"].value == pytest.approx(1.0 - (0.6 + 1.0) / 2)
    assert found["largest recall gap of an emotion"].value == pytest.approx(0.4)
    assert found["largest precision gap of an emotion"].value == pytest.approx(1.0 - 20 / 28)
    assert found["UA gap of the emotions"].passed is False
    assert found["recall gap of stress"].value == pytest.approx(0.4)


def test_speakers_are_held_against_all_and_those_with_few_clips_are_not() -> None:
    few = [prediction("5", "angry", decided="calm", stress=0.01), prediction("5", "calm", decided="angry", stress=0.99)]
    table = ScoreTable([*crowd({"2": 5}), *few], PRESET)
    gaps = by_speaker(table, np.ones(82, dtype=np.bool_))
    assert [each.name for each in gaps.groups] == ["1", "2", "3", "4", "5"]
    assert gaps.groups[4].ua == 0.0
    found = {check.name: check.value for check in gaps.checks}
    whole = (35 / 41 + 40 / 41) / 2
    assert found["UA of the emotions, worst speaker"] == pytest.approx(whole - 0.75)  # of speaker 2, not of 5


def test_equal_groups_have_no_gap() -> None:
    gaps = by_sex(ScoreTable(crowd(), PRESET), np.ones(80, dtype=np.bool_))
    assert gaps is not None
    assert all(check.value == 0.0 and check.passed for check in gaps.checks)


def test_a_corpus_of_one_sex_has_no_gap_between_sexes() -> None:
    women = [item for item in crowd() if item.sex == "F"]
    assert by_sex(ScoreTable(women, PRESET), np.ones(40, dtype=np.bool_)) is None


def test_stress_must_rise_with_intensity_and_one_sided_emotions_do_not_tip_the_balance() -> None:
    clips = [
        prediction(speaker, emotion, decided=emotion, stress=stress, intensity=intensity)
        for speaker in ("1", "2")
        for emotion, intensity, stress in (
            ("angry", "normal", 0.4), ("angry", "strong", 0.8), ("sad", "normal", 0.3), ("sad", "strong", 0.2),
            ("neutral", "normal", 0.99),
        )
    ]  # fmt: skip
    rises = intensity_rises(ScoreTable(clips, PRESET), np.ones(10, dtype=np.bool_))
    assert [(rise.emotion, rise.passed, rise.speakers) for rise in rises] == [
        ("all", True, 1.0),
        ("sad", False, 0.0),
        ("angry", True, 1.0),
    ]


def test_the_details_add_up_to_the_headline() -> None:
    predictions = crowd({"1": 4, "2": 1})
    found = measure(ScoreTable(predictions, PRESET), draws=50)["toy"]
    scores = evaluate(predictions).corpora[0]
    assert found.scores == scores
    assert found.emotions.classes == ["calm", "angry"]
    assert found.emotions.matrix.tolist() == [[40, 0], [5, 35]]
    assert found.emotions.ua == pytest.approx(found.intervals.ua.value) == pytest.approx((1 + 35 / 40) / 2)
    assert np.mean([fold.ua for fold in found.folds]) == pytest.approx(scores.ua)
    assert found.prevalence == 0.5
    half = next(each for each in found.operating if each.threshold == 0.5)
    assert (1.0 - half.found, half.false) == pytest.approx((scores.missed, scores.false_alarms))
    assert [each.found for each in found.operating] == sorted((each.found for each in found.operating), reverse=True)
    assert found.intervals.auroc.value == scores.auroc_pooled
    assert found.intervals.ua.low < found.intervals.ua.value < found.intervals.ua.high


def test_seeds_of_a_system_stand_together_with_their_worst_fold() -> None:
    scored = [score(Origin(system="net", seed=seed), crowd({"1": wrong})) for seed, wrong in ((2, 6), (1, 2))]
    assert system_labels([one.origin for one in scored]) == ["net (seed 2)", "net (seed 1)"]
    (system,) = group_systems(scored, draws=20)
    repeats = system.repeats["toy"]
    assert repeats.seeds == [1, 2]
    mean, worst, spread = repeats.summary(repeats.ua)
    assert mean == pytest.approx(1.0 - (0.1 + 0.3) / 8)
    assert worst == pytest.approx(0.7)
    assert spread == pytest.approx(np.std([1 - 0.1 / 4, 1 - 0.3 / 4], ddof=1))


def test_two_systems_of_one_name_and_seed_are_refused() -> None:
    scored = [score(Origin(system="net", seed=1), crowd())] * 2
    with pytest.raises(UsageError, match=r"two systems are called net \(seed 1\)"):
        group_systems(scored)


def test_seeds_that_were_tested_on_other_folds_are_refused() -> None:
    scored = [score(Origin(system="net", seed=1), crowd()), score(Origin(system="net", seed=2), crowd(speakers=3))]
    with pytest.raises(UsageError, match="not tested on the same folds of toy"):
        group_systems(scored)


def test_the_matrix_tells_strangers_from_acquaintances_and_has_the_level_meter_beside_it() -> None:
    elsewhere = [replace(item, corpus="elsewhere") for item in crowd()]
    meter = [replace(item, stress=0.5) for item in [*crowd(), *elsewhere]]
    scored = [
        score(Origin(system="net", seed=1, trained_on=("toy",), heard=("toy",)), [*crowd({"1": 4}), *elsewhere]),
        score(Origin(system=Baseline.LEVEL.value, baseline=True), meter),
    ]
    cells = {cell.tested_on: cell for cell in matrix(group_systems(scored, draws=20))}
    assert (cells["toy"].stranger, cells["toy"].heard) == (False, True)
    assert (cells["elsewhere"].stranger, cells["elsewhere"].heard, cells["elsewhere"].auroc) == (True, False, 1.0)
    assert {cell.level for cell in cells.values()} == {0.5}


def test_the_matrix_has_a_row_for_each_system_whatever_files_its_scores_come_in() -> None:
    elsewhere = [replace(item, corpus="elsewhere") for item in crowd()]
    scored = [
        score(Origin(system="net", trained_on=("toy",)), crowd()),
        score(Origin(system="net-on-elsewhere", trained_on=("toy",)), elsewhere),
        score(Origin(system="teacher", trained_on=("toy",)), elsewhere),
        score(Origin(system="both", trained_on=("elsewhere", "toy")), [*crowd({"1": 4}), *elsewhere]),
        score(Origin(system="found", trained_on=None), crowd()),
    ]
    rows = matrix_rows(matrix(group_systems(scored, draws=2)))
    assert [(row.systems, sorted(row.cells)) for row in rows] == [
        (["net", "net-on-elsewhere"], ["elsewhere", "toy"]),
        (["teacher"], ["elsewhere"]),
        (["both"], ["elsewhere", "toy"]),
        (["found"], ["toy"]),
    ]
    lines = matrix_table(matrix(group_systems(scored, draws=2))).splitlines()
    assert lines[0] == "| system | trained on | elsewhere | toy |"
    assert lines[2] == "| net, net-on-elsewhere | toy | 1.000 (1.000) / - new corpus | 1.000 (1.000) / - |"
    assert lines[5] == "| found | not known | - | 1.000 (1.000) / - |"


def test_who_hears_nothing_scores_chance_however_the_folds_differ() -> None:
    predictions = [*crowd(speakers=2), *(item for item in crowd() if item.speaker == "3" and item.emotion == "angry")]
    found = score_majority(predictions, "quadrant").evaluation.corpora[0]
    assert (found.auroc, found.auroc_pooled, found.ua) == (0.5, 0.5, pytest.approx((0.5 + 0.5 + 1.0) / 3, abs=0.2))
    assert {item.stress for item in majority(predictions, "quadrant")} == {30 / 50}


def test_pitch_is_found_and_noise_and_silence_have_none() -> None:
    for hertz in (80.0, 130.0, 240.0, 450.0):
        found = pitch_hz(voice(pitch_hz=hertz, syllables_hz=3.0, seconds=1.5, seed=2))
        assert np.median(found) == pytest.approx(hertz, rel=0.01)
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert pitch_hz(noise).size == 0
    assert pitch_hz(np.zeros(16_000, dtype=np.float32)).size == 0
    assert pitch_hz(noise[:500]).size == 0


def test_level_and_pitch_know_what_level_alone_does_not(toy_table: Path) -> None:
    rows = read_table(toy_table)
    level, pitch = (
        evaluate(fit_baseline(rows, "quadrant", kind)).corpora[0] for kind in (Baseline.LEVEL, Baseline.LEVEL_PITCH)
    )
    assert level.auroc < 0.8  # the toy voices are equally loud
    assert pitch.auroc == 1.0  # and differ in pitch


def test_predictions_say_what_made_them(tmp_path: Path) -> None:
    origin = Origin(system="net", seed=3, trained_on=("a", "b"), heard=("b",))
    write_origin(tmp_path / "x.csv", origin)
    assert read_origin(tmp_path / "x.csv") == origin
    assert read_origin(tmp_path / "bare.csv") == Origin(system="bare")
    assert read_origin(tmp_path / "level-only.csv").baseline


@pytest.mark.parametrize("text", ["", "{}", '{"system": "net", "seed": "many"}', "[1]"])
def test_an_origin_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    origin_path(tmp_path / "x.csv").write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match=r"x\.json: .*expected the origin of x\.csv"):
        read_origin(tmp_path / "x.csv")


def test_training_curves_survive_a_kill_and_a_resumed_epoch(tmp_path: Path) -> None:
    lines = [
        {"epoch": 1, "loss": 2.0, "scores": {"ua": 0.4}},
        {"epoch": 2, "loss": 1.0, "scores": {"ua": 0.5}, "note": "text"},
        {"epoch": 2, "loss": 1.5},
    ]
    path = tmp_path / "fold-1" / "history.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"epoch": 3, "lo', encoding="utf-8")
    (found,) = read_histories(tmp_path)
    assert (found.part, found.epochs) == ("fold-1", [1, 2])
    assert found.values == {"loss": [2.0, 1.5], "scores.ua": [0.4, None]}


def test_training_curves_are_also_found_in_the_header_of_a_checkpoint(tmp_path: Path) -> None:
    history = [{"number": 1, "loss": 2.0, "scores": {}}, {"number": 2, "loss": 1.0, "scores": {"ua": 0.5}}]
    for part, header in (("final", {"history": history}), ("fold-1", {})):
        save_checkpoint(tmp_path / part / MODEL_FILE, Checkpoint({"x": torch.zeros(1)}, header))
    (tmp_path / "cache").mkdir()
    (found,) = read_histories(tmp_path)
    assert (found.part, found.epochs) == ("final", [1, 2])
    assert found.values == {"loss": [2.0, 1.0], "scores.ua": [None, 0.5]}


def test_training_curves_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "fold-1" / "history.jsonl"
    path.parent.mkdir()
    path.write_text('nonsense\n{"epoch": 1}\n', encoding="utf-8")
    with pytest.raises(TrainingError, match=r"history\.jsonl, line 1"):
        read_histories(tmp_path)
