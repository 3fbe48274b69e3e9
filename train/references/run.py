"""Trains a reference system fold by fold and keeps its predictions, facts and training curves."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.errors import TrainingError, UsageError
from edge_sser.files import write_file
from edge_sser.train.corpora.folds import check_disjoint
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.audio import read_audio
from edge_sser.train.data.labels import EMOTIONS, PRESETS
from edge_sser.train.evaluate.predictions import (
    Origin,
    Prediction,
    make_prediction,
    read_predictions,
    scorable,
    write_origin,
    write_predictions,
)
from edge_sser.train.references.cost import measure_cost
from edge_sser.train.references.front_ends import TwinMaker
from edge_sser.train.references.protocols import Item, Split, honest_splits, original_splits
from edge_sser.train.references.recipe import ReferenceRecipe, read_reference_recipe
from edge_sser.train.references.registry import make
from edge_sser.train.references.score_lines import score_lines
from edge_sser.train.references.system import Clip, Samples, System

FRAME_SAMPLES = 400  # 25 ms, a frame of speech
PRESET = "quadrant"

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRequest:
    """Options of `edge-sser train reference`; see references/cli.py."""

    name: str
    table: Path
    out: Path
    changes: Sequence[str] = ()
    folds: Sequence[int] = ()
    corpora: Sequence[str] = ()
    original: bool = False
    seed: int = 1
    test: Path | None = None
    onnx: Path | None = None

    @property
    def stem(self) -> str:
        """Name of the result files without their suffixes."""
        name = Path(self.name).stem
        return ".".join([name, *(["original"] if self.original else ["+".join(self.corpora)] if self.corpora else [])])


@dataclass(slots=True)
class Progress:
    """Progress of a run, in STEM.run.json.

    Attributes:
        key: hash of the recipe, the seed and the clips.
        seconds: time of each finished fold's training.
    """

    key: str
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Results:
    """Result files of a run, which grow by fold.

    Attributes:
        path: of the predictions; the other files lie beside it.
        origin: of the predictions.
        progress: finished folds.
        predictions: of the finished folds.
        history: figures of each epoch by fold.
    """

    path: Path
    origin: Origin
    progress: Progress
    predictions: list[Prediction] = field(default_factory=list)
    history: dict[str, list[Mapping[str, float]]] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, origin: Origin, key: str) -> Results:
        """Opens the results of an interrupted run, or empty ones.

        Raises:
            TrainingError: the files are of another run, or damaged.
        """
        results = cls(path, origin, Progress(key))
        try:
            progress = TypeAdapter(Progress).validate_json(results.beside("run").read_bytes())
            if progress.key != key:
                raise TrainingError(
                    f"{path}: made with another recipe, seed or table: choose another --out, or remove {path.stem}.*"
                )
            results.progress = progress
            results.history = json.loads(results.beside("history").read_text("utf-8"))
        except FileNotFoundError:
            return results
        except (OSError, ValueError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise TrainingError(f"{path}: its results are damaged ({reason}): remove {path.stem}.*") from None
        results.predictions = read_predictions(path)
        return results

    def beside(self, part: str) -> Path:
        """Returns the path of another file of the run."""
        return self.path.with_name(f"{self.path.name.removesuffix('.csv')}.{part}.json")

    def add(self, fold: int, seconds: float, history: Sequence[Mapping[str, float]], found: list[Prediction]) -> None:
        """Adds a finished fold and writes all files, the progress last.

        Raises:
            TrainingError: a file cannot be written.
        """
        self.predictions = sorted([*self.predictions, *found], key=lambda each: (each.corpus, each.path))
        self.history[str(fold)] = list(history)
        self.progress.seconds[str(fold)] = round(seconds, 1)
        self.history = dict(sorted(self.history.items(), key=lambda each: int(each[0])))
        write_predictions(self.path, self.predictions)
        write_origin(self.path, self.origin)
        write_json(self.beside("history"), self.history)
        write_json(self.beside("run"), TypeAdapter(Progress).dump_python(self.progress))


def run(request: ReferenceRequest, log: Log, echo: Log) -> None:
    """Trains the folds that are not finished and prints the scores.

    Args:
        request: the options.
        log: prints a line for a person who waits.
        echo: prints a line of the result.

    Raises:
        EdgeSserError: of several classes; the message says what to do.
    """
    recipe = read_reference_recipe(request.name, request.changes)
    utterances = _utterances(request)
    system = make(recipe.system, recipe.system_settings(request.original), request.seed)
    folds = request.folds or None
    if request.original:
        splits = original_splits(utterances, recipe, folds, request.seed)
    else:
        splits = honest_splits(utterances, recipe, folds, final=False)
    names = tuple(sorted({clip.corpus for clip in utterances}))
    origin = Origin(
        system=request.stem,
        seed=request.seed,
        trained_on=names,
        preset=PRESET,
        heard=names if request.original else (),
    )
    results = Results.open(request.out / f"{request.stem}.csv", origin, _key(request, recipe, utterances))
    clips = ClipReader(utterances, recipe, request.seed)
    waiting = [split for split in splits if str(split.fold) not in results.progress.seconds]
    for number, split in enumerate(waiting, start=1):
        title = f"{request.stem} fold {split.fold} ({number} of {len(waiting)})"
        seconds, history = fit(system, clips, split, title)
        results.add(split.fold, seconds, history, predict(system, clips, split, utterances, request.original))
        last = "".join(f", {name} {value:.3f}" for name, value in (history[-1] if history else {}).items())
        log(f"{title}: {seconds:.0f} s, {len(history)} epochs{last}")
    if request.test is not None and "0" not in results.progress.seconds:
        strangers = _strangers(request, utterances)
        title = f"{request.stem}, all speakers"
        everybody = ClipReader([*utterances, *strangers], recipe, request.seed)
        final = honest_splits(utterances, recipe, None, final=True)[-1]
        seconds, history = fit(system, everybody, final, title)
        test = replace(final, test=[Item(len(utterances) + place) for place in range(len(strangers))])
        found = predict(system, everybody, test, [*utterances, *strangers], original=True)
        results.add(0, seconds, history, found)
        log(f"{title}: {seconds:.0f} s, {len(found)} clips of {request.test} predicted")
    if waiting:
        _write_facts(request, recipe, system, results)
    for line in score_lines(results.predictions, PRESET):
        echo(line)
    if request.onnx is not None:
        from edge_sser.train.references.onnx import export_reference

        fit(system, clips, honest_splits(utterances, recipe, None, final=True)[-1], f"{request.stem}, all speakers")
        export_reference(system, recipe, names, request.onnx)
        log(f"{request.onnx}: written")


class ClipReader:
    """Reads clips and makes their twins; keeps both."""

    def __init__(self, utterances: Sequence[Utterance], recipe: ReferenceRecipe, seed: int) -> None:
        self._utterances = utterances
        self._twin = TwinMaker(recipe.twins.kinds, seed) if recipe.twins else None
        self._kept: dict[Item, Samples] = {}

    def samples(self, item: Item) -> Samples:
        """Returns the samples of an item, read or made once.

        Raises:
            SourceError: the recording cannot be read.
            TrainingError: it is shorter than a frame.
        """
        if item not in self._kept:
            self._kept[item] = self._make(item)
        return self._kept[item]

    def clip(self, item: Item) -> Clip:
        """Returns an item with its label; errors as for `samples`."""
        utterance = self._utterances[item.place]
        return Clip(self.samples(item), EMOTIONS.index(utterance.emotion), utterance.voice, utterance.corpus)

    def _make(self, item: Item) -> Samples:
        path = self._utterances[item.place].path
        if item.twin and self._twin is not None:
            return self._twin(self.samples(Item(item.place)), item.twin)
        samples = read_audio(path)
        if samples.size < FRAME_SAMPLES:
            raise TrainingError(
                f"{path}: {1000 * samples.size / SAMPLE_RATE:.1f} ms, shorter than a frame of 25 ms: leave it out with "
                f"train select --drop 'path={path}'"
            )
        return samples


def fit(system: System, clips: ClipReader, split: Split, title: str) -> tuple[float, list[Mapping[str, float]]]:
    """Trains a system on a split; returns the time in seconds, without reading, and the figures of each epoch."""
    items = [*split.training, *split.validation]
    reading = [clips.clip(item) for item in tqdm(items, desc=f"{title}: reading", unit=" clips", leave=False)]
    history: list[Mapping[str, float]] = []
    with tqdm(total=system.epochs or None, desc=title, unit=" epochs", leave=False) as bar:

        def report(figures: Mapping[str, float]) -> None:
            history.append({name: round(float(value), 4) for name, value in figures.items()})
            bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
            bar.update()

        start = time.perf_counter()
        system.fit(reading[: len(split.training)], reading[len(split.training) :], report)
    return time.perf_counter() - start, history


def predict(
    system: System, clips: ClipReader, split: Split, utterances: Sequence[Utterance], original: bool
) -> list[Prediction]:
    """Predicts the test items of a split. Under the protocol of a study, all predictions have fold 0."""
    found = system.probabilities([clips.samples(item) for item in split.test])
    stress = stress_probability(found)
    out = []
    for item, emotions, value in zip(split.test, found, stress.tolist(), strict=True):
        utterance = utterances[item.place]
        if original:
            utterance = replace(utterance, fold=0)
        prediction = make_prediction(utterance, emotions=emotions, stress=value)
        out.append(replace(prediction, path=f"{prediction.path}#twin={item.twin}") if item.twin else prediction)
    return out


def stress_probability(emotions: NDArray[np.float64], preset: str = PRESET) -> NDArray[np.float64]:
    """Returns the probability of the emotions that a preset calls stress, of all that it maps: [n] of [n, 8]."""
    values = PRESETS[preset]
    stressed, mapped = ([values[name] in kinds for name in EMOTIONS] for kinds in ((1,), (0, 1)))
    share = emotions[:, stressed].sum(axis=1) / np.maximum(emotions[:, mapped].sum(axis=1), 1e-9)
    return np.asarray(share.clip(0.0, 1.0))


def write_json(path: Path, values: Any) -> None:
    """Writes values as JSON, one entry a line; errors as for `files.write_file`."""
    write_file(path, json.dumps(values, indent=1) + "\n", TrainingError)


def _utterances(request: ReferenceRequest) -> list[Utterance]:
    utterances = read_table(request.table)
    known = sorted({utterance.corpus for utterance in utterances})
    for corpus in request.corpora:
        if corpus not in known:
            raise UsageError(
                f"--corpus {corpus}: the table has {', '.join(known)}: add it with train index {corpus}=FOLDER"
            )
    return scorable([clip for clip in utterances if not request.corpora or clip.corpus in request.corpora], PRESET)


def _strangers(request: ReferenceRequest, utterances: Sequence[Utterance]) -> list[Utterance]:
    """Returns the clips of `--test`, of nobody on the training side."""
    assert request.test is not None
    if request.original:
        raise UsageError("--test: the protocol of a study has its own test: leave out --original-protocol")
    strangers = scorable(read_table(request.test), PRESET)
    check_disjoint(utterances, strangers)
    return strangers


def _key(request: ReferenceRequest, recipe: ReferenceRecipe, utterances: Sequence[Utterance]) -> str:
    told = recipe.model_dump(mode="json", exclude={"title", "corpora", "published", "source", "mended"})
    values = [told, request.original, request.seed, sorted((clip.sha256, clip.fold) for clip in utterances)]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _write_facts(request: ReferenceRequest, recipe: ReferenceRecipe, system: System, results: Results) -> None:
    """Writes size and cost; they are of the system, so that its three runs share NAME.facts.json."""
    seconds = list(results.progress.seconds.values())
    facts = {**measure_cost(system), "fit_seconds": round(sum(seconds) / len(seconds), 1)}
    changed = f"settings changed: {', '.join(request.changes)}" if request.changes else ""
    facts["note"] = "; ".join(filter(None, (system.remark, changed)))
    write_json(request.out / f"{Path(request.name).stem}.facts.json", facts)
