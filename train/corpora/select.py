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
    wanted: dict[str, set[int]] = {}
    for field, places in (_fitting(utterances, "--keep", text) for text in keep):
        wanted.setdefault(field, set()).update(places)
    left = set(range(len(utterances))).intersection(*wanted.values())
    for _, places in (_fitting(utterances, "--drop", text) for text in drop):
        left -= places
    if not left:
        raise TrainingError("no utterance is left: what is kept never occurs together, or is dropped: ask for less")
    return [utterances[place] for place in sorted(left)]


def _fitting(utterances: Sequence[Utterance], option: str, text: str) -> tuple[str, set[int]]:
    field, equals, pattern = text.partition("=")
    if not equals or field not in FIELDS:
        raise UsageError(f"{option} {text}: expected FIELD=PATTERN with FIELD {', '.join(FIELDS)}")
    values = [str(getattr(utterance, field)) for utterance in utterances]
    places = {place for place, value in enumerate(values) if fnmatchcase(value, pattern)}
    if not places:
        known = sorted(set(values) - {""})
        some = f"it has {', '.join(known[:5])}{' and others' if len(known) > 5 else ''}" if known else "it has none"
        raise UsageError(f"{option} {text}: no utterance of the table has such a {field}: {some}")
    return field, places
