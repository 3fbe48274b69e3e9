"""Trains a reference system fold by fold and keeps its predictions, facts and training curves."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from edge_sser.errors import UsageError
from edge_sser.train.corpora.folds import check_disjoint, chosen_folds
from edge_sser.train.corpora.table import Utterance, read_table
from edge_sser.train.data.labels import EMOTIONS, read_preset
from edge_sser.train.evaluate.predictions import Origin, Prediction, make_prediction, scorable
from edge_sser.train.references.clips import ClipReader
from edge_sser.train.references.cost import measure_cost
from edge_sser.train.references.protocols import Item, Split, honest_split, original_splits
from edge_sser.train.references.recipe import ReferenceRecipe, read_reference_recipe
from edge_sser.train.references.registry import make
from edge_sser.train.references.results import NO_FOLD, Results, write_json
from edge_sser.train.references.score_lines import score_lines
from edge_sser.train.references.system import System
from edge_sser.train.report.report import check_place

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
        splits = [honest_split(utterances, recipe, fold) for fold in chosen_folds(utterances, folds, final=False)]
    strangers = _strangers(request, utterances)
    names = tuple(sorted({clip.corpus for clip in utterances if clip.emotion in EMOTIONS}))  # others are never learned
    origin = Origin(
        system=request.stem,
        seed=request.seed,
        trained_on=names,
        preset=PRESET,
        heard=names if request.original else (),
        reference=True,
    )
    for path in (request.out / f"{request.stem}.csv", *([request.onnx] if request.onnx else [])):
        check_place(path)  # before hours of training
    results = Results.open(request.out / f"{request.stem}.csv", origin, _key(request, recipe, utterances))
    results.check_strangers(strangers)
    clips = ClipReader(utterances, recipe, request.seed)
    waiting = [split for split in splits if str(split.fold) not in results.progress.seconds]
    for number, split in enumerate(waiting, start=1):
        title = f"{request.stem} fold {split.fold} ({number} of {len(waiting)})"
        seconds, history = fit(system, clips, split, title)
        results.add(split.fold, seconds, history, predict(system, clips, split, utterances, request.original))
        last = "".join(f", {name} {value:.3f}" for name, value in (history[-1] if history else {}).items())
        log(f"{title}: {seconds:.0f} s of CPU, {len(history)} epochs{last}")
    if waiting:
        _write_facts(request, recipe, system, results)
    if request.test is not None or request.onnx is not None:
        _all_speakers(request, system, recipe, results, (utterances, strangers), log)
    for line in score_lines(results.predictions, PRESET):
        echo(line)


def fit(system: System, clips: ClipReader, split: Split, title: str) -> tuple[float, list[Mapping[str, float]]]:
    """Trains a system on a split; returns its CPU time in seconds, without reading, and the figures of each epoch."""
    items = [*split.training, *split.validation]
    reading = [clips.clip(item) for item in tqdm(items, desc=f"{title}: reading", unit="clip", leave=False)]
    history: list[Mapping[str, float]] = []
    with tqdm(total=system.epochs or None, desc=title, unit="epoch", leave=False) as bar:

        def report(figures: Mapping[str, float]) -> None:
            history.append({name: round(float(value), 4) for name, value in figures.items()})
            bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
            bar.update()

        start = time.process_time()
        system.fit(reading[: len(split.training)], reading[len(split.training) :], report)
    return time.process_time() - start, history


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
            utterance = replace(utterance, fold=NO_FOLD)
        prediction = make_prediction(utterance, emotions=emotions, stress=value)
        out.append(replace(prediction, path=f"{prediction.path}#twin={item.twin}") if item.twin else prediction)
    return out


def stress_probability(emotions: NDArray[np.float64], preset: str = PRESET) -> NDArray[np.float64]:
    """Returns the probability of the emotions that a preset calls stress, of all that it maps: [n] of [n, 8]."""
    found = read_preset(preset)
    stress, calm = (np.isin(EMOTIONS, found.emotions_with(value)) for value in (1, 0))
    share = emotions[:, stress].sum(axis=1) / np.maximum(emotions[:, stress | calm].sum(axis=1), 1e-9)
    return np.asarray(share.clip(0.0, 1.0))


def _all_speakers(
    request: ReferenceRequest,
    system: System,
    recipe: ReferenceRecipe,
    results: Results,
    utterances: tuple[Sequence[Utterance], Sequence[Utterance]],
    log: Log,
) -> None:
    """Trains on all speakers of the first utterances, to predict the second as fold 0 and to write the network."""
    own, strangers = utterances
    done = not strangers or str(NO_FOLD) in results.progress.seconds
    if done and request.onnx is None:
        return
    title = f"{request.stem}, all speakers"
    clips = ClipReader([*own, *strangers], recipe, request.seed)
    split = honest_split(own, recipe, None)
    seconds, history = fit(system, clips, split, title)
    log(f"{title}: {seconds:.0f} s of CPU, {len(history)} epochs")
    if not done:
        split = replace(split, test=[Item(len(own) + place) for place in range(len(strangers))])
        found = predict(system, clips, split, [*own, *strangers], original=True)
        results.add(NO_FOLD, seconds, history, found)
    if request.onnx is not None:
        from edge_sser.train.references.onnx import export_reference

        export_reference(system, recipe, results.origin.trained_on or (), request.onnx)
        log(f"{request.onnx}: written")


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
    """Returns the clips of `--test`, of nobody on the training side; none without the option."""
    if request.test is None:
        return []
    if request.original:
        raise UsageError("--test: the protocol of a study has its own test: leave out --original-protocol")
    strangers = scorable(read_table(request.test), PRESET)
    check_disjoint(utterances, strangers)
    return strangers


def _key(request: ReferenceRequest, recipe: ReferenceRecipe, utterances: Sequence[Utterance]) -> str:
    told = recipe.model_dump(mode="json", exclude={"title", "corpora", "published", "source", "mended", "remark"})
    values = [told, request.original, request.seed, sorted((clip.sha256, clip.fold) for clip in utterances)]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _write_facts(request: ReferenceRequest, recipe: ReferenceRecipe, system: System, results: Results) -> None:
    """Writes size and cost to NAME.facts.json, which the runs of a system share; that on all corpora has the say."""
    path = request.out / f"{Path(request.name).stem}.facts.json"
    if path.exists() and (request.original or request.corpora):
        return
    seconds = list(results.progress.seconds.values())
    facts = {**measure_cost(system), "fit_seconds": round(sum(seconds) / len(seconds), 1)}
    changed = f"settings changed: {', '.join(request.changes)}" if request.changes else ""
    facts["note"] = "; ".join(filter(None, (recipe.remark, system.remark, changed)))
    write_json(path, facts)
