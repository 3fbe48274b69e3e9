"""Schedules of training: the running average, the size of an epoch, the number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.data.sampling import Sampler, epoch_size
from edge_sser.train.evaluate.metrics import auroc
from edge_sser.train.evaluate.models import trained_model
from edge_sser.train.evaluate.transfer import clip_score
from edge_sser.train.fit.checkpoint import load_student
from edge_sser.train.fit.run import fit
from edge_sser.train.fit.schedule import average_decay
from edge_sser.train.fit.threads import candidates, choose_threads, fastest
from edge_sser.train.recipe import Recipe, read_recipe


def test_the_average_forgets_the_initial_weights_and_ends_at_the_recipes_decay() -> None:
    kept = np.prod([average_decay(0.995, step) for step in range(100)])
    assert kept < 1e-6  # .61 without the warm-up
    assert average_decay(0.995, 10_000) == 0.995


@pytest.mark.parametrize(
    ("asked", "clips", "drawn"), [(2400, 5000, 2400), (2400, 900, 1800), (2400, 10, 640), (32, 10, 32)]
)
def test_a_small_corpus_has_shorter_epochs(asked: int, clips: int, drawn: int) -> None:
    assert epoch_size(asked, clips) == drawn


def test_weights_give_each_corpus_its_share(toy_table: Path) -> None:
    rows = [replace(row, corpus="a" if place % 4 else "b") for place, row in enumerate(read_table(toy_table))]
    weights = Sampler(rows, {"b": 0.5}, len(rows)).weights()
    inside = np.array([row.corpus == "b" for row in rows])
    assert weights.mean() == pytest.approx(1.0)
    assert weights[inside].sum() == pytest.approx(weights[~inside].sum())


def test_threads_are_added_while_they_gain_a_tenth() -> None:
    assert fastest(iter([1.0, 0.6, 0.5, 0.49, 0.1])) == 3
    assert fastest(iter([1.0, 3.0, 0.1])) == 1
    assert list(candidates(1)) == [1]
    assert list(candidates(64))[-1] == 8


def test_the_number_of_threads_is_measured_or_as_asked() -> None:
    before = torch.get_num_threads()
    lines: list[str] = []
    try:
        choose_threads(1, lines.append)
        assert (torch.get_num_threads(), lines) == (1, [])
        choose_threads(None, lines.append)
        assert lines == [f"threads: {torch.get_num_threads()}, the fastest here and now; "
                         f"--threads {torch.get_num_threads()} repeats this run"]  # fmt: skip
    finally:
        torch.set_num_threads(before)


def test_progress_moves_within_an_epoch(toy_table: Path, toy_recipe: Path, tmp_path: Path) -> None:
    rows = read_table(toy_table)
    seen: list[float] = []
    changes = ["optimisation.epochs=2", "optimisation.clips_per_epoch=32", "optimisation.batch=8"]
    fit(rows, read_recipe(str(toy_recipe), changes), FeatureStore(rows, tmp_path), tmp_path, on_step=seen.append)
    assert seen == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])


def test_a_short_run_with_the_default_average_learns(toy_table: Path, toy_recipe: Path, tmp_path: Path) -> None:
    rows: Sequence[Utterance] = read_table(toy_table)
    plan: Recipe = read_recipe(str(toy_recipe), ["optimisation.average=0.995"])
    store = FeatureStore(rows, tmp_path)
    path = fit(rows, plan, store, tmp_path / "run")
    model = trained_model(*load_student(path), path)
    scores = np.array([clip_score(model, store, row) for row in rows])
    labels = np.array([int(row.emotion == "angry") for row in rows])
    kept = np.isin([row.emotion for row in rows], ["angry", "calm"])
    assert auroc(labels[kept], scores[kept]) > 0.9
    assert scores[labels == 1].mean() > 0.0 > scores[kept & (labels == 0)].mean()
