"""Goals for our systems: above the references in stress AUROC, and cheaper than those near in accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_sser.train.references.compare import PRESETS, ComparedSystem, Comparison, CorpusScores
from edge_sser.train.references.result_files import Facts, Kind

SMALL = 100_000_000  # parameters below which ours should stand above every reference
NEAR_UA = 0.03  # distance within which a reference must be dearer than ours
TIMES_DEARER = 5.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A goal for one of our systems on one corpus.

    Attributes:
        system: ours.
        corpus: its name.
        goal: sentence without the system.
        compared: number of references that it was compared with.
        against: a remark for each reference that contradicts it, by its name.
    """

    system: str
    corpus: str
    goal: str
    compared: int
    against: Mapping[str, str]

    @property
    def detail(self) -> str:
        """References that contradict the goal, with their figures, or the number of those that were compared."""
        return "; ".join(f"{name} ({why})" for name, why in self.against.items()) or f"{self.compared} compared"


@dataclass(frozen=True, slots=True)
class Pair:
    """A reference and ours on the same folds of a corpus."""

    name: str
    facts: Facts
    theirs: CorpusScores
    own: CorpusScores


def claims(comparison: Comparison) -> list[Claim]:
    """Judges each of our complete systems on each corpus, beside an incomplete reference on the same folds."""
    references = [each for each in comparison.systems if each.group.kind is Kind.REFERENCE]
    found = []
    for name in dict.fromkeys(each.group.name for each in comparison.systems if each.group.kind is Kind.OURS):
        by_folds = {each.folds: each for each in comparison.systems if each.group.name == name}
        for judge in (_above, _cheaper):
            for corpus in by_folds[()].corpora if () in by_folds else ():
                pairs = [
                    Pair(each.name, each.group.facts, each.corpora[corpus], own.corpora[corpus])
                    for each in references
                    if (own := by_folds.get(each.folds)) and corpus in each.corpora and corpus in own.corpora
                ]
                found.append(judge(by_folds[()], corpus, pairs))
    return found


def _above(ours: ComparedSystem, corpus: str, pairs: Sequence[Pair]) -> Claim:
    small = [pair for pair in pairs if (pair.facts.parameters or 0) < SMALL]
    against = {}
    for pair in small:
        theirs, own = pair.theirs.stress[PRESETS[0]].auroc, pair.own.stress[PRESETS[0]].auroc
        if not own > theirs:
            against[pair.name] = f"AUROC {theirs:.3f}, ours {own:.3f}"
    goal = f"above every reference under {SMALL // 10**6} M parameters in stress AUROC"
    return Claim(ours.group.name, corpus, goal, len(small), against)


def _cheaper(ours: ComparedSystem, corpus: str, pairs: Sequence[Pair]) -> Claim:
    near = [pair for pair in pairs if pair.theirs.ua >= pair.own.ua - NEAR_UA]
    cost = ours.group.facts.cpu_ms
    against = {}
    for pair in near:
        other = pair.facts.cpu_ms
        scores = f"UA {100 * pair.theirs.ua:.1f}, ours {100 * pair.own.ua:.1f}"
        if cost is None or other is None:
            against[pair.name] = f"{scores}; cost not measured"
        elif other < TIMES_DEARER * cost:
            against[pair.name] = f"{scores}; {other:.2f} ms, ours {cost:.2f}"
    goal = (
        f"a window costs {TIMES_DEARER:.0f} times less than any reference within {100 * NEAR_UA:.0f} points of its UA"
    )
    return Claim(ours.group.name, corpus, goal, len(near), against)
