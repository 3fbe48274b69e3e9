"""Installation of a device: its lock with hashes, a bill of materials, and known holes.

usage: python scripts/supply_chain.py lock | check | sbom FILE

lock writes packaging/device-requirements.txt anew, with the newest versions. check says whether the lock agrees with
pyproject.toml, installs from it with --require-hashes, analyses the recording that ships, and asks for known holes.
Where the registry or the service for holes does not answer, this is said, and is no failure. sbom writes what that
installation holds, in CycloneDX.

Runs in the environment of `make lock`, `make supply-chain` and `make sbom`, which has uv, pip-audit and cyclonedx-py.
exit status: 0 when nothing is wrong, 1 when something is
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "packaging" / "device-requirements.txt"
EXTRAS = ("mic", "metrics", "notify", "web")
LOWEST_PYTHON = "3.10"
TOOLS = Path(sys.executable).parent


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a program at the root of the repository.

    Raises:
        SystemExit: the program failed.
    """
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done


def compile_lock(path: Path, *options: str) -> None:
    """Writes the lock: each package for each Python and platform, with the hashes of its files."""
    extras = [f"--extra={extra}" for extra in EXTRAS]
    fixed = ("--universal", f"--python-version={LOWEST_PYTHON}", "--generate-hashes", "--quiet")
    command = "--custom-compile-command=make lock"
    run(TOOLS / "uv", "pip", "compile", "pyproject.toml", *extras, *fixed, command, *options, "--output-file", path)


def check_lock(folder: Path) -> list[str]:
    """Returns what the lock lacks: uv keeps the versions that are there, so a lock that agrees stays as it is."""
    copy = folder / LOCK.name
    shutil.copy(LOCK, copy)
    compile_lock(copy)
    if copy.read_text() == LOCK.read_text():
        return []
    return [f"{LOCK.relative_to(ROOT)} does not agree with pyproject.toml: make lock, then commit it"]


def install(folder: Path) -> Path:
    """Installs as on a device, each file by its hash. Returns the environment."""
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", environment)
    pip = environment / "bin" / "pip"
    run(pip, "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement", LOCK)
    run(pip, "install", "--quiet", "--disable-pip-version-check", "--no-deps", ROOT)
    run(pip, "check")
    return environment


def check_installation(folder: Path) -> list[str]:
    """Returns what is wrong with an installation from the lock."""
    program = install(folder) / "bin" / "edge-sser"
    done = run(program, "analyze", "edge_sser/data/demo.flac", "--format", "jsonl", check=False)
    if done.returncode != 0 or '"type":"reading"' not in done.stdout:
        return [f"the installation from the lock does not analyse the recording: {done.stderr}"]
    return []


def known_holes(answer: str) -> tuple[int, list[str]]:
    """Reads the answer of pip-audit. Returns how many packages it knows, and their holes."""
    packages = json.loads(answer)["dependencies"]
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'none'}"
        for package in packages
        for hole in package.get("vulns", [])
    ]
    return sum("skip_reason" not in package for package in packages), holes


def check_holes() -> list[str]:
    """Returns the known holes of the packages in the lock; none, with a line, where nobody answers."""
    done = run(TOOLS / "pip-audit", "--disable-pip", "--format=json", "--requirement", LOCK, check=False)
    try:
        audited, holes = known_holes(done.stdout)
    except json.JSONDecodeError:
        audited, holes = 0, []
    if not audited:
        print("holes     not looked for: the service that knows them does not answer here")
    else:
        print(f"holes     {len(holes)} known in {audited} packages")
    return holes


def registry_answers(folder: Path) -> bool:
    """Returns True when a package can be fetched."""
    command = ("-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--dest", folder / "probe")
    return run(sys.executable, *command, "typing-extensions", check=False).returncode == 0


def check() -> int:
    """Runs each check, and prints what it found."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not registry_answers(folder):
            print("the package registry does not answer here: lock, hashes and holes were not checked")
            return 0
        wrong = check_lock(folder)
        print(f"lock      {'does not agree' if wrong else 'agrees with pyproject.toml'}")
        wrong += check_installation(folder)
        print("install   with --require-hashes")
        wrong += check_holes()
    for line in wrong:
        print(f"WRONG     {line}", file=sys.stderr)
    return 1 if wrong else 0


def write_sbom(path: Path) -> None:
    """Writes what an installation from the lock holds."""
    with tempfile.TemporaryDirectory() as name:
        environment = install(Path(name))
        run(environment / "bin" / "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools")
        options = ("--output-reproducible", "--pyproject", "pyproject.toml", "--output-file", path.resolve())
        run(TOOLS / "cyclonedx-py", "environment", *options, environment / "bin" / "python")
    parts = json.loads(path.read_text())["components"]
    print(f"{path}: {len(parts)} packages")


def main(arguments: list[str]) -> int:
    """Runs a command."""
    match arguments:
        case ["lock"]:
            compile_lock(LOCK, "--upgrade")
        case ["check"]:
            return check()
        case ["sbom", path]:
            write_sbom(Path(path))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
