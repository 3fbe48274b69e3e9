"""The lock of a device's installation fits pyproject.toml, with a hash for every file, and holes are told as such."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@pytest.fixture(scope="module")
def supply_chain() -> ModuleType:
    """The script of `make supply-chain`."""
    spec = importlib.util.spec_from_file_location("supply_chain", ROOT / "scripts" / "supply_chain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(python: str, machine: str = "x86_64") -> dict[str, str]:
    """The markers of a device that runs Linux."""
    return {
        **{key: str(value) for key, value in default_environment().items()},
        **{"python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine, "extra": ""},
    }


def locked(text: str, python: str) -> dict[str, str]:
    """The versions in a lock that a Python gets, by package."""
    found = {}
    for entry in re.split(r"\n(?=\S)", re.sub(r"^#.*\n|^    #.*\n", "", text, flags=re.MULTILINE).strip()):
        requirement = Requirement(entry.partition(" \\\n")[0])
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{requirement.name} has no hash"
        if requirement.marker is None or requirement.marker.evaluate(environment(python)):
            (version,) = requirement.specifier
            assert version.operator == "=="
            assert canonicalize_name(requirement.name) not in found
            found[canonicalize_name(requirement.name)] = version.version
    return found


def wanted(extras: tuple[str, ...]) -> list[Requirement]:
    """Requirements of pyproject.toml on a device."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [
        Requirement(text)
        for text in [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    ]


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_every_package_in_a_version_that_is_allowed(supply_chain: ModuleType, python: str) -> None:
    versions = locked(supply_chain.LOCK.read_text(), python)
    wrong = [
        str(requirement)
        for requirement in wanted(supply_chain.EXTRAS)
        if requirement.marker is None or requirement.marker.evaluate(environment(python))
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert wrong == [], "make lock"


def test_a_lock_without_a_hash_or_with_another_version_would_be_found(supply_chain: ModuleType) -> None:
    text = supply_chain.LOCK.read_text()
    with pytest.raises(AssertionError, match="has no hash"):
        locked(re.sub(r"(paho-mqtt==\S+) \\\n(    --hash=\S+( \\)?\n)+", r"\1\n", text), "3.11")
    old = locked(re.sub(r"paho-mqtt==\S+", "paho-mqtt==1.6.1", text), "3.11")
    (paho,) = (requirement for requirement in wanted(supply_chain.EXTRAS) if requirement.name == "paho-mqtt")
    assert not paho.specifier.contains(old["paho-mqtt"])


def test_lower_bounds_are_the_versions_that_were_tested() -> None:
    """docs/results/minimum.txt is what `make minimum` wrote: its versions are the bounds in pyproject.toml."""
    lines = (ROOT / "docs" / "results" / "minimum.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    tested = {canonicalize_name(name): Version(version).release for name, version in pairs}
    wrong = []
    for requirement in wanted(("mic", "metrics")):
        (bound,) = (Version(part.version).release for part in requirement.specifier if part.operator == ">=")
        applies = requirement.marker is None or requirement.marker.evaluate(environment("3.10"))
        if applies and tested.get(canonicalize_name(requirement.name), ())[: len(bound)] != bound:
            wrong.append(str(requirement))
    assert wrong == [], "make minimum"


def test_a_known_hole_is_a_failure_and_a_package_that_nobody_knows_is_not(
    supply_chain: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = {"name": "soxr", "skip_reason": "not found"}
    sound = {"name": "numpy", "version": "2.4", "vulns": []}
    holed = {"name": "paho-mqtt", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}

    def answers(text: str) -> list[str]:
        done = supply_chain.subprocess.CompletedProcess([], 0, text, "")
        monkeypatch.setattr(supply_chain, "run", lambda *_, **__: done)
        return list(supply_chain.check_holes())

    assert answers(json.dumps({"dependencies": [unknown, sound, holed]})) == ["paho-mqtt 1.0: PYSEC-1, mended in 1.1"]
    assert "1 known in 2 packages" in capsys.readouterr().out
    for silent in ("", "Traceback", json.dumps({"dependencies": [unknown]})):
        assert answers(silent) == []
        assert "does not answer here" in capsys.readouterr().out


def test_without_a_registry_nothing_is_checked_and_that_is_said(
    supply_chain: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supply_chain, "registry_answers", lambda _: False)
    assert supply_chain.check() == 0
    assert "were not checked" in capsys.readouterr().out
