"""The device side stands alone, and its packages import in one direction."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import edge_sser

ROOT = Path(edge_sser.__file__).parent
# Each package may import those before it. A package's own modules may import each other.
DIRECTION = (
    "data",
    "errors",
    "events",
    "files",
    "credentials",
    "settings",
    "audio",
    "pipeline",
    "baselines",
    "model",
    "monitor",
    "history",
    "api",
    "sinks",
    "daemon",
    "commands",
    "web",
    "cli",
)
FOREIGN = ("torch", "torchaudio", "transformers", "edge_sser.train", "edge_sser.export")


def modules() -> Iterator[tuple[Path, str]]:
    """Each module of the device side with the name of its package or top-level module."""
    for path in sorted(ROOT.rglob("*.py")):
        top = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if top not in ("train", "export", "__init__", "__main__"):
            yield path, top


def imported(path: Path) -> Iterator[str]:
    """Names of the modules that a module imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_device_side_imports_neither_training_nor_export_nor_torch():
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path, _ in modules()
        for name in imported(path)
        if any(name == foreign or name.startswith(f"{foreign}.") for foreign in FOREIGN)
    ]
    assert wrong == []


def test_packages_import_in_one_direction():
    wrong = []
    for path, top in modules():
        assert top in DIRECTION, f"{top}: name its place in the direction"
        for name in imported(path):
            parts = name.split(".")
            if parts[0] != "edge_sser" or len(parts) < 2 or parts[1] not in DIRECTION:
                continue
            if DIRECTION.index(parts[1]) > DIRECTION.index(top):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []
