"""The documents of the project, and the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
# Printed by `edge-sser export` and committed as it is.
GENERATED = (ROOT / "docs" / "results" / "export-report.md",)

_BLOCK = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```$", re.DOTALL | re.MULTILINE)
_ASSIGNMENT = re.compile(r"\w+=.*")
_PREFIXES = ("sudo", "do", "then", "time")


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command in a document.

    Attributes:
        page: relative to the root.
        words: program and arguments, without `sudo` and assignments.
    """

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def name_of(page: Path) -> str:
    """The page's path from the root."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and content of every fenced block."""
    return _BLOCK.findall(page.read_text("utf-8"))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text("utf-8"))


def commands(page: Path) -> list[Command]:
    """Every simple command of the shell blocks of a page."""
    found = []
    for language, content in blocks(page):
        if language == "sh":
            for line in content.replace("\\\n", " ").splitlines():
                found += [Command(name_of(page), words) for words in simple_commands(line)]
    return found


def simple_commands(line: str) -> list[tuple[str, ...]]:
    """A shell line split at pipes, separators and redirections, without comments."""
    line = re.sub(r"(^|\s)#.*", "", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|;&"):
            found.append([])
        elif set(word) <= set("<>"):
            found.append(["redirected"])
        else:
            found[-1].append(word)
    return [words for words in map(_without_prefix, found) if words]


def _without_prefix(words: list[str]) -> tuple[str, ...]:
    while words and (words[0] in _PREFIXES or _ASSIGNMENT.fullmatch(words[0])):
        words = words[1:]
    return tuple(words)
