"""Files of results that `train compare` reads: predictions with their origin, facts, training curves and recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from edge_sser.errors import TrainingError, UsageError
from edge_sser.train.evaluate.models import History
from edge_sser.train.evaluate.predictions import Origin, Prediction, read_origin, read_predictions
from edge_sser.train.references.recipe import ReferenceRecipe, read_reference_recipe, reference_names
from edge_sser.train.teachers import recipe as teachers

ORIGINAL = "original"  # NAME.original.csv: protocol of the original


class Kind(str, Enum):
    """Part that a system plays in the comparison."""

    REFERENCE = "reference"
    OURS = "ours"
    TEACHER = "teacher"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Facts:
    """Size and cost of a system, as NAME.facts.json says; None where it was not measured.

    Attributes:
        parameters: of what classifies, a frozen encoder included.
        mflops: million floating-point operations a window, without the front end.
        cpu_ms: CPU time a window on one thread, without the front end, ms; with it for a system without a network.
        front_end_ms: CPU time of the front end a window, ms.
        window_s: length of a window, seconds.
        fit_seconds: time of the training.
        machine: that measured.
        note: for a reader of the figures, as random weights or a reduced run.
    """

    parameters: int | None = None
    mflops: float | None = None
    cpu_ms: float | None = None
    front_end_ms: float | None = None
    window_s: float | None = None
    fit_seconds: float | None = None
    machine: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One file of predictions with what lies beside it.

    Attributes:
        path: of the predictions.
        origin: of the predictions.
        predictions: in the order of the file.
        variant: corpora that the system was trained on alone, joined by +; a corpus that it never heard; ORIGINAL; or
            empty.
        histories: training curves; empty without them.
    """

    path: Path
    origin: Origin
    predictions: Sequence[Prediction]
    variant: str = ""
    histories: Sequence[History] = ()


@dataclass(frozen=True, slots=True)
class ResultGroup:
    """All results of one system.

    Attributes:
        name: of the system.
        kind: its part.
        facts: size and cost.
        recipe: of a reference that ships; None for the others.
        honest: out-of-fold predictions of a training on all corpora, one a seed.
        alone: the same of a training on some corpora alone, by variant.
        original: predictions under the protocol of the original; None without them.
    """

    name: str
    kind: Kind
    facts: Facts
    recipe: ReferenceRecipe | None
    honest: Sequence[Result] = ()
    alone: Mapping[str, Result] = field(default_factory=dict)
    original: Result | None = None


def read_groups(places: Sequence[Path]) -> list[ResultGroup]:
    """Reads results: references first, then ours, teachers and baselines, each in alphabetical order.

    Args:
        places: files of predictions, and folders with such files.

    Raises:
        UsageError: a place does not exist or has no predictions, one file or one seed is given twice, or the seeds of a
            system have different folds.
        TrainingError: a file is malformed.
    """
    results: dict[str, list[Result]] = {}
    for path in _files(places):
        result = _read(path)
        name = path.name.split(".")[0] if result.variant else result.origin.system
        results.setdefault(name, []).append(result)
    groups = [_group(name, found) for name, found in results.items()]
    return sorted(groups, key=lambda group: (list(Kind).index(group.kind), group.name))


def _files(places: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for place in places:
        found = sorted(place.glob("*.csv")) if place.is_dir() else [place] if place.is_file() else []
        if not found:
            raise UsageError(
                f"{place}: no predictions there: make them with edge-sser train reference NAME --out FOLDER, or with "
                "train evaluate --out FILE"
            )
        files += found
    twice = next((path for path in files if files.count(path) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice}: given twice")
    return files


def _read(path: Path) -> Result:
    variant = ".".join(path.name.split(".")[1:-1])
    return Result(path, read_origin(path), read_predictions(path), variant, _histories(path))


def _group(name: str, results: Sequence[Result]) -> ResultGroup:
    _check_seeds(name, results)
    honest = sorted((each for each in results if not each.variant), key=lambda each: each.origin.seed or 0)
    studied = [each for each in results if each.variant and not _is_foreign(each)]
    if honest:
        first, *others = honest
        further = [item for each in results if _is_foreign(each) for item in each.predictions]
        honest = [replace(first, predictions=[*first.predictions, *further]), *others]
    alone = {each.variant: each for each in studied if each.variant != ORIGINAL}
    original = next((each for each in studied if each.variant == ORIGINAL), None)
    recipe = read_reference_recipe(name) if name in reference_names() else None
    if recipe is not None or any(each.origin.reference for each in results):
        kind = Kind.REFERENCE
    elif any(each.origin.baseline for each in results):
        kind = Kind.BASELINE
    else:
        kind = Kind.TEACHER if name in teachers.shipped_recipes() else Kind.OURS
    facts = _facts(results[0].path.with_name(f"{results[0].path.name.split('.')[0]}.facts.json"))
    return ResultGroup(name, kind, facts, recipe, honest, alone, original)


def _check_seeds(name: str, results: Sequence[Result]) -> None:
    """Checks that each file is another seed or another variant, and that the seeds can be averaged.

    Raises:
        UsageError: two files are one seed or one variant, or the seeds have different folds of a corpus.
    """
    seen: dict[tuple[str, int | None], Path] = {}
    for each in results:
        seed = None if each.variant else each.origin.seed
        first = seen.setdefault((each.variant, seed), each.path)
        if first is not each.path:
            raise UsageError(
                f"{first} and {each.path} are both {'.'.join(filter(None, (name, each.variant)))} with one seed: give "
                "one of them"
            )
    seeds = [
        (each.path, {(item.corpus, item.fold) for item in each.predictions}) for each in results if not each.variant
    ]
    for path, folds in seeds[1:]:
        if folds != seeds[0][1]:
            corpus, fold = min(folds ^ seeds[0][1])
            raise UsageError(
                f"{seeds[0][0]} and {path} are seeds of {name}, and one alone has fold {fold} of {corpus}: train the "
                "other on it too, or give one of them"
            )


def _is_foreign(result: Result) -> bool:
    """Returns True for predictions of corpora that the system was not trained on; they join its first seed's."""
    known = result.origin.trained_on or ()
    return result.variant not in ("", ORIGINAL) and not any(each.corpus in known for each in result.predictions)


def _facts(path: Path) -> Facts:
    try:
        return TypeAdapter(Facts).validate_json(path.read_bytes())
    except FileNotFoundError:
        return Facts()
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise TrainingError(f"{path}: {reason}: make it again with edge-sser train reference") from None


def _histories(path: Path) -> list[History]:
    """Reads NAME.history.json: by fold, a list with the values of each epoch."""
    path = path.with_name(f"{path.name.removesuffix('.csv')}.history.json")
    try:
        folds = json.loads(path.read_text("utf-8"))
        return [_history(fold, epochs) for fold, epochs in folds.items() if len(epochs) > 1]  # one is no curve
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise TrainingError(f"{path}: {error}: make it again with edge-sser train reference") from None


def _history(fold: str, epochs: Sequence[Mapping[str, float]]) -> History:
    names = list(dict.fromkeys(name for values in epochs for name in values if name != "epoch"))
    return History(
        f"fold {fold}", range(1, len(epochs) + 1), {name: [each.get(name) for each in epochs] for name in names}
    )
