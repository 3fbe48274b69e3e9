"""Errors that a user can cause, each with a message for that user and an exit status, and the code that prints them.

Exit status: 0 done, 1 a failure at run time, 2 wrong usage or configuration, 130 on Ctrl-C.

* EdgeSserError
  * UsageError
    * SettingsError
  * SourceError
    * AudioInputError
  * ModelError
  * SinkError
    * OutputClosedError
  * TrainingError
  * MissingComponentError
  * HistoryError
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130  # exit status after Ctrl-C
_MAX_REASON_CHARACTERS = 200
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
_PROJECTS = {"sklearn": "scikit-learn"}  # packages that are installed under another name than they are imported by
_JOURNAL_ERROR = "<3>"  # priority of an error, which the journal reads at the start of a line


class EdgeSserError(Exception):
    """A failure at run time. The message names the thing, what was expected and what to do."""

    exit_status = 1

    def __str__(self) -> str:
        """Returns the message on one line and without control characters, whatever file, key or device it names."""
        return printable(super().__str__())


class UsageError(EdgeSserError):
    """A wrong flag, value or combination on the command line."""

    exit_status = 2


class SettingsError(UsageError):
    """A wrong key, type or range in the settings file, the environment or a flag."""


class SourceError(EdgeSserError):
    """Audio that cannot be opened, read or understood, or that stopped coming."""


class AudioInputError(SourceError, ValueError):
    """Samples of another Python program that are not audio: wrong type, shape, rate or values."""


class ModelError(EdgeSserError):
    """A model file that is missing, damaged, or made for other features."""


class SinkError(EdgeSserError):
    """An output that cannot be opened or written."""


class OutputClosedError(SinkError):
    """The reader of standard output has gone, as `head` does: the end of the program, not a failure."""


class TrainingError(EdgeSserError):
    """A corpus, recipe or checkpoint that training cannot use."""


class HistoryError(EdgeSserError):
    """A history file that cannot be read or written."""


class MissingComponentError(EdgeSserError):
    """An optional package that is not installed. The message gives the install command."""


def printable(text: object) -> str:
    """Returns a text on one line and without control characters."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in str(text))


def is_bare(name: str) -> bool:
    """Returns True for a text that reads as a name, not as a path: without a folder and a suffix."""
    return "/" not in name and "." not in name


def unknown_name(kind: str, name: str, shipped: Collection[str], file: str) -> str:
    """Returns the message on a name that is none of those that ship.

    Args:
        kind: of the thing.
        name: as given.
        shipped: names that would do.
        file: what may be given in place of a name.

    Examples:
        >>> unknown_name("model", "sser-pluss", ["sser-cnn", "sser-plus"], "an .onnx file")
        "no model 'sser-pluss': did you mean sser-plus? ones that ship: sser-cnn, sser-plus; or give an .onnx file"
    """
    near = difflib.get_close_matches(name, shipped, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"no {kind} {name!r}: {meant}ones that ship: {', '.join(shipped)}; or give {file}"


def unreadable(kind: str, name: str, error: Exception, shipped: Collection[str], file: str) -> str:
    """Returns the message on a file that cannot be read, or on a name that none has.

    Args:
        kind: of the thing.
        name: as given: of one that ships, or a path.
        error: of reading it.
        shipped: names that would do.
        file: what may be given in place of a name.
    """
    if is_bare(name) and isinstance(error, FileNotFoundError):
        return unknown_name(kind, name, shipped, file)
    return f"{kind} {name}: {short(error)}: give {file} or {' or '.join(shipped)}"


def missing_extra(package: str, extra: str, purpose: str, hint: str = "") -> MissingComponentError:
    """Returns the error for an optional package that is not installed.

    Args:
        package: the package's import name.
        extra: the extra of edge-sser that brings it.
        purpose: user of the package, as the start of a sentence.
        hint: advice besides the install command.
    """
    name = _PROJECTS.get(package, package)
    command = f'pip install "edge-sser[{extra}]"' + (f" ({hint})" if hint else "")
    return MissingComponentError(f"{purpose} needs the Python package {name}: {command}")


def need_package(package: str, extra: str, purpose: str, hint: str = "") -> None:
    """Looks for an optional package, without importing it; arguments as for `missing_extra`.

    Raises:
        MissingComponentError: the package is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise missing_extra(package, extra, purpose, hint)


def short(reason: object) -> str:
    """Returns the first line of a library's message for a person; the class of an empty one.

    Examples:
        >>> short(FileNotFoundError(2, "No such file or directory", "talk.wav"))
        'No such file or directory'
        >>> short("[Errno 111] Connection refused")
        'Connection refused'
    """
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    text = _ERRNO.sub("", (str(reason).splitlines() or [type(reason).__name__])[0]).rstrip(" .")
    return text if len(text) <= _MAX_REASON_CHARACTERS else text[: _MAX_REASON_CHARACTERS - 3] + "..."


def run_program(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit status. An error that a user can cause is one line on standard error.

    Args:
        app: with the commands.
        arguments: without the program's name.
    """
    import typer

    parse_error: type[Exception] = typer.BadParameter.__bases__[0]  # of click, which typer carries under another name
    if sys.stdout is None:  # closed by the program that started this one
        return _fail("standard output is closed: open it, or send it to /dev/null", EdgeSserError.exit_status)
    try:
        status = run_command(app, "edge-sser", arguments)
        sys.stdout.flush()
    except OutputClosedError as error:  # as `head` does: no failure, but worth a line
        _discard_output()
        print(f"edge-sser: {error}", file=sys.stderr)
        return 0
    except EdgeSserError as error:
        return _fail(str(error), error.exit_status)
    except parse_error as error:
        return _fail(_usage_text(error), UsageError.exit_status)
    except OSError as error:
        _discard_output()
        # Only the standard streams have no name: they were opened by the program that started this one.
        name = "standard output cannot be written" if error.filename is None else str(error.filename)
        return _fail(f"{name}: {error.strerror or error}", EdgeSserError.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return status


def run_command(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    """Runs a command without handling its errors; returns its exit status.

    Args:
        app: with the commands.
        name: of the program, for usage messages.
        arguments: without the program's name.
    """
    import typer

    status = typer.main.get_command(app).main(args=list(arguments), prog_name=name, standalone_mode=False)
    return status if isinstance(status, int) else 0


def _discard_output() -> None:
    """Redirects what is still buffered to /dev/null: the interpreter would fail to write it at exit, and complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _usage_text(error: Any) -> str:
    context = error.ctx
    if type(error).__name__ == "NoArgsIsHelpError":
        return f"a command is missing: {context.command_path} --help shows them"
    message = " ".join(error.format_message().split()).rstrip(".")
    surplus = re.search(r"unexpected extra argument(?:\(s\)|s)? \((.*)\)", message)
    if surplus and context and context.command_path.endswith("listen"):
        return f"{message}: did you mean {context.command_path} --source {' --source '.join(surplus[1].split())}?"
    joint = "" if message.endswith("?") else ":"
    return f"{message}{joint} {context.command_path if context else 'edge-sser'} --help shows what there is"


def _fail(message: str, status: int) -> int:
    prefix = _JOURNAL_ERROR if goes_to_journal(sys.stderr) else ""
    print(f"{prefix}edge-sser: error: {' '.join(message.splitlines())}", file=sys.stderr)
    return status


def goes_to_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Returns True when systemd has connected a stream to the journal, and nobody has redirected it since.

    Args:
        stream: standard error, usually.
        environ: with JOURNAL_STREAM, the device and inode of that stream.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
