"""Loads settings in layers: a TOML file, then the environment, then flags. A later layer wins.

A setting's variable is its key in capitals after EDGE_SSER_: `gate.aggressiveness` is EDGE_SSER_GATE_AGGRESSIVENESS.
EDGE_SSER_SOURCE names the device of the one source, in place of the file's `[[source]]` tables, as `--source` does. The
other keys of a source (EDGE_SSER_SOURCE_CHANNEL, `--channel`) hold for every source. An empty variable counts as unset.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard, get_args, get_origin

from pydantic import ValidationError

from edge_sser.errors import SettingsError
from edge_sser.settings.faults import FaultDescriber, WrongSettingsError
from edge_sser.settings.file import CONFIG_VARIABLE, find_file, read_file, shorten
from edge_sser.settings.names import source_name
from edge_sser.settings.schema import Settings
from edge_sser.settings.section import Section

PREFIX = "EDGE_SSER_"
# Variables with our prefix that are no settings: the path of the file, and options of the tests.
OTHER_VARIABLES = frozenset(
    {CONFIG_VARIABLE, "EDGE_SSER_DATA", "EDGE_SSER_GPU", "EDGE_SSER_REQUIRE_ALL", "EDGE_SSER_SOAK"}
)
DEFAULT_ORIGIN = "default"
SOURCE = "source"
NOTIFY = "notify"  # tables that a file alone can hold
DEVICE = "source.device"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings in effect, and their origins.

    Attributes:
        settings: validated.
        origins: key -> name of the file, variable or flag that set its value. All other keys have their defaults.
        path: the file that was read; None without one.
    """

    settings: Settings
    origins: Mapping[str, str]
    path: Path | None

    def origin(self, key: str) -> str:
        """Returns the name of the file, variable or flag that set a key, or `default`."""
        return self.origins.get(key, DEFAULT_ORIGIN)


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag given on the command line.

    Attributes:
        name: as typed, `--format`.
        value: a string, number or boolean; for `source.device` a list of devices.
    """

    name: str
    value: Any


def load_settings(
    path: Path | None = None,
    *,
    flags: Mapping[str, Flag] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Loaded:
    """Loads and validates the settings.

    Args:
        path: the file to read; None to look for one, which may be absent.
        flags: key -> the flag that sets it.
        environ: the environment.

    Raises:
        SettingsError: a file cannot be read, or a key, type or range is wrong; the message names the origin.
    """
    path = path or find_file(environ)
    layers = _Layers()
    if path is not None:
        layers.add_file(path, read_file(path))
    layers.add_environment(environ)
    layers.add_flags(flags or {})
    return Loaded(layers.validated(), layers.origins, path)


def known_keys(section: type[Section] = Settings, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Returns every dotted key of the settings with the JSON Schema of its value."""
    schema = section.model_json_schema()
    keys: dict[str, dict[str, Any]] = {}
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            keys |= known_keys(inner, f"{prefix}{name}.")
        else:
            keys[prefix + name] = _resolved(schema["properties"][name], schema.get("$defs", {}))
    return keys


def section_in(annotation: Any) -> type[Section] | None:
    """Returns the section in `Table`, `Table | None` or `tuple[Table, ...]`; None when the annotation has none."""
    # In Python 3.10, tuple[...] is an instance of type.
    if get_origin(annotation) is None and isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_in(part))), None)


def variable(key: str) -> str:
    """Returns the environment variable of a key.

    Examples:
        >>> variable("gate.aggressiveness")
        'EDGE_SSER_GATE_AGGRESSIVENESS'
        >>> variable("source.device")
        'EDGE_SSER_SOURCE'
    """
    return PREFIX + (SOURCE if key == DEVICE else key.replace(".", "_")).upper()


class _Layers:
    """Values of all layers, merged, with their origins."""

    def __init__(self) -> None:
        self.origins: dict[str, str] = {}
        self._known = known_keys()
        self._values: dict[str, Any] = {}
        self._common: dict[str, Any] = {}  # keys that hold for every source
        self._exact: set[str] = set()  # variables and flags, which set one key each: their name suffices in a message

    def add_file(self, path: Path, values: dict[str, Any]) -> None:
        self._values = values
        for table, content in values.items():
            self.origins[table] = str(path)
            for part in content if isinstance(content, list) else [content]:
                self.origins |= dict.fromkeys([f"{table}.{key}" for key in part], str(path)) if _is_table(part) else {}

    def add_environment(self, environ: Mapping[str, str]) -> None:
        keys = {variable(key): key for key in self._known if not key.startswith(f"{NOTIFY}.")}
        for name in sorted(environ):  # EDGE_SSER_SOURCE before EDGE_SSER_SOURCE_CHANNEL
            if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
                continue
            if name not in keys:
                nearest = difflib.get_close_matches(name, keys, n=1, cutoff=0.0)[0]
                raise SettingsError(f"{shorten(name)}: there is no such setting: did you mean {nearest}?")
            if environ[name]:
                key = keys[name]
                value = _from_text(environ[name], self._known[key])
                self._set(key, [value] if key == DEVICE else value, name)
                self._exact.add(name)

    def add_flags(self, flags: Mapping[str, Flag]) -> None:
        for key, flag in flags.items():
            self._set(key, flag.value, flag.name)
            self._exact.add(flag.name)

    def validated(self) -> Settings:
        sources = self._values.get(SOURCE, [{}])
        if self._common and isinstance(sources, list):
            self._values[SOURCE] = [source | self._common if _is_table(source) else source for source in sources]
        faults = []
        try:
            settings = self._model()
        except SettingsError as error:  # of mqtt.url, from a validator that must not repeat the value
            faults = [f"{self.origins.get('mqtt.url', 'settings')}: {error}", *self._faults_beside_url()]
        except ValidationError as error:
            faults = self._described(error)
        if faults:
            raise WrongSettingsError(faults, in_file=not self._exact) from None
        named = {SOURCE: [source_name(source) for source in settings.source]}
        named[NOTIFY] = [each.name for each in settings.notify or ()]
        for table, names in named.items():
            duplicate = next((name for name in names if names.count(name) > 1), None)
            if duplicate is not None:
                plural = "sources" if table == SOURCE else "notifications"
                origin = self._origin_of(table)
                of_file = " of a settings file" if origin in self._exact else ""
                raise SettingsError(
                    f"{origin}: two {plural} are called {duplicate}, expected different names: set a name in each "
                    f"[[{table}]]{of_file}"
                )
        return settings

    def _model(self) -> Settings:
        # Through JSON, whose strict mode takes text for a path or an enumeration, but never "2" for 2.
        return Settings.model_validate_json(json.dumps(self._values, default=_unsupported), strict=True)

    def _described(self, error: ValidationError) -> list[str]:
        describe = FaultDescriber(self._known, self._origin_of, self._exact)
        found = error.errors()
        # A list whose parts are all wrong counts as empty: that is no fault of its own.
        inside = {fault["loc"][:length] for fault in found for length in range(len(fault["loc"]))}
        return [describe(fault) for fault in found if fault["loc"] not in inside]

    def _faults_beside_url(self) -> list[str]:
        self._values["mqtt"]["url"] = "mqtts://host"  # under which no rule on TLS finds a fault
        try:
            self._model()
        except ValidationError as error:
            return self._described(error)
        return []

    def _set(self, key: str, value: Any, origin: str) -> None:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not _is_utf8(text):  # surrogate escapes of a file name
                raise SettingsError(f"{origin}: {shorten(text)} is not UTF-8: rename the file, or write UTF-8")
        table, _, name = key.rpartition(".")
        if key == DEVICE:
            # Another device is another source: the file's other keys of sources do not fit it.
            self.origins = {
                known: name
                for known, name in self.origins.items()
                if not known.startswith(f"{SOURCE}.") or known.rpartition(".")[2] in self._common
            }
            self._values[SOURCE] = [{"device": device} for device in value]
            self.origins[SOURCE] = origin
        elif table == SOURCE:
            self._common[name] = value
        else:
            target = self._values.setdefault(table, {}) if table else self._values
            if _is_table(target):  # otherwise validation reports that the file has no table there
                target[name] = value
        self.origins[key] = origin

    def _origin_of(self, key: str) -> str:
        """Returns the origin of a key or table, else that of a key inside it, else that of its table."""
        inside = [origin for known, origin in self.origins.items() if known.startswith(f"{key}.")]
        outside = self.origins.get(key.rpartition(".")[0], "settings")
        return self.origins.get(key) or (inside[-1] if inside else outside)


def _from_text(text: str, schema: Mapping[str, Any]) -> Any:
    """Converts a variable's text to the type of its setting. Returns the text itself where that fails."""
    kinds = {option.get("type") for option in schema.get("anyOf", [schema])}
    try:
        if "integer" in kinds:
            return int(text)
        if "number" in kinds:
            return float(text)
    except ValueError:
        return text
    return {"true": True, "false": False}.get(text.lower(), text) if "boolean" in kinds else text


def _resolved(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return schema | dict(definitions[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return schema | {"anyOf": [_resolved(option, definitions) for option in schema["anyOf"]]}
    return schema


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_table(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _unsupported(value: Any) -> Any:
    """Replaces TOML's dates and times, which no setting takes, by a value that validation refuses everywhere."""
    return [str(value)]
