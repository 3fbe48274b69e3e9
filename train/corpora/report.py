"""Findings of an index: missing, odd, duplicate or contradictory clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

SHOWN = 10  # findings of one kind and corpus on screen; the report file has all


class Kind(str, Enum):
    """Kind of a finding."""

    MISSING = "missing"
    """The published corpus has it, the folder has not."""
    ODD = "odd"
    """A recording that cannot be used, and is left out."""
    DOUBLE = "double"
    """The same recording again, left out."""
    CONTRADICTORY = "contradictory"
    """The same recording under different labels: none of them is used."""
    TWIN = "twin"
    """A recording that is an altered copy of another speaker's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    kind: Kind
    corpus: str
    text: str

    def __str__(self) -> str:
        return f"{self.corpus}: {self.kind.value}: {self.text}"


def shown(findings: Sequence[Finding], shown_each: int = SHOWN) -> Iterator[str]:
    """Returns the first findings of each corpus and kind, and the number of further ones."""
    groups: dict[tuple[str, Kind], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.corpus, finding.kind), []).append(finding)
    for (corpus, kind), group in groups.items():
        yield from map(str, group[:shown_each])
        if len(group) > shown_each:
            yield f"{corpus}: {kind.value}: and {len(group) - shown_each} more"
