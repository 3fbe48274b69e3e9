"""Selection of part of a table by corpus, statement or any other field; folds stay."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from edge_sser.errors import TrainingError, UsageError
from edge_sser.train.corpora.table import Utterance

FIELDS = ("corpus", "speaker", "sex", "emotion", "intensity", "statement", "fold", "path")


def select(utterances: Sequence[Utterance], keep: Sequence[str], drop: Sequence[str] = ()) -> list[Utterance]:
    """Returns the utterances that match.

    Args:
        utterances: of a table.
        keep: FIELD=PATTERN each, PATTERN as in a shell (`*`, `?`, `[ab]`); one of those with the same field must match.
        drop: likewise; utterances that match one of them are left out.

    Raises:
        UsageError: there is no such field, or a pattern matches nothing in the table.
        TrainingError: nothing is left.
    """
    kept: dict[str, set[int]] = {}
    for field, indices in (_matching(utterances, "--keep", text) for text in keep):
        kept.setdefault(field, set()).update(indices)
    selected = set(range(len(utterances))).intersection(*kept.values())
    for _, indices in (_matching(utterances, "--drop", text) for text in drop):
        selected -= indices
    if not selected:
        raise TrainingError("no utterance is left: what is kept never occurs together, or is dropped: ask for less")
    return [utterances[index] for index in sorted(selected)]


def _matching(utterances: Sequence[Utterance], option: str, text: str) -> tuple[str, set[int]]:
    field, equals, pattern = text.partition("=")
    if not equals or field not in FIELDS:
        raise UsageError(f"{option} {text}: expected FIELD=PATTERN with FIELD {', '.join(FIELDS)}")
    values = [str(getattr(utterance, field)) for utterance in utterances]
    indices = {index for index, value in enumerate(values) if fnmatchcase(value, pattern)}
    if not indices:
        known = sorted(set(values) - {""})
        some = f"it has {', '.join(known[:5])}{' and others' if len(known) > 5 else ''}" if known else "it has none"
        raise UsageError(f"{option} {text}: no utterance of the table has such a {field}: {some}")
    return field, indices
