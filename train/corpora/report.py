"""Findings of an index: missing, odd, duplicate or contradictory clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

MAX_LINES = 10  # findings of one kind and corpus on screen; the report file has all


class FindingKind(str, Enum):
    """Kind of a finding."""

    MISSING = "missing"
    """A clip of the published corpus that the folder lacks."""
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

    kind: FindingKind
    corpus: str
    text: str

    def __str__(self) -> str:
        return f"{self.corpus}: {self.kind.value}: {self.text}"


def summary_lines(findings: Sequence[Finding], limit: int = MAX_LINES) -> Iterator[str]:
    """Returns the first findings of each corpus and kind, and the number of further ones."""
    groups: dict[tuple[str, FindingKind], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.corpus, finding.kind), []).append(finding)
    for (corpus, kind), group in groups.items():
        yield from map(str, group[:limit])
        if len(group) > limit:
            yield f"{corpus}: {kind.value}: and {len(group) - limit} more"
