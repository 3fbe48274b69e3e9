"""The models of a run or of a file, and which of them may judge whom: a voice is scored by one that never heard it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_sser.errors import TrainingError, UsageError
from edge_sser.model.model import Model
from edge_sser.train.corpora.folds import check_disjoint, split
from edge_sser.train.corpora.table import Utterance
from edge_sser.train.data.labels import EMOTIONS
from edge_sser.train.evaluate.predictions import Origin, Prediction, predict
from edge_sser.train.evaluate.score_table import ScoreTable


@dataclass(frozen=True, slots=True)
class Models:
    """Models of one system.

    Attributes:
        origin: what they are.
        whole: the model that strangers to the whole training get: the final one, or the only one.
        by_fold: the model that never heard a fold's speakers; empty for a single file.
        fold_of: fold of each (corpus, speaker) that training knew; empty for a single file.
        calibrated: whether the models came with a calibration, which is then kept.
        missing: what the run does not have of what was to be scored; their speakers are judged by nobody.
    """

    origin: Origin
    whole: Model
    by_fold: Mapping[int, Model] = field(default_factory=dict)
    fold_of: Mapping[tuple[str, str], int] = field(default_factory=dict)
    calibrated: bool = False
    missing: frozenset[int | None] = frozenset()

    def judges(self, utterance: Utterance) -> bool:
        """Whether there is a model that never heard this speaker."""
        return self.fold(utterance) not in self.missing

    def fold(self, utterance: Utterance) -> int | None:
        """The fold whose model judges an utterance; None for the whole one."""
        return self.fold_of.get((utterance.corpus, utterance.speaker))

    def judge(self, utterance: Utterance) -> Model:
        """The model that never heard this speaker, where there is one."""
        fold = self.fold(utterance)
        return self.whole if fold is None else self.by_fold[fold]

    def predict(
        self,
        utterances: Sequence[Utterance],
        *,
        gain_db: float = 0.0,
        progress: Callable[[Utterance], None] = lambda utterance: None,
    ) -> list[Prediction]:
        """Each utterance by its judge, in the order given; see `predictions.predict`."""
        return [
            prediction
            for utterance in utterances
            for prediction in predict(self.judge(utterance), [utterance], gain_db=gain_db, progress=progress)
        ]

    def calibrate(self, columns: ScoreTable) -> None:
        """Gives each model the calibration that the clips of other folds ask for, unless it came with one."""
        if self.calibrated:
            return
        for fold, model in self.by_fold.items():
            model.card = replace(model.card, calibration=columns.calibration_without(fold) or model.card.calibration)
        if self.whole not in self.by_fold.values():
            found = columns.calibration(columns.judged)
            self.whole.card = replace(self.whole.card, calibration=found or self.whole.card.calibration)


def open_run(folder: Path, fitted: Sequence[Utterance], tested: Sequence[Utterance], name: str | None = None) -> Models:
    """The models of a run of `train fit`.

    Args:
        folder: of the run.
        fitted: the table that it was given.
        tested: what will be scored; speakers that the run knows need the model of their fold, others its final one.
        name: of the system; the recipe's when None.

    Raises:
        TrainingError: all that is needed is missing, or a fold comes from other recordings, or would be scored on
            what it heard.
    """
    from edge_sser.train.fit.checkpoint import MODEL_FILE, data_key, load_student, run_folder
    from edge_sser.train.students.backend import student_model

    fold_of = {(clip.corpus, clip.speaker): clip.fold for clip in fitted}
    known = [clip for clip in tested if (clip.corpus, clip.speaker) in fold_of]
    final = run_folder(folder, None) / MODEL_FILE
    needed: list[int | None] = [*sorted({fold_of[clip.corpus, clip.speaker] for clip in known})]
    if len(known) < len(tested):
        needed.append(None)
    missing = frozenset(fold for fold in needed if not (run_folder(folder, fold) / MODEL_FILE).is_file())
    if len(missing) == len(needed):
        raise TrainingError(missing_line(folder, missing))
    wanted = [fold for fold in needed if fold not in missing]
    if None not in wanted and final.exists():
        wanted.append(None)
    found: dict[int | None, Model] = {}
    origin = None
    for fold in wanted:
        path = run_folder(folder, fold) / MODEL_FILE
        training, _ = split(fitted, fold)
        student, recipe, header = load_student(path)
        if header["data"] != data_key(training):
            raise TrainingError(
                f"{path} was trained on other recordings than this table leaves for {path.parent.name}: give the table "
                "that train fit was given"
            )
        check_disjoint(training, [clip for clip in tested if fold_of.get((clip.corpus, clip.speaker)) == fold])
        found[fold] = student_model(student, name=recipe.name, emotions=header.get("emotions", EMOTIONS), path=path)
        origin = Origin(
            system=name or recipe.name,
            seed=recipe.optimisation.seed,
            trained_on=tuple(sorted({clip.corpus for clip in fitted})),
            preset=recipe.preset,
        )
    assert origin is not None  # there is always something to be scored
    by_fold = {fold: model for fold, model in found.items() if fold is not None}
    return Models(origin, found.get(None) or next(iter(by_fold.values())), by_fold, fold_of, missing=missing)


def open_file(path: Path, tested: Sequence[Utterance] = (), name: str | None = None) -> Models:
    """A model file (.onnx) or checkpoint (.safetensors), which judges everybody.

    Corpora that it was trained on are marked as heard: scores on them are of known voices.

    Raises:
        EdgeSserError: the file cannot be used.
    """
    if path.suffix == ".safetensors":
        from edge_sser.train.fit.checkpoint import load_student
        from edge_sser.train.students.backend import student_model

        student, recipe, header = load_student(path)
        corpora = header.get("corpora", ())
        model = student_model(student, name=recipe.name, emotions=header.get("emotions", EMOTIONS), path=path)
        preset: str = recipe.preset
    else:
        model = Model.load(path)
        corpora, preset = model.card.training, model.card.stress_preset
    trained_on = tuple(sorted(str(corpus["name"]) for corpus in corpora))
    heard = tuple(sorted({clip.corpus for clip in tested} & set(trained_on)))
    origin = Origin(system=name or path.name, trained_on=trained_on, preset=preset, heard=heard)
    return Models(origin, model, calibrated=path.suffix == ".onnx")


def open_models(path: Path, fitted: Sequence[Utterance], tested: Sequence[Utterance], name: str | None) -> Models:
    """A run's folder, a model file or a checkpoint; see `open_run` and `open_file`.

    Raises:
        UsageError: it is none of these, or a run comes without its table.
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


def missing_line(run: Path, missing: Collection[int | None]) -> str:
    """What a run does not have, and how to get it."""
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


FILE = "history.jsonl"


@dataclass(frozen=True, slots=True)
class History:
    """One fold's training.

    Attributes:
        part: `fold-1`, `final` and so on.
        epochs: their numbers, rising.
        values: by name, one an epoch; None where an epoch did not tell.
    """

    part: str
    epochs: Sequence[int]
    values: Mapping[str, Sequence[float | None]]


def read_histories(run: Path) -> list[History]:
    """What the parts of a run left behind, in alphabetical order; those that left nothing are not listed.

    A part tells it in `history.jsonl`, one JSON object an epoch, or in the header of its checkpoint.

    Raises:
        TrainingError: a file cannot be understood.
    """
    found = (_history(folder) for folder in sorted(run.iterdir()) if folder.is_dir())
    return [history for history in found if history is not None]


def _history(folder: Path) -> History | None:
    from edge_sser.train.fit.checkpoint import MODEL_FILE, load_checkpoint

    path, model = folder / FILE, folder / MODEL_FILE
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
        epochs[int(number)] = numbers  # an epoch that was done again after an interruption counts once
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
            if number == len(lines):  # the run was killed as it wrote
                return
            raise TrainingError(f"{path}, line {number}: expected a JSON object with epoch: remove the file") from None
        yield values


def _numbers(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers in a line, those of tables inside it with the table's name before theirs."""
    out: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            out += _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            out.append((prefix + name, float(value)))
    return out
