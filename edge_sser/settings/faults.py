"""Faults of settings in words: the place, what was expected there, and what to do."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from edge_sser.errors import SettingsError, printable
from edge_sser.settings.file import shorten

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

LISTS = {"source": 64, "notify": 16}  # tables that may be repeated, and how often
_NAME_PATTERN = re.compile(r"\^\(?\[[^\]]+\]\[([^\]]+)\]\{0,(\d+)\}\)?\??\$$")


class WrongSettingsError(SettingsError):
    """Settings with one fault or more. The message is the first fault.

    Args:
        faults: in words.
        in_file: True when a check of the file alone finds them all.

    Attributes:
        faults: in words, each on one line.
    """

    def __init__(self, faults: Sequence[str], *, in_file: bool) -> None:
        remedy = ": edge-sser config check FILE lists them" if in_file else ""
        super().__init__(faults[0] + (f" ({len(faults) - 1} more{remedy})" if len(faults) > 1 else ""))
        self.faults = [printable(fault) for fault in faults]


class FaultDescriber:
    """Puts faults that validation found into words.

    Args:
        known: every dotted key with the JSON Schema of its value.
        origin_of: returns the file, variable or flag that set a key or table.
        exact: variables and flags, which set one key each: their name suffices in a message.
    """

    def __init__(
        self, known: Mapping[str, Mapping[str, Any]], origin_of: Callable[[str], str], exact: Collection[str]
    ) -> None:
        self._known = known
        self._tables = list(dict.fromkeys(key.partition(".")[0] for key in known if "." in key))
        self._origin_of = origin_of
        self._exact = exact

    def __call__(self, fault: ErrorDetails) -> str:
        """Returns a fault as one sentence."""
        kind, given = fault["type"], _shown(fault["input"])
        key = ".".join(str(part) for part in fault["loc"] if not isinstance(part, int))
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
        origin = self._origin_of(key)
        if kind == "extra_forbidden":
            if "." not in key and isinstance(fault["input"], (dict, list)):
                return f"{origin}: unknown table [{shorten(place)}]: {self._table_meant(key)}"
            return f"{origin}: unknown key {shorten(place)}: {self._key_meant(key)}"
        where = origin if origin in self._exact else f"{origin}: {place}"
        allowed = expected(self._known[key]) if key in self._known else f"a table, begun by [{key}]"
        if key in LISTS:
            allowed = f"1 to {LISTS[key]} tables, each begun by [[{key}]]"
        if kind == "missing":
            return f"{where} is missing, expected {allowed}"
        if kind == "value_error":
            return f"{where}: {fault['ctx']['error']}" + (f", got {given}" if key in self._known else "")
        return f"{where}: expected {allowed}, got {given}"

    def _table_meant(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._tables, n=1)
        if near:
            return f"did you mean {_header(near[0])}?"
        return f"the tables are {', '.join(map(_header, self._tables))}"

    def _key_meant(self, key: str) -> str:
        """Returns the key that was meant: of the same table, of another one, or one that is spelt alike."""
        table, _, name = key.rpartition(".")
        names = {known.rpartition(".")[2]: known for known in self._known if known.rpartition(".")[0] == table}
        near = difflib.get_close_matches(name, names, n=1)
        if near:
            return f"did you mean {names[near[0]]}?"
        others = [known.rpartition(".")[0] for known in self._known if known.rpartition(".")[2] == name]
        if others:
            places = [f"in {_header(other)}" if other else "above all tables" for other in others]
            return f"it belongs {' or '.join(places)}"
        by_name = {known.rpartition(".")[2]: known for known in self._known} | {each: each for each in self._tables}
        near = difflib.get_close_matches(name, by_name, n=1)
        if near:
            return f"did you mean {by_name[near[0]]}?"
        if table in self._tables:
            return f"{_header(table)} has {', '.join(names)}"
        return "edge-sser config schema has all"


def expected(schema: Mapping[str, Any]) -> str:
    """Describes the values that a JSON Schema allows.

    Examples:
        >>> expected({"type": "integer", "minimum": 0, "maximum": 3})
        'a whole number from 0 to 3'
    """
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    option = options[0]
    if "examples" in option:
        return f"a text as {option['examples'][0]}"
    if "enum" in option:
        return "one of " + ", ".join(map(str, option["enum"]))
    kinds = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "array": "a list of texts"}
    kind = kinds.get(option.get("type", ""))
    if kind is None:
        return "a path" if option.get("format") == "path" else _text_expected(option.get("pattern", ""))
    low, high = option.get("minimum"), option.get("maximum")
    return kind if low is None or high is None else f"{kind} from {low} to {high}"


def _text_expected(pattern: str) -> str:
    """Describes the texts that match a pattern."""
    name = _NAME_PATTERN.match(pattern)
    if name is None:
        return f"text that matches {pattern}" if pattern else "text"
    letters = "the letters a to z" if "A-Z" in name[1] else "the small letters a to z"
    marks = " ".join(re.sub("A-Z|a-z|0-9", "", name[1]))
    return f"text of {letters}, digits and {marks}, at most {int(name[2]) + 1} long, no mark first"


def _shown(value: Any) -> str:
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return shorten(json.dumps(plain, default=str, ensure_ascii=False))


def _header(table: str) -> str:
    """Returns the line that begins a table."""
    return f"[[{table}]]" if table in LISTS else f"[{table}]"
