"""Models of a run or of a file: each speaker is scored by a model that was not trained on that speaker."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_sser.errors import TrainingError, UsageError
from edge_sser.model.model import Model
from edge_sser.train.corpora.folds import check_disjoint, split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.predictions import Origin, Prediction, predict
from edge_sser.train.evaluate.score_table import ScoreTable

if TYPE_CHECKING:
    from torch import nn

    from edge_sser.train.recipe import Recipe

_HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True, slots=True)
class Models:
    """Models of one system.

    Attributes:
        origin: name, seed and training data.
        final: the model for speakers that no fold was trained on: the run's final one, or that of a file.
        by_fold: the model that was not trained on a fold's speakers; empty for a file.
        fold_of: fold of each (corpus, speaker) of the training table; empty for a file.
        calibrated: True when the models came with a calibration, which is kept.
        missing: folds whose model the run lacks; None is the final one. Their speakers are not scored.
    """

    origin: Origin
    final: Model
    by_fold: Mapping[int, Model] = field(default_factory=dict)
    fold_of: Mapping[tuple[str, str], int] = field(default_factory=dict)
    calibrated: bool = False
    missing: frozenset[int | None] = frozenset()

    def has_model_for(self, utterance: Utterance) -> bool:
        """Returns True when there is a model that was not trained on this speaker."""
        return self.fold(utterance) not in self.missing

    def fold(self, utterance: Utterance) -> int | None:
        """Returns the fold whose model scores an utterance; None for the final one."""
        return self.fold_of.get((utterance.corpus, utterance.speaker))

    def model_for(self, utterance: Utterance) -> Model:
        """Returns the model that was not trained on this speaker; see `has_model_for`."""
        fold = self.fold(utterance)
        return self.final if fold is None else self.by_fold[fold]

    def predict(
        self,
        utterances: Sequence[Utterance],
        *,
        gain_db: float = 0.0,
        progress: Callable[[Utterance], None] = lambda utterance: None,
    ) -> list[Prediction]:
        """Predicts each utterance by `model_for` it, in the order given; see `predictions.predict`."""
        return [
            prediction
            for utterance in utterances
            for prediction in predict(self.model_for(utterance), [utterance], gain_db=gain_db, progress=progress)
        ]

    def calibrate(self, table: ScoreTable) -> None:
        """Fits each model's calibration on the clips of the other folds, unless the models came with one."""
        if self.calibrated:
            return
        for fold, model in self.by_fold.items():
            model.card = replace(model.card, calibration=table.calibration_without(fold) or model.card.calibration)
        if self.final not in self.by_fold.values():
            found = table.calibration(table.judged)
            self.final.card = replace(self.final.card, calibration=found or self.final.card.calibration)


def open_run(folder: Path, fitted: Sequence[Utterance], tested: Sequence[Utterance], name: str | None = None) -> Models:
    """Opens the models of a run of `train fit`.

    Args:
        folder: of the run.
        fitted: the table of the run.
        tested: utterances to score; speakers of the run's table need the model of their fold, others its final one.
        name: of the system; the recipe's when None.

    Raises:
        TrainingError: all models that are needed are missing, a fold was trained on other recordings, or would be
            scored on its training data.
    """
    from edge_sser.train.fit.checkpoint import MODEL_FILE, data_key, load_student, run_folder

    fold_of = {(clip.corpus, clip.speaker): clip.fold for clip in fitted}
    known = [clip for clip in tested if (clip.corpus, clip.speaker) in fold_of]
    final = run_folder(folder, None) / MODEL_FILE
    needed: list[int | None] = [*sorted({fold_of[clip.corpus, clip.speaker] for clip in known})]
    if len(known) < len(tested):
        needed.append(None)
    missing = frozenset(fold for fold in needed if not (run_folder(folder, fold) / MODEL_FILE).is_file())
    if len(missing) == len(needed):
        raise TrainingError(missing_message(folder, missing))
    present = [fold for fold in needed if fold not in missing]
    if None not in present and final.exists():
        present.append(None)
    found: dict[int | None, Model] = {}
    origin = None
    for fold in present:
        path = run_folder(folder, fold) / MODEL_FILE
        training, _ = split(fitted, fold)
        student, recipe, header = load_student(path)
        if header["data"] != data_key(training):
            raise TrainingError(
                f"{path} was trained on other recordings than this table leaves for {path.parent.name}: give the table "
                "that train fit was given"
            )
        check_disjoint(training, [clip for clip in tested if fold_of.get((clip.corpus, clip.speaker)) == fold])
        found[fold] = trained_model(student, recipe, header, path)
        origin = Origin(
            system=name or recipe.name,
            seed=recipe.optimisation.seed,
            trained_on=tuple(sorted({clip.corpus for clip in fitted})),
            preset=recipe.preset,
            emotion_share=_emotion_share(found[fold]),
        )
    assert origin is not None  # there is always something to be scored
    by_fold = {fold: model for fold, model in found.items() if fold is not None}
    return Models(origin, found.get(None) or next(iter(by_fold.values())), by_fold, fold_of, missing=missing)


def open_file(path: Path, tested: Sequence[Utterance] = (), name: str | None = None) -> Models:
    """Opens a model file (.onnx) or checkpoint (.safetensors), which scores all speakers.

    Corpora that it was trained on are marked as heard: scores on them say nothing of strangers.

    Raises:
        EdgeSserError: the file cannot be used.
    """
    if path.suffix == ".safetensors":
        from edge_sser.train.fit.checkpoint import load_student

        student, recipe, header = load_student(path)
        corpora = header.get("corpora", ())
        model = trained_model(student, recipe, header, path)
        preset: str = recipe.preset
    else:
        model = Model.load(path)
        corpora, preset = model.card.training, model.card.stress_preset
    trained_on = tuple(sorted(str(corpus["name"]) for corpus in corpora))
    heard = tuple(sorted({clip.corpus for clip in tested} & set(trained_on)))
    share = _emotion_share(model)
    origin = Origin(system=name or path.name, trained_on=trained_on, preset=preset, heard=heard, emotion_share=share)
    return Models(origin, model, calibrated=path.suffix == ".onnx")


def trained_model(student: nn.Module, recipe: Recipe, header: Mapping[str, Any], path: Path) -> Model:
    """Returns a student as a model, with the vote of the emotions that its recipe gives."""
    from edge_sser.train.students.backend import emotion_vote, student_model

    emotions, vote = header.get("emotions", EMOTIONS), emotion_vote(recipe, header.get("preset"))
    return student_model(student, name=recipe.name, emotions=emotions, path=path, vote=vote)


def open_models(path: Path, fitted: Sequence[Utterance], tested: Sequence[Utterance], name: str | None) -> Models:
    """Opens a run's folder, a model file or a checkpoint; see `open_run` and `open_file`.

    Raises:
        UsageError: the path is none of these, or a run comes without its table.
    """
    if path.is_dir():
        if not fitted:
            raise UsageError("give the run's table of utterances: --table FILE")
        return open_run(path, fitted, tested, name)
    if path.suffix not in (".onnx", ".safetensors"):
        raise UsageError(
            f"{path}: expected the folder of a run of train fit, an .onnx model file or a .safetensors one"
        )
    return open_file(path, tested, name)


def _emotion_share(model: Model) -> float:
    vote = model.card.emotion_vote
    return vote.share if vote else 0.0


def missing_message(run: Path, missing: Collection[int | None]) -> str:
    """Returns a message with the models that a run lacks, and how to train them."""
    from edge_sser.train.fit.checkpoint import run_folder

    folds = sorted(fold for fold in missing if fold is not None)
    remedies = {
        **({"--fold": "every fold's speakers"} if folds else {}),
        **({"--no-final": "speakers that are in no fold"} if None in missing else {}),
    }
    names = [run_folder(run, fold).name for fold in [*folds, *([None] if None in missing else [])]]
    return (
        f"{run} has no {', '.join(names)}: train it with the same train fit command, "
        f"without {' and '.join(remedies)}, to score {' and '.join(remedies.values())}"
    )


@dataclass(frozen=True, slots=True)
class History:
    """Training history of one fold.

    Attributes:
        part: `fold-1`, `final` and so on.
        epochs: their numbers, rising.
        values: by name, one an epoch; None where an epoch has none.
    """

    part: str
    epochs: Sequence[int]
    values: Mapping[str, Sequence[float | None]]


def read_histories(run: Path) -> list[History]:
    """Reads the training histories of a run's parts, in alphabetical order; parts without one are left out.

    A history stands in `history.jsonl`, one JSON object an epoch, or in the header of the checkpoint.

    Raises:
        TrainingError: a file is malformed.
    """
    found = (_history(folder) for folder in sorted(run.iterdir()) if folder.is_dir())
    return [history for history in found if history is not None]


def _history(folder: Path) -> History | None:
    from edge_sser.train.fit.checkpoint import MODEL_FILE, load_checkpoint

    path, model = folder / _HISTORY_FILE, folder / MODEL_FILE
    if path.is_file():
        lines = list(_lines(path))
    elif model.is_file():
        lines = list(load_checkpoint(model).header.get("history", ()))
    else:
        return None
    epochs: dict[int, dict[str, float]] = {}
    for values in lines:
        number = values["epoch"] if "epoch" in values else values["number"]
        numbers = dict(_numbers({name: value for name, value in values.items() if name not in ("epoch", "number")}))
        epochs[int(number)] = numbers  # an epoch repeated after an interruption counts once
    names = sorted({name for values in epochs.values() for name in values})
    ordered = sorted(epochs)
    if not ordered:
        return None
    return History(folder.name, ordered, {name: [epochs[epoch].get(name) for epoch in ordered] for name in names})


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            int(values["epoch"])
        except (ValueError, KeyError, TypeError):
            if number == len(lines):  # cut short when the run was killed
                return
            raise TrainingError(f"{path}, line {number}: expected a JSON object with epoch: remove the file") from None
        yield values


def _numbers(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Returns the numbers of a line; those of nested tables are prefixed with the table's name."""
    out: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            out += _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out.append((prefix + name, float(value)))
    return out
