"""Prints edge-sser(1), made from the help of the commands, in the macros of man(7).

usage: python packaging/deb/manpage.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from edge_sser import __version__
from edge_sser.cli import app

HANDED_OVER = {
    "train": "Trains and judges models, on a workstation. See edge-sser train --help.",
    "export": "Makes model files, on a workstation. See edge-sser export --help.",
}
FILES = {
    "/etc/edge-sser/config.toml": "Settings of the service.",
    "/etc/edge-sser/mqtt-password": "Password of the broker, on the first line. Only root need be able to read it.",
    "/var/lib/edge-sser": "State of the service: events that wait for the broker, baselines.",
}
STATUSES = {
    "0": "Done.",
    "1": "A failure at run time.",
    "2": "Wrong usage or settings.",
    "130": "Ctrl\\-C, after a clean stop.",
}


def escaped(text: str) -> str:
    """Returns text that troff prints as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in text.splitlines())


def paragraphs(text: str) -> Iterator[str]:
    """Yields the paragraphs of a help text."""
    for number, part in enumerate(text.replace("\b", "").strip().split("\n\n")):
        yield from (*((".PP",) if number else ()), escaped(" ".join(part.split())))


def described(items: dict[str, str]) -> Iterator[str]:
    """Yields a list of terms, each with its description."""
    for term, text in items.items():
        yield from (".TP", f".B {escaped(term)}", escaped(text))


def options(command: Any) -> dict[str, str]:
    """Returns the options of a command with their help."""
    found = {}
    context = typer.Context(command)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            found[record[0]] = record[1]
    return found


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yields the commands below one that have no commands of their own, each with its full name."""
    for part, inner in sorted(command.commands.items()):
        if part in HANDED_OVER:
            continue
        if hasattr(inner, "commands"):
            yield from commands(inner, f"{name} {part}")
        else:
            yield f"{name} {part}", inner


def page() -> Iterator[str]:
    """Yields the lines of the page."""
    root = typer.main.get_command(app)
    yield f'.TH EDGE\\-SSER 1 "" "edge\\-sser {__version__}" "User Commands"'
    yield from (".SH NAME", "edge\\-sser \\- how stressed speech sounds: a microphone in, rolling levels out")
    yield from (".SH SYNOPSIS", ".B edge\\-sser", "COMMAND [OPTION]... [ARGUMENT]...", ".SH DESCRIPTION")
    yield from paragraphs(root.help or "")
    yield ".SH COMMANDS"
    for name, command in commands(root, "edge-sser"):
        pieces = command.collect_usage_pieces(typer.Context(command))
        yield from (f".SS {escaped(name)}", f".B {escaped(name)}", escaped(" ".join(pieces)), ".PP")
        yield from paragraphs(command.help or "")
        yield from described(options(command))
    yield from described({f"edge-sser {name}": text for name, text in HANDED_OVER.items()})
    yield from (".SH FILES", *described(FILES), ".SH EXIT STATUS", *described(STATUSES))
    yield from (".SH SEE ALSO", ".BR systemctl (1),", ".BR journalctl (1)")


if __name__ == "__main__":
    print("\n".join(page()))
