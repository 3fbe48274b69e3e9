"""Errors that a user can cause, each with a message for that user and an exit status.

* EdgeSserError
  * UsageError
    * SettingsError
  * SourceError
  * ModelError
  * SinkError
    * OutputClosedError (in sinks/stdout.py)
  * TrainingError
  * MissingComponentError
"""

from __future__ import annotations

import importlib.util

_MAX_REASON_CHARACTERS = 200


class EdgeSserError(Exception):
    """A failure at run time. The message names the thing, what was expected and what to do."""

    exit_status = 1

    def __str__(self) -> str:
        """Returns the message on one line and without control characters, whatever file, key or device it names."""
        return "".join(char if char.isprintable() else repr(char)[1:-1] for char in super().__str__())


class UsageError(EdgeSserError):
    """A wrong flag, value or combination on the command line."""

    exit_status = 2


class SettingsError(UsageError):
    """A wrong key, type or range in the settings file, the environment or a flag."""


class SourceError(EdgeSserError):
    """Audio that cannot be opened, read or understood, or that stopped coming."""


class ModelError(EdgeSserError):
    """A model file that is missing, damaged, or made for other features."""


class SinkError(EdgeSserError):
    """An output that cannot be opened or written."""


class TrainingError(EdgeSserError):
    """A corpus, recipe or checkpoint that training cannot use."""


class MissingComponentError(EdgeSserError):
    """An optional package that is not installed. The message gives the install command."""


def missing_extra(package: str, extra: str, purpose: str, hint: str = "") -> MissingComponentError:
    """Returns the error for an optional package that is not installed.

    Args:
        package: the package's import name.
        extra: the extra of edge-sser that brings it.
        purpose: user of the package, as the start of a sentence.
        hint: advice besides the install command.
    """
    command = f'pip install "edge-sser[{extra}]"' + (f" ({hint})" if hint else "")
    return MissingComponentError(f"{purpose} needs the Python package {package}: {command}")


def need_package(package: str, extra: str, purpose: str, hint: str = "") -> None:
    """Looks for an optional package, without importing it; arguments as for `missing_extra`.

    Raises:
        MissingComponentError: the package is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise missing_extra(package, extra, purpose, hint)


def short(reason: object) -> str:
    """Returns the first line of a library's message, cut to `_MAX_REASON_CHARACTERS`; the class of an empty one."""
    text = (str(reason).splitlines() or [type(reason).__name__])[0].rstrip(" .")
    return text if len(text) <= _MAX_REASON_CHARACTERS else text[: _MAX_REASON_CHARACTERS - 3] + "..."
