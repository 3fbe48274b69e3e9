"""Habits of the code: docstrings that open plainly, and modules, functions and folders of a readable size."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("edge_sser", "train", "export")
OPENERS = frozenset(
    ("What", "Who", "Whom", "Whose", "Whether", "How", "Where", "When", "Why", "Which", "It", "They", "That", "This")
)
MODULE_LINES, FUNCTION_LINES = 320, 60


def modules(*folders: str) -> Iterator[Path]:
    """Each module once: train and export are linked into edge_sser."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not {"train", "export"} & set(path.relative_to(ROOT).parts[1:-1]):
                yield path


def documented(path: Path) -> Iterator[tuple[str, str]]:
    """Name and docstring of a module, of all that it defines, and of attributes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", path.name), text
        for before, after in itertools.pairwise(getattr(node, "body", ()) if isinstance(node, ast.ClassDef) else ()):
            match before, after:
                case (ast.Assign() | ast.AnnAssign(), ast.Expr(value=ast.Constant(value=str(text)))):
                    yield ast.unparse(before), text


def test_no_docstring_opens_with_a_question_or_a_pronoun():
    wrong = [
        f"{path.relative_to(ROOT)}: {name}: {text.splitlines()[0]}"
        for path in modules(*PRODUCT, "benchmarks", "scripts", "tests")
        for name, text in documented(path)
        if re.split(r"\W", text, maxsplit=1)[0] in OPENERS
    ]
    assert wrong == []


def test_modules_and_functions_fit_a_few_screens():
    wrong = []
    for path in modules(*PRODUCT):
        text = path.read_text()
        if text.count("\n") > MODULE_LINES:
            wrong.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno is not None:
                lines = node.end_lineno - node.body[0].lineno + 1  # the docstring's last line counts as the first
                if ast.get_docstring(node) and len(node.body) > 1:
                    lines = node.end_lineno - node.body[1].lineno + 1
                if lines > FUNCTION_LINES:
                    wrong.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert wrong == []


def test_a_reader_who_opens_a_folder_sees_the_trade():
    """Few modules at the top of the device side and of training; the rest lies in packages."""
    top = {folder: len(list((ROOT / folder).glob("*.py"))) for folder in ("edge_sser", "train")}
    assert top["edge_sser"] <= 8
    assert top["train"] <= 6


def test_no_test_imports_a_conftest():
    """There are several of that name: the import would find the one that was loaded last."""
    wrong = [
        path.name
        for path in modules("tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.ImportFrom) and node.module == "conftest")
        or (isinstance(node, ast.Import) and any(name.name == "conftest" for name in node.names))
    ]
    assert wrong == []
