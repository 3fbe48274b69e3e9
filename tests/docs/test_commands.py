"""Every command that a document shows exists, with its options and arguments."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from pages import PAGES, ROOT, Command, commands, name_of, prose, simple_commands

from edge_sser.cli import app

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ALL = [command for page in PAGES for command in commands(page)]
HANDED_OVER = ("train", "export")  # parsed by applications of their own, which need torch


def program(command: Command) -> str:
    """The name of the program that a command runs."""
    return Path(command.words[0]).name


def test_there_are_commands_to_check() -> None:
    assert sum(program(command) == "edge-sser" for command in ALL) > 60


def test_shell_blocks_are_marked_as_such() -> None:
    """A block without a language hides its commands from these tests."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in re.findall(r"```(?!sh\n)\w*\n(.*?)```", prose_free(text), re.DOTALL):
            assert not re.search(r"^(\S*/)?edge-sser |^pip install |^make ", block, re.MULTILINE), name_of(page)


def prose_free(text: str) -> str:
    """The fenced blocks of a text, each with its fences."""
    return "\n".join(match.group(0) for match in re.finditer(r"```\w*\n.*?```", text, re.DOTALL))


def parse(words: tuple[str, ...]) -> None:
    """Parses an edge-sser command line as the program does, and runs nothing.

    Raises:
        Exception: of click, when a command, option or argument does not exist or fit.
    """
    command: Any = typer.main.get_command(app)
    arguments = list(words[1:])
    if arguments and arguments[0] in HANDED_OVER:
        pytest.importorskip("torch", reason='pip install ".[train,export]"')
        module = __import__(f"edge_sser.{arguments[0]}.cli", fromlist=["app"])
        command, arguments = typer.main.get_command(module.app), arguments[1:]
    name, context = "edge-sser", None
    while True:
        context = command.make_context(name, arguments, parent=context)
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not hasattr(command, "commands"):
            assert not rest, f"{rest} are too many"
            return
        if not rest:
            assert command.invoke_without_command, f"{name}: a command is missing"
            return
        name, command, arguments = command.resolve_command(context, rest)


@pytest.mark.train
@pytest.mark.parametrize(
    "line",
    [
        "edge-sser nothing",
        "edge-sser listen --no-such-option",
        "edge-sser listen talk.flac",
        "edge-sser train",
        "edge-sser train fit table.csv",
        "edge-sser train fit table.csv --out runs/a --teachers runs/b",
        "edge-sser export model.safetensors --out",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|unexpected|missing|requires|are too many"):
        parse(tuple(line.split()))


@pytest.mark.train
@pytest.mark.parametrize("command", [each for each in ALL if program(each) == "edge-sser"], ids=str)
def test_an_edge_sser_command_parses(command: Command) -> None:
    if command.words[1:] != ("--help",):
        parse(command.words)


def test_commands_in_running_text_exist() -> None:
    """A span such as `edge-sser train fit --teacher` may leave arguments out, but names nothing that does not exist."""
    wrong = []
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # tells of commands that are gone as well
            continue
        for span in re.findall(r"`((?:\S*/)?edge-sser [a-z][^`]*)`", prose(page)):
            for words in simple_commands(" ".join(span.split())):
                if Path(words[0]).name == "edge-sser" and (said := complaint(words)):
                    wrong.append(f"{name_of(page)}: {span}: {said}")
    assert wrong == []


def complaint(words: tuple[str, ...]) -> str:
    """The parser's objection to a command line; empty when something is merely left out."""
    words = tuple(word for word in words if word not in ("…", "..."))
    if "--help" in words or words[1].isupper():
        return ""
    try:
        parse(words)
    except Exception as error:
        kind = type(error).__name__
        if kind in ("MissingParameter", "NoArgsIsHelpError", "BadOptionUsage"):
            return ""
        return f"{kind}: {error.format_message() if hasattr(error, 'format_message') else error}"
    except AssertionError as error:
        return "" if "missing" in str(error) else str(error)
    return ""


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w.-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    used = {words for command in ALL if program(command) == "make" for words in command.words[1:2]}
    used |= {target for page in PAGES for target in re.findall(r"`make ([\w-]+)`", prose(page))}
    assert used
    assert used - targets == set()


def test_scripts_and_benchmarks_exist_with_their_options() -> None:
    spans = [
        Command(name_of(page), words)
        for page in PAGES
        for span in re.findall(r"`(python3? benchmarks/[^`]+)`", prose(page))
        for words in simple_commands(" ".join(span.split()))
    ]
    ours = [each for each in (*ALL, *spans) if each.words[0].startswith("python") and len(each.words) > 1]
    ours = [each for each in ours if each.words[1].startswith(("benchmarks/", "scripts/"))]
    assert ours
    for each in ours:
        source = (ROOT / each.words[1]).read_text("utf-8")
        options = [word.partition("=")[0] for word in each.words[2:] if word.startswith("--")]
        assert [option for option in options if f'"{option}"' not in source] == [], str(each)


def test_extras_that_are_installed_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for page in PAGES:
        text = page.read_text("utf-8")
        for names in re.findall(r"pip install [^\n`]*\.\[([\w,-]+)\]", text):
            assert set(names.split(",")) <= set(project["optional-dependencies"]), f"{name_of(page)}: {names}"


def test_nothing_is_installed_from_an_index_by_our_name() -> None:
    """Nothing is published: only a checkout can be installed."""
    for page in PAGES:
        assert not re.search(r"pip install [^\n`]*\bedge-sser\b(?!/)", page.read_text("utf-8")), name_of(page)
