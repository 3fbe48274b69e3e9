"""`train transfer`: training on all corpora but one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edge_sser.errors import TrainingError
from edge_sser.model.model import Model
from edge_sser.train.corpora.table import Utterance, read_table, write_table
from edge_sser.train.data.features import FeatureStore, windows
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate import transfer as transfer_module
from edge_sser.train.evaluate.metrics import Interval
from edge_sser.train.evaluate.transfer import TransferScore, by_corpus, clip_score, transfer, transfer_table
from edge_sser.train.fit import teaching
from edge_sser.train.fit.checkpoint import load_checkpoint, load_student
from edge_sser.train.fit.run import FitRequest
from edge_sser.train.students.backend import emotion_vote

PRESET = read_preset("quadrant")


@pytest.fixture
def rows(toy_table: Path) -> Sequence[Utterance]:
    """The toy corpus as two corpora of different speakers, and calm speech of a third."""
    rows = read_table(toy_table)
    speakers = sorted({row.speaker for row in rows})
    corpus = {name: "north" if place % 2 else "south" for place, name in enumerate(speakers)}
    named = [replace(row, corpus=corpus[row.speaker]) for row in rows]
    return [
        replace(row, corpus="readers") if row.emotion == "calm" and row.speaker == speakers[0] else row for row in named
    ]


def test_each_corpus_with_both_classes_is_a_fold_and_the_others_are_always_trained_on(
    rows: Sequence[Utterance],
) -> None:
    table, tested = by_corpus(rows, PRESET)
    assert tested == ["north", "south"]
    assert {(row.corpus, row.fold) for row in table} == {("north", 1), ("south", 2), ("readers", 0)}


def test_a_single_corpus_is_refused(toy_table: Path) -> None:
    with pytest.raises(TrainingError, match="needs two corpora"):
        by_corpus(read_table(toy_table), PRESET)


def test_no_clip_of_the_tested_corpus_was_trained_on(
    rows: Sequence[Utterance], toy_recipe: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    rows = [replace(row, corpus="south" if row.corpus == "readers" else row.corpus) for row in rows]
    request = FitRequest(
        table=tmp_path / "table.csv", out=tmp_path / "out", recipe=str(toy_recipe), threads=1,
        changes=["optimisation.epochs=3", "sampling.shares={}"],
    )  # fmt: skip
    write_table(request.table, rows)
    found = transfer(request, rows, [1, 2], lambda line: None)
    assert [(score.corpus, score.seed) for score in found] == [("north", 1), ("south", 1), ("north", 2), ("south", 2)]
    assert all(0.0 <= score.values[0] <= 1.0 for score in found)
    header = load_checkpoint(tmp_path / "out" / "seed-2" / "fold-1" / "model.safetensors").header
    assert [corpus["name"] for corpus in header["corpora"]] == ["south"]
    assert header["recipe"]["optimisation"]["seed"] == 2


def test_the_scores_have_the_vote_of_the_emotions(
    rows: Sequence[Utterance], toy_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    request = FitRequest(
        table=tmp_path / "table.csv", out=tmp_path / "out", recipe=str(toy_recipe), threads=1,
        changes=["optimisation.epochs=1", "sampling.shares={}", "emotion_share=1"],
    )  # fmt: skip
    scores: dict[str, float] = {}

    def record(model: Model, store: FeatureStore, clip: Utterance) -> float:
        scores[clip.sha256] = clip_score(model, store, clip)
        return scores[clip.sha256]

    monkeypatch.setattr(transfer_module, "clip_score", record)
    transfer(request, rows, [1], lambda line: None)
    student, recipe, header = load_student(tmp_path / "out" / "seed-1" / "fold-1" / "model.safetensors")
    clips = [clip for clip in by_corpus(rows, PRESET)[0] if clip.fold == 1]
    store = FeatureStore(clips, tmp_path)
    vote = emotion_vote(recipe)
    assert vote is not None
    for clip in clips:
        with torch.inference_mode():
            logits = student(torch.from_numpy(windows(store[clip])))
        log_odds = vote.log_odds(logits.emotions.numpy(), header["emotions"])
        assert scores[clip.sha256] == pytest.approx(float(log_odds.mean()), abs=1e-5)


def test_the_seeds_share_one_teacher_and_one_number_of_threads(
    rows: Sequence[Utterance], toy_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    fitted: list[FitRequest] = []

    def make(utterances: object, folds: Sequence[int | None], recipe: object, out: Path, bar: object) -> None:
        made.append(out)

    score = TransferScore("north", 1, (0.5,) * 6, Interval(0.5, 0.4, 0.6))
    monkeypatch.setattr(teaching, "make_encoder_teachers", make)
    monkeypatch.setattr(transfer_module, "fit_all", lambda request, *_: fitted.append(request))
    monkeypatch.setattr(transfer_module, "load_student", lambda path: (None, None, None))
    monkeypatch.setattr(transfer_module, "trained_model", lambda *_: None)
    monkeypatch.setattr(transfer_module, "FeatureStore", lambda table, cache: None)
    monkeypatch.setattr(transfer_module, "score_corpus", lambda *_: score)
    request = FitRequest(
        table=tmp_path / "table.csv", out=tmp_path / "out", recipe=str(toy_recipe), threads=1,
        teachers=["whisper-tiny"], changes=["distillation.emotion=1", "optimisation.seed=7"],
    )  # fmt: skip
    transfer(request, rows, [1, 2], lambda line: None)
    assert made == [tmp_path / "out" / "teacher" / "whisper-tiny"]
    assert [each.teacher_folders for each in fitted] == [[made[0]]] * 2
    assert [(each.plan.optimisation.seed, each.threads) for each in fitted] == [(1, 1), (2, 1)]


def test_the_table_has_means_over_seeds_and_their_spread() -> None:
    def score(corpus: str, seed: int, value: float) -> TransferScore:
        return TransferScore(corpus, seed, (value, value, math.nan, 0.5, 0.5, 0.5), Interval(value, 0.4, 0.8))

    text = transfer_table([score("a", 1, 0.6), score("b", 1, 0.8), score("a", 2, 0.7), score("b", 2, 0.9)])
    assert "| a | 0.650 | 0.650 | - | 0.500 | 0.500 | 0.500 | 0.400 to 0.800 |" in text
    assert "| **mean** | 0.750 |" in text
    assert "seeds 0.700 to 0.800" in text
