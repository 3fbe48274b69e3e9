"""Wheel and sdist: what PyPI would refuse, and an installation that needs no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--quiet", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, timeout=300, stdout=subprocess.DEVNULL)
    return folder


def test_pypi_would_take_both(built: Path) -> None:
    files = sorted(built.iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sdist_holds_the_product_and_no_tests(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"edge_sser/cli.py", "train/cli.py", "export/cli.py", "systemd/config.toml", "LICENSE"} <= names
    assert not any(name.startswith(("tests/", "docs/", "benchmarks/")) for name in names)


def test_the_wheel_runs_without_the_checkout(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel]
    subprocess.run(pip, check=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(target)}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=120
        ).stdout

    place = run("-c", "import edge_sser, edge_sser.train.recipe; print(edge_sser.__file__, edge_sser.train.__file__)")
    assert all(Path(file).is_relative_to(target) for file in place.split())
    demo = target / "edge_sser" / "data" / "demo.flac"
    assert '"type":"episode"' in run("-m", "edge_sser", "analyze", str(demo))
    assert "[[source]]" in (target / "edge_sser" / "units" / "config.toml").read_text()
