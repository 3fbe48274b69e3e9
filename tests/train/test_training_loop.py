"""The training loop: killed, stopped early, on several processes, on a disk that fills."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from tqdm import tqdm

from edge_sser.errors import TrainingError
from edge_sser.train.corpora.folds import split
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.features import FeatureStore
from edge_sser.train.evaluate.predictions import predict
from edge_sser.train.fit.checkpoint import MODEL_FILE, load_checkpoint, load_student
from edge_sser.train.fit.loop import BEST_FILE, LAST_FILE, Epoch
from edge_sser.train.fit.parallel import World
from edge_sser.train.fit.run import fit
from edge_sser.train.fit.validation import split_validation
from edge_sser.train.recipe import Recipe, read_recipe
from edge_sser.train.teachers.make import make_ensemble


@pytest.fixture(scope="module")
def rows(toy_table: Path) -> Sequence[Utterance]:
    torch.set_num_threads(1)
    return read_table(toy_table)


@pytest.fixture(scope="module")
def store(rows: Sequence[Utterance], tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return FeatureStore(rows, tmp_path_factory.mktemp("features"))


def changed(toy_recipe: Path, **tables: Mapping[str, Any]) -> Recipe:
    values = read_recipe(str(toy_recipe)).model_dump(mode="json", exclude_none=True)
    for name, table in tables.items():
        values[name] = {**values.get(name, {}), **table}
    return Recipe.model_validate(values)


def same_weights(one: Path, two: Path) -> bool:
    first, second = load_checkpoint(one).tensors, load_checkpoint(two).tensors
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def command(*arguments: str | Path, processes: int = 0) -> list[str]:
    # Standalone: they meet at a port that is free, not at the one that every such run on a machine would take.
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes else []
    return [sys.executable, *start, "-m", "edge_sser.cli", "train", "fit", *map(str, arguments)]


def test_a_killed_run_goes_on_and_ends_with_the_same_bits(toy_table: Path, toy_recipe: Path, tmp_path: Path) -> None:
    def arguments(out: str) -> tuple[str | Path, ...]:
        return (
            toy_table, "--recipe", toy_recipe, "--out", tmp_path / out, "--fold", "1", "--no-final", "--threads", "1",
            "--set", "optimisation.epochs=12",
        )  # fmt: skip

    last = tmp_path / "killed" / "fold-1" / LAST_FILE
    process = subprocess.Popen(command(*arguments("killed")), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not last.exists() or len(load_checkpoint(last).header["progress"]["history"]) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for out in ("killed", "whole"):
        subprocess.run(command(*arguments(out)), check=True, capture_output=True, timeout=300)
    assert same_weights(tmp_path / "killed" / "fold-1" / MODEL_FILE, tmp_path / "whole" / "fold-1" / MODEL_FILE)
    assert {path.name for path in last.parent.iterdir()} == {MODEL_FILE}


def test_validation_speakers_are_not_learnt_from_and_do_not_depend_on_the_order(rows: Sequence[Utterance]) -> None:
    training = split(rows, 1)[0]
    kept, validation = split_validation(training, 0.4)
    assert sorted(kept + validation) == list(range(len(training)))
    speakers = {training[place].speaker for place in validation}
    assert len(speakers) == 2
    assert speakers.isdisjoint(training[place].speaker for place in kept)
    assert {training[::-1][place].speaker for place in split_validation(training[::-1], 0.4)[1]} == speakers
    with pytest.raises(TrainingError, match="validation"):
        split_validation([clip for clip in training if clip.speaker == training[0].speaker], 0.5)


def test_a_person_of_two_corpora_is_on_one_side_of_the_validation(rows: Sequence[Utterance]) -> None:
    training = [replace(clip, person=f"person {clip.speaker}") for clip in split(rows, 1)[0]]
    both = [*training, *(replace(clip, corpus=f"other {name}") for name in range(4) for clip in training)]
    kept, validation = split_validation(both, 0.2)
    assert not {both[place].voice for place in kept} & {both[place].voice for place in validation}


def test_with_validation_the_best_epoch_is_kept(
    rows: Sequence[Utterance], store: FeatureStore, toy_recipe: Path, tmp_path: Path
) -> None:
    best: dict[str, Any] = {"sum": 0.0}

    def note(epoch: Epoch) -> None:
        assert set(epoch.scores) == {"ua", "auroc"}
        if sum(epoch.scores.values()) > best["sum"]:
            best["sum"] = sum(epoch.scores.values())
            best["weights"] = load_checkpoint(tmp_path / BEST_FILE).tensors

    recipe = changed(toy_recipe, validation={"share": 0.4})
    checkpoint = load_checkpoint(fit(split(rows, 1)[0], recipe, store, tmp_path, note))
    assert all(torch.equal(value, best["weights"][name]) for name, value in checkpoint.tensors.items())
    scores = [sum(epoch["scores"].values()) for epoch in checkpoint.header["history"]]
    assert len(scores) == 5
    assert max(scores) == best["sum"]
    assert [path.name for path in tmp_path.iterdir()] == [MODEL_FILE]


def test_training_ends_when_nothing_gets_better(
    rows: Sequence[Utterance], store: FeatureStore, toy_recipe: Path, tmp_path: Path
) -> None:
    recipe = changed(
        toy_recipe,
        validation={"share": 0.4, "patience": 1, "every": 2},
        optimisation={"learning_rate": 1e-12, "average": 1.0, "clips_per_epoch": 16, "epochs": 50},
    )
    epochs: list[Epoch] = []
    fit(split(rows, 1)[0], recipe, store, tmp_path, epochs.append)
    assert [bool(epoch.scores) for epoch in epochs] == [False, True, False]


def test_a_gradient_that_is_no_number_changes_no_weight_and_is_told(
    rows: Sequence[Utterance], store: FeatureStore, toy_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = nn.utils.clip_grad_norm_
    calls = 0

    def broken(parameters: Any, longest: float) -> Any:
        nonlocal calls
        calls += 1
        return torch.tensor(float("nan")) if calls == 13 else clip(parameters, longest)

    monkeypatch.setattr("edge_sser.train.fit.loop.nn.utils.clip_grad_norm_", broken)
    with pytest.raises(TrainingError, match=r"gradient is nan in epoch 2, batch 3.*last good epoch"):
        fit(split(rows, 1)[0], changed(toy_recipe), store, tmp_path)
    last = load_checkpoint(tmp_path / LAST_FILE)
    assert len(last.header["progress"]["history"]) == 1
    assert all(bool(value.isfinite().all()) for value in last.tensors.values())


@contextlib.contextmanager
def little_room(folder: Path, size: int) -> Iterator[Path]:
    """A folder on a disk of that size where we may mount one, else one whose files may not grow beyond it."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        yield folder


def test_a_disk_that_fills_keeps_the_last_good_epoch_and_the_run_goes_on_when_there_is_room(
    rows: Sequence[Utterance], store: FeatureStore, toy_recipe: Path, tmp_path: Path
) -> None:
    training = split(rows, 1)[0]
    recipe = changed(toy_recipe, optimisation={"epochs": 3})
    whole = fit(training, recipe, store, tmp_path / "whole")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with little_room(tmp_path / "disk", 2**20) as disk:
        ballast = disk / "ballast"

        def fill(epoch: Epoch) -> None:
            if epoch.number == 2 and disk.is_mount():
                with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
            elif epoch.number == 2:
                resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, limit[1]))

        try:
            with pytest.raises(TrainingError, match=r"cannot be written .*; the old file is unchanged"):
                fit(training, recipe, store, disk / "run", fill)
            with pytest.raises(TrainingError, match=r"features.*make room"):
                FeatureStore(rows, disk)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert len(load_checkpoint(disk / "run" / LAST_FILE).header["progress"]["history"]) == 2
        assert not list((disk / "run").glob("*.part"))
        ballast.unlink(missing_ok=True)
        assert same_weights(fit(training, recipe, store, disk / "run"), whole)


def test_a_batch_is_dealt_so_that_what_is_mixed_with_each_other_stays_together() -> None:
    for batch in (1, 2, 7, 64):
        for size in (1, 2, 3):
            rows = [World(rank, size).rows(batch).tolist() for rank in range(size)]
            assert sorted(chain(*rows)) == list(range(batch))
            assert all([batch - 1 - row for row in part[::-1]] == part for part in rows)


def test_two_processes_give_what_one_gives(
    toy_table: Path, toy_recipe: Path, rows: Sequence[Utterance], store: FeatureStore, tmp_path: Path
) -> None:
    """With batch norm, dropout, mixup, a teacher and validation, so that each of them is shared out rightly.

    Up to rounding: in one process torch's batch norm sums channels-last images one after another, to 5e-6, and Adam
    makes that large where a gradient is all but zero. So what the students say is compared closely, and the losses,
    which differ by far more when something is not shared out, less so.
    """
    training, test = split(rows, 1)
    member = fit(training, changed(toy_recipe, optimisation={"epochs": 1}), store, tmp_path / "member")
    make_ensemble(training, [member], tmp_path / "teacher" / "fold-1", partial(tqdm, disable=True))
    found = []
    for processes in (0, 2):
        out = tmp_path / str(processes)
        arguments: list[str | Path] = [
            toy_table, "--recipe", toy_recipe, "--out", out, "--fold", "1", "--no-final", "--threads", "1",
            "--set", "optimisation.epochs=2", "--set", "augmentation.mixup=0.3", "--set", "validation.share=0.2",
            "--set", "optimisation.batch=15", "--set", "optimisation.clips_per_epoch=75",
            "--teacher", tmp_path / "teacher", "--set", "distillation.teacher_hears=student",
            "--set", "distillation.emotion=1.0", "--set", "distillation.similarity=1.0",
        ]  # fmt: skip
        done = subprocess.run(
            command(*arguments, processes=processes), check=False, capture_output=True, text=True, timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        student, _, header = load_student(out / "fold-1" / MODEL_FILE)
        stress = [item.stress for item in predict(student, test)]
        found.append((stress, [epoch["parts"] for epoch in header["history"]]))
    (one, one_history), (two, two_history) = found
    assert one == pytest.approx(two, abs=2e-4)
    assert set(one_history[0]) == {"emotion", "stress", "intensity", "taught emotion", "similarity"}
    for first, second in zip(one_history, two_history, strict=True):
        assert first == pytest.approx(second, rel=5e-3, abs=5e-4)
