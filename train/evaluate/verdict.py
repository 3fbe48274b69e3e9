"""Verdict on a model in words: is it fit to be used, on whom, and what falls short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from edge_sser.train.evaluate.offline import Measures
from edge_sser.train.evaluate.predictions import Baseline
from edge_sser.train.evaluate.systems import System

# Stress AUROC on speakers never heard. Binary stress from audio is published at .70 to .75 for real stress, and the
# best systems on acted corpora reach .90 and more: a corpus between the two marks is told apart, but not reliably.
GOOD_AUROC: Final = 0.85
WEAK_AUROC: Final = 0.70
ONE_ANSWER: Final = 0.95  # share of the commonest emotion among all answers from which a model says one class
NEAR_CHANCE_AUROC: Final = 0.10  # around 0.5: without any order in its scores
NEAR_CHANCE_UA: Final = 0.03  # above 1 / classes, which one answer for everything reaches


class Grade(str, Enum):
    """Verdict on a model, from best to worst."""

    USABLE = "usable"
    WEAK = "weak"
    UNFIT = "unfit"
    BELOW_LEVEL = "below-level"
    DEGENERATE = "degenerate"
    UNKNOWN = "unknown"


HEADLINES: Final = {
    Grade.USABLE: "usable with care on speakers like these",
    Grade.WEAK: "weak: a trial on recordings of the site comes before any use",
    Grade.UNFIT: "not fit to be used: strangers' stress is hardly told from other speech",
    Grade.BELOW_LEVEL: "not fit to be used: no better than a level meter",
    Grade.DEGENERATE: "degenerate: one answer for everything",
    Grade.UNKNOWN: "cannot be judged: no corpus has stressed and other clips",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on one system.

    Attributes:
        system: its name.
        grade: the verdict.
        text: sentences that say on whom it holds and what falls short.
    """

    system: str
    grade: Grade
    text: str

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        return f"{self.system}: {HEADLINES[self.grade]}."

    def __str__(self) -> str:
        return f"{self.headline} {self.text}"


def verdicts(systems: Sequence[System]) -> list[Verdict]:
    """Judges every system that is no baseline.

    Args:
        systems: with the level meter among them, so that a model below it is noticed.
    """
    meters = [system for system in systems if system.name == Baseline.LEVEL]
    return [_verdict(system, meters) for system in systems if not system.origin.baseline]


def grade_corpus(measures: Measures, level_auroc: float) -> Grade:
    """Judges a system on one corpus.

    Args:
        measures: of the system on the corpus.
        level_auroc: stress AUROC of the level meter on the same corpus; NaN when it was not given.
    """
    auroc = measures.scores.auroc
    if says_one_class(measures):
        return Grade.DEGENERATE
    if math.isnan(auroc):
        return Grade.UNKNOWN
    if auroc <= level_auroc:  # never so for NaN
        return Grade.BELOW_LEVEL
    return Grade.USABLE if auroc >= GOOD_AUROC else Grade.WEAK if auroc >= WEAK_AUROC else Grade.UNFIT


def says_one_class(measures: Measures) -> bool:
    """Returns True when a system gives (nearly) the same answer to every clip of a corpus.

    That is one emotion for at least 95 % of the clips with an accuracy at chance, or one stress decision for all of
    them without any order in its scores either.
    """
    emotions, stress = measures.emotions, measures.stress
    if len(emotions.classes) > 1 and emotions.matrix.sum() and not math.isnan(emotions.ua):
        share = emotions.matrix.sum(axis=0).max() / emotions.matrix.sum()
        if share >= ONE_ANSWER and emotions.ua <= 1.0 / len(emotions.classes) + NEAR_CHANCE_UA:
            return True
    one_decision = stress.matrix.sum() > 0 and stress.matrix.sum(axis=0).max() == stress.matrix.sum()
    return bool(one_decision) and abs(measures.scores.auroc - 0.5) < NEAR_CHANCE_AUROC  # never so for NaN


def _verdict(system: System, meters: Sequence[System]) -> Verdict:
    levels = {corpus: found.scores.auroc for meter in meters for corpus, found in meter.measures.items()}
    grades = {corpus: grade_corpus(found, levels.get(corpus, math.nan)) for corpus, found in system.measures.items()}
    return Verdict(system.name, _overall(list(grades.values())), " ".join(_sentences(system, grades, levels)))


def _overall(grades: Sequence[Grade]) -> Grade:
    """Returns the worst fault of any corpus; without one, usable where most corpora that can be judged are."""
    for fault in (Grade.DEGENERATE, Grade.BELOW_LEVEL):
        if fault in grades:
            return fault
    known = [grade for grade in grades if grade is not Grade.UNKNOWN]
    if not known:
        return Grade.UNKNOWN
    if 2 * known.count(Grade.USABLE) > len(known):
        return Grade.USABLE
    return Grade.UNFIT if known.count(Grade.UNFIT) == len(known) else Grade.WEAK


def _sentences(system: System, grades: dict[str, Grade], levels: dict[str, float]) -> list[str]:
    out = []
    for grade, words in (
        (Grade.DEGENERATE, "One answer for all clips of"),
        (Grade.BELOW_LEVEL, "No better than the level meter on"),
        (Grade.USABLE, "Tells stressed speech apart on"),
        (Grade.WEAK, "Tells it apart, but not reliably, on"),
        (Grade.UNFIT, "Hardly tells it apart on"),
    ):
        named = [_named(corpus, system, levels) for corpus, found in grades.items() if found is grade]
        if named:
            out.append(f"{words} {', '.join(named)}.")
    heard = [corpus for corpus in grades if corpus in system.origin.heard]
    if heard:
        out.append(f"Heard in training: the speakers of {', '.join(heard)}; figures on them say nothing of strangers.")
    if not levels:
        out.append("No level meter stands beside it: give --predictions of level-only.")
    calm = [
        f"{100.0 * found.scores.false_alarms:.1f} % of the clips of {corpus}"
        for corpus, found in system.measures.items()
        if math.isnan(found.scores.auroc) and not math.isnan(found.scores.false_alarms)
    ]
    if calm:
        out.append(f"Speech without stress is called stressed: {', '.join(calm)}.")
    short = _shortfalls(system)
    if short:
        out.append(f"Falls short: {'; '.join(short)}.")
    return out


def _named(corpus: str, system: System, levels: dict[str, float]) -> str:
    auroc = system.measures[corpus].scores.auroc
    level = levels.get(corpus, math.nan)
    beside = "" if math.isnan(level) else f", level meter {level:.2f}"
    return corpus if math.isnan(auroc) else f"{corpus} (stress AUROC {auroc:.2f}{beside})"


def _shortfalls(system: System) -> list[str]:
    scores = {corpus: found.scores for corpus, found in system.measures.items()}
    out = [
        f"worst fold of {corpus} at {found.auroc_worst:.2f}"
        for corpus, found in scores.items()
        if found.auroc_worst < WEAK_AUROC  # never so for NaN
    ]
    unequal = [
        corpus
        for corpus, found in system.measures.items()
        if found.sexes is not None and any(check.passed is False for check in found.sexes.checks)
    ]
    if unequal:
        out.append(f"women and men are not served alike on {', '.join(unequal)}")
    return out
