"""The settings file: finds it and reads it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_sser.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["CONFIG_VARIABLE", "SYSTEM_FILE", "find_file", "places", "read_file", "shorten", "tomllib"]

CONFIG_VARIABLE = "EDGE_SSER_CONFIG"
_BELOW_FOLDER = Path("edge-sser/config.toml")
SYSTEM_FILE = Path("/etc") / _BELOW_FOLDER
# Limits far beyond any settings. Without them a few hundred kilobytes of TOML would take gigabytes of memory.
MAX_BYTES = 65_536
MAX_LINE_CHARACTERS = 1_000
MAX_DEPTH = 8  # of tables and arrays within each other
MAX_INTEGER = 2**63 - 1  # TOML's
_MAX_SHOWN_CHARACTERS = 60
_MAX_REASON_CHARACTERS = 200


def find_file(environ: Mapping[str, str]) -> Path | None:
    """Returns the file to read: the one named by the environment, else the user's, else the system's, else None."""
    named = environ.get(CONFIG_VARIABLE)
    if named:
        return Path(os.path.expanduser(named))  # Path.expanduser raises for an unknown ~user
    # Not Path.exists, which raises for a home folder that this user may not read.
    return next((place for place in places(environ) if os.path.exists(place)), None)


def places(environ: Mapping[str, str]) -> list[Path]:
    """Returns where settings are looked for, in this order: the user's folders, and the system's.

    `~/.config` counts also when XDG_CONFIG_HOME names another folder: the service of a user has its settings there.
    """
    base, home = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME")
    folders = [Path(base)] if os.path.isabs(base) else []
    folders += [Path(home) / ".config"] if home else []
    return [*dict.fromkeys(folder / _BELOW_FOLDER for folder in folders), SYSTEM_FILE]


def read_file(path: Path) -> dict[str, Any]:
    """Reads a settings file.

    Raises:
        SettingsError: the file cannot be read, is no TOML, or exceeds a limit.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such settings file: check the path, or leave it out") from None
    except IsADirectoryError:
        raise SettingsError(f"{path}: the settings cannot be read, since it is a folder: name the file in it") from None
    except OSError as error:
        raise SettingsError(f"{path}: the settings cannot be read ({error.strerror}): check owner and mode") from None
    if len(data) > MAX_BYTES:
        raise SettingsError(f"{path}: larger than {MAX_BYTES} bytes, expected a settings file: check the path")
    try:
        text = data.decode("utf-8-sig")  # some editors write a byte order mark
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path}: byte {error.start} is not UTF-8, expected a TOML file: save it as UTF-8"
        ) from None
    longest = max(lines := text.split("\n"), key=len)
    if len(longest) > MAX_LINE_CHARACTERS:
        raise SettingsError(
            f"{path}: line {lines.index(longest) + 1} is longer than {MAX_LINE_CHARACTERS} characters: break it up"
        )
    try:
        values = dict(tomllib.loads(text))
    except RecursionError:
        raise _too_deep(path) from None
    except tomllib.TOMLDecodeError as error:
        end = f"at line {len(text.splitlines())}, the end of the file"
        reason = shorten(str(error).replace("at end of document", end), _MAX_REASON_CHARACTERS)
        hint = " (texts stand in quotes)" if reason.startswith("Invalid value") else ""
        raise SettingsError(f"{path}: not valid TOML: {reason}: correct that line{hint}") from None
    except ValueError:  # Python refuses numbers of more than 4,300 digits
        raise _too_large(path) from None
    _check_limits(path, values)
    return values


def shorten(text: str, characters: int = _MAX_SHOWN_CHARACTERS) -> str:
    """Shortens a key or value for an error message, and cuts off text after //, which may hold a password."""
    before, url, _ = text.partition("//")
    return text if not url and len(text) <= characters else (before + url)[: characters - 3] + "..."


def _check_limits(path: Path, value: Any, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise _too_deep(path)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise _too_large(path)
    if isinstance(value, str) and "\0" in value:
        raise SettingsError(f"{path}: a text in it holds the character NUL, which no name or path can: take it out")
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_limits(path, part, depth + 1)


def _too_deep(path: Path) -> SettingsError:
    return SettingsError(f"{path}: tables or arrays are nested more than {MAX_DEPTH} deep: no settings are")


def _too_large(path: Path) -> SettingsError:
    return SettingsError(f"{path}: a number in it has more than 64 bits: correct it")
