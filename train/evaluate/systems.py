"""Comparison of systems: their seeds, the baselines, and the corpora of training and test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_sser.errors import UsageError
from edge_sser.train.data.labels import read_preset
from edge_sser.train.evaluate.baselines import majority
from edge_sser.train.evaluate.metrics import DRAWS, NAN, mean_known, worst_known
from edge_sser.train.evaluate.offline import Measures, measure
from edge_sser.train.evaluate.predictions import Baseline, Origin, Prediction
from edge_sser.train.evaluate.score_table import ScoreTable
from edge_sser.train.evaluate.scores import DASH, Evaluation, evaluate_table, fold_scores


@dataclass(frozen=True, slots=True)
class Scored:
    """Predictions of one system with one seed.

    Attributes:
        origin: of the predictions.
        table: the predictions.
        evaluation: headline scores.
    """

    origin: Origin
    table: ScoreTable
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Repeats:
    """One system on one corpus over folds and seeds; fractions 0..1.

    Attributes:
        corpus: its name.
        seeds: in rising order; a single None for a deterministic system.
        folds: their numbers.
        ua: float64, one row a seed, one value a fold.
        auroc: of stress, in the same order; NaN where a fold is of one class.
    """

    corpus: str
    seeds: Sequence[int | None]
    folds: Sequence[int]
    ua: Sequence[Sequence[float]]
    auroc: Sequence[Sequence[float]]

    def summary(self, values: Sequence[Sequence[float]]) -> tuple[float, float, float]:
        """Returns mean over folds and seeds, worst single fold, and standard deviation of the seeds' means; or NaN."""
        means = [mean_known(row) for row in values]
        spread = float(np.std(means, ddof=1)) if len(means) > 1 else NAN
        return mean_known(means), worst_known(value for row in values for value in row), spread


@dataclass(frozen=True, slots=True)
class System:
    """Scores and measures of a system over its seeds.

    Attributes:
        name: of the system.
        origin: of its first seed.
        measures: by corpus, of its first seed.
        repeats: by corpus, over folds and seeds.
        evaluations: headline scores of each seed, in the order of `repeats`.
    """

    name: str
    origin: Origin
    measures: Mapping[str, Measures]
    repeats: Mapping[str, Repeats]
    evaluations: Sequence[Evaluation]


@dataclass(frozen=True, slots=True)
class Cell:
    """Stress scores of one system on one corpus.

    Attributes:
        system: its name.
        trained_on: corpora; None when unknown.
        tested_on: the corpus.
        auroc: of stress, mean over folds and seeds.
        worst: of the worst fold.
        level: AUROC of the level meter on the same corpus; NaN without its predictions. The meter ranks clips by
            their level, whatever it was fitted on, so that one figure serves every row.
        stranger: True when the system was not trained on the corpus; None when unknown.
        heard: True when the system was trained on these very speakers.
    """

    system: str
    trained_on: Sequence[str] | None
    tested_on: str
    auroc: float
    worst: float
    level: float
    stranger: bool | None
    heard: bool


def score(origin: Origin, predictions: Sequence[Prediction], preset: str | None = None) -> Scored:
    """Scores predictions under a preset, or under their own when None.

    Raises:
        SettingsError: there is no such preset.
    """
    table = ScoreTable(predictions, read_preset(preset or origin.preset))
    return Scored(origin, table, evaluate_table(table))


def score_majority(predictions: Sequence[Prediction], preset: str) -> Scored:
    """Scores the majority baseline on the corpora of some predictions."""
    origin = Origin(system=Baseline.MAJORITY.value, trained_on=None, preset=preset, baseline=True)
    return score(origin, majority(predictions, preset))


def system_labels(origins: Sequence[Origin]) -> list[str]:
    """Returns a label for each system: its name, with the seed where there are several.

    Raises:
        UsageError: two systems of one name have the same seed.
    """
    names = [origin.system for origin in origins]
    out = [origin.label if names.count(origin.system) > 1 else origin.system for origin in origins]
    for label in out:
        if out.count(label) > 1:
            raise UsageError(f"two systems are called {label}: rename one of the files, or give another --name or seed")
    return out


def group_systems(scored: Sequence[Scored], *, draws: int = DRAWS) -> list[System]:
    """Groups the seeds of each system.

    Args:
        scored: of any systems; two of one system differ in their seeds.
        draws: of the bootstrap.

    Raises:
        UsageError: two of one name have the same seed, or were tested on different folds.
    """
    system_labels([each.origin for each in scored])
    named: dict[str, dict[int | None, Scored]] = {}
    for each in scored:
        named.setdefault(each.origin.system, {})[each.origin.seed] = each
    out = []
    for name, seeds in named.items():
        ordered = [seeds[seed] for seed in sorted(seeds, key=lambda seed: -1 if seed is None else seed)]
        first = ordered[0]
        measures = measure(first.table, draws=draws)
        repeats = {corpus: _repeats(name, corpus, ordered) for corpus in measures}
        out.append(System(name, first.origin, measures, repeats, [each.evaluation for each in ordered]))
    return out


def matrix(systems: Sequence[System]) -> list[Cell]:
    """Returns the stress scores of each system but the baselines on each corpus, with the level meter beside."""
    meters = [system for system in systems if system.name == Baseline.LEVEL]
    cells = []
    for system in systems:
        if system.origin.baseline:
            continue
        for corpus, repeats in system.repeats.items():
            mean, worst, _ = repeats.summary(repeats.auroc)
            level = next((meter.measures[corpus].scores.auroc for meter in meters if corpus in meter.measures), NAN)
            trained_on = system.origin.trained_on
            cells.append(
                Cell(
                    system.name,
                    trained_on,
                    corpus,
                    auroc=mean,
                    worst=worst,
                    level=level,
                    stranger=None if trained_on is None else corpus not in trained_on,
                    heard=corpus in system.origin.heard,
                )
            )
    return cells


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the matrix of training and test corpora.

    Attributes:
        systems: names; several where scores on further corpora came in files with longer names.
        trained_on: corpora; None when unknown.
        cells: by test corpus.
    """

    systems: list[str]
    trained_on: Sequence[str] | None
    cells: dict[str, Cell]


def matrix_rows(cells: Sequence[Cell]) -> list[Row]:
    """Groups cells into rows, one a system; a name with more behind a hyphen (net-on-nemo) joins its system's row."""
    rows: list[Row] = []
    for cell in cells:
        row = next((row for row in rows if _belongs(cell, row)), None)
        if row is None:
            row = Row([], cell.trained_on, {})
            rows.append(row)
        if cell.system not in row.systems:
            row.systems.append(cell.system)
        row.cells[cell.tested_on] = cell
    return rows


def _belongs(cell: Cell, row: Row) -> bool:
    if cell.trained_on != row.trained_on or cell.tested_on in row.cells:
        return False
    names = row.systems
    alike = any(cell.system.startswith(f"{name}-") or name.startswith(f"{cell.system}-") for name in names)
    return cell.system in names or (alike and cell.trained_on is not None)


def matrix_table(cells: Sequence[Cell]) -> str:
    """Renders the matrix as a Markdown table: stress AUROC (worst fold) / the level meter's."""

    def text(cell: Cell | None) -> str:
        if cell is None or math.isnan(cell.auroc):
            return DASH
        level = DASH if math.isnan(cell.level) else f"{cell.level:.3f}"
        mark = " known voices" if cell.heard else " new corpus" if cell.stranger else ""
        return f"{cell.auroc:.3f} ({cell.worst:.3f}) / {level}{mark}"

    tested = sorted({cell.tested_on for cell in cells})
    lines = [f"| system | trained on | {' | '.join(tested)} |", "|---" * (len(tested) + 2) + "|"]
    for row in matrix_rows(cells):
        trained_on = ", ".join(row.trained_on) if row.trained_on is not None else "not known"
        found = " | ".join(text(row.cells.get(corpus)) for corpus in tested)
        lines.append(f"| {', '.join(row.systems)} | {trained_on} | {found} |")
    return "\n".join(lines)


def _repeats(name: str, corpus: str, ordered: Sequence[Scored]) -> Repeats:
    rows = [fold_scores(each.table, each.table.corpus == corpus) for each in ordered]
    folds = [fold.fold for fold in rows[0]]
    if any([fold.fold for fold in row] != folds for row in rows):
        raise UsageError(
            f"the seeds of {name} were not tested on the same folds of {corpus}: give complete predictions"
        )
    return Repeats(
        corpus,
        [each.origin.seed for each in ordered],
        folds,
        ua=[[fold.ua for fold in row] for row in rows],
        auroc=[[fold.auroc for fold in row] for row in rows],
    )
