"""Settings as TOML, with the origin of each value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edge_sser.settings.load import SOURCE, Loaded, section_in
from edge_sser.settings.schema import Settings
from edge_sser.settings.section import Section

_COMMENT_COLUMN = 48


def as_toml(loaded: Loaded) -> str:
    """Formats the settings in effect as TOML, with the origin of each value as a comment.

    The text reads back as the same settings, but for secrets, which are masked. A key without a value, which TOML does
    not have, becomes a comment.
    """
    settings = loaded.settings
    lines = [f"# file: {loaded.path or 'none; values that nothing sets are defaults'}"]
    lines += _table(settings, "", loaded)
    for source in settings.source:
        lines += ["", f"[[{SOURCE}]]", *_table(source, f"{SOURCE}.", loaded)]
    for name, field in Settings.model_fields.items():
        if name == SOURCE or section_in(field.annotation) is None:
            continue
        section = getattr(settings, name)
        if isinstance(section, tuple):
            for part in section:
                lines += ["", f"[[{name}]]", *_table(part, f"{name}.", loaded)]
            continue
        lines += ["", f"[{name}]" if section is not None else f"# [{name}] is not set"]
        if section is not None:
            lines += _table(section, f"{name}.", loaded)
    return "\n".join(lines) + "\n"


def set_values_as_toml(values: Mapping[str, Any]) -> str:
    """Formats given settings as TOML.

    Args:
        values: plain values, and tables of plain values, by key; a list of tables for `source`.
    """
    lines = [f"{key} = {_value(value)}" for key, value in values.items() if not isinstance(value, (dict, list))]
    for key, value in values.items():
        for table in value if isinstance(value, list) else [value] if isinstance(value, dict) else []:
            lines += ["", f"[[{key}]]" if isinstance(value, list) else f"[{key}]"]
            lines += [f"{name} = {_value(one)}" for name, one in table.items()]
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(section: Section, prefix: str, loaded: Loaded) -> list[str]:
    values = section.model_dump(mode="json")
    lines = []
    for name, field in type(section).model_fields.items():
        if section_in(field.annotation) is None:
            text = f"# {name} =" if values[name] is None else f"{name} = {_value(values[name])}"
            lines.append(f"{text:{_COMMENT_COLUMN}} # {loaded.origin(prefix + name)}")
    return lines


def _value(value: Any) -> str:
    """Formats a value in TOML, whose strings, numbers and booleans are those of JSON but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
