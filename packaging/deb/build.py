"""Builds a Debian package of edge-sser for this machine's architecture.

edge-sser and all that it needs lie in a virtual environment of their own, /opt/edge-sser, made from the lock with
--require-hashes, so that the package touches no Python of the system. It fits the Python that builds it: build on the
release of Debian or Ubuntu that it is for. Needs python3-venv, gcc, python3-dev and portaudio19-dev for PyAudio.

usage: python3 packaging/deb/build.py FOLDER
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PLACE = Path("opt/edge-sser")
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/edge-sser",
    "zsh": "usr/share/zsh/vendor-completions/_edge-sser",
    "fish": "usr/share/fish/vendor_completions.d/edge-sser.fish",
}
# zsh loads the file at the first completion, which defines the function: without this line, the first Tab does nothing.
ZSH_FIRST = '[[ $funcstack[1] = _edge-sser ]] && _edge_sser_completion "$@"\n'
CONTROL = """Package: edge-sser
Version: {version}
Architecture: {architecture}
Maintainer: The edge-sser authors <root@localhost>
Installed-Size: {kib}
Depends: {depends}
Recommends: alsa-utils
Suggests: libasound2-plugins, mosquitto
Section: sound
Priority: optional
Description: how stressed speech sounds, on a small computer
 Listens to a microphone and says how stressed the speech sounds, on standard
 output, on a web page with its history, over MQTT, to Prometheus or to a
 webhook. No audio leaves the device.
 .
 This is not a medical device, and it does not detect lies. The weights of the
 model are for non-commercial use.
"""


def run(*command: str | Path, **environ: str) -> str:
    """Runs a program and returns its output."""
    words = list(map(str, command))
    # pip would take what a PYTHONPATH holds for installed, and leave it out.
    given = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env={**given, **environ}).stdout


def version() -> str:
    """Returns the version of edge-sser."""
    found = re.search(r'__version__ = "(.+)"', (ROOT / "edge_sser" / "__init__.py").read_text())
    if found is None:
        raise SystemExit("edge_sser/__init__.py has no __version__")
    return found[1]


def make_environment(stage: Path, work: Path) -> None:
    """Makes the virtual environment below `stage`, as it will be in /opt."""
    place, tools = stage / PLACE, work / "tools"
    run(sys.executable, "-m", "venv", tools)
    pip = (tools / "bin" / "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", work, ROOT)
    (wheel,) = work.glob("edge_sser-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", place)
    install = (*pip, "--python", place / "bin" / "python3", "install", "--quiet", "--no-compile")
    run(*install, "--require-hashes", "--requirement", ROOT / "packaging" / "device-requirements.txt")
    run(*install, "--no-deps", wheel)
    for path in (place / "bin").iterdir():
        if path.name.startswith("python"):
            continue
        if path.name == "edge-sser":
            path.write_text(path.read_text().replace(str(stage), ""))
        else:
            path.unlink()
    settings = place / "pyvenv.cfg"
    settings.write_text("".join(line for line in settings.open() if not line.startswith("command")))
    compiled = ("-q", "-s", stage, "-p", "/", "--invalidation-mode", "unchecked-hash")
    run(place / "bin" / "python3", "-m", "compileall", *compiled, place)


def write(stage: Path, name: str, text: str | bytes, mode: int = 0o644) -> None:
    """Writes a file of the package."""
    path = stage / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)


def write_files(stage: Path, python: Path, program: Path) -> None:
    """Writes all that lies outside of the environment.

    Args:
        stage: root of the package.
        python: interpreter that can import edge_sser, for the manual page.
        program: edge-sser, for what completes its commands.
    """
    for unit in sorted((ROOT / "systemd").glob("*.service")):
        user = unit.name.endswith("-user.service")
        folder = "usr/lib/systemd/user" if user else "lib/systemd/system"
        write(stage, f"{folder}/{unit.name.replace('-user', '')}", unit.read_bytes())
    write(stage, "etc/edge-sser/config.toml", (ROOT / "systemd" / "config.toml").read_bytes())
    for board in sorted((ROOT / "firmware_configs").glob("*.toml")):
        write(stage, f"usr/share/doc/edge-sser/examples/{board.name}", board.read_bytes())
    write(stage, "usr/share/doc/edge-sser/copyright", (HERE / "copyright").read_bytes())
    write(stage, "usr/share/doc/edge-sser/changelog.gz", gzip.compress((ROOT / "CHANGELOG.md").read_bytes(), mtime=0))
    page = run(python, HERE / "manpage.py")
    write(stage, "usr/share/man/man1/edge-sser.1.gz", gzip.compress(page.encode(), mtime=0))
    for shell, name in COMPLETIONS.items():
        text = run(program, _EDGE_SSER_COMPLETE=f"source_{shell}").strip() + "\n"
        write(stage, name, text + ZSH_FIRST if shell == "zsh" else text)
    (stage / "usr/bin").mkdir(parents=True)
    (stage / "usr/bin/edge-sser").symlink_to(Path("/") / PLACE / "bin" / "edge-sser")


def write_control(stage: Path) -> None:
    """Writes what dpkg reads."""
    major, minor = sys.version_info[:2]
    depends = (f"python3 (>= {major}.{minor})", f"python3 (<< {major}.{minor + 1})", "libportaudio2", "libasound2")
    files = [path for path in sorted(stage.rglob("*")) if path.is_file() and not path.is_symlink()]
    text = CONTROL.format(
        version=version(),
        architecture=run("dpkg", "--print-architecture").strip(),
        kib=sum(path.stat().st_size for path in files) // 1024,
        depends=", ".join(depends),
    )
    sums = (f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n" for path in files)  # noqa: S324
    write(stage, "DEBIAN/control", text)
    write(stage, "DEBIAN/md5sums", "".join(sums))
    write(stage, "DEBIAN/conffiles", "/etc/edge-sser/config.toml\n")
    for name in ("postinst", "prerm", "postrm"):
        write(stage, f"DEBIAN/{name}", (HERE / name).read_bytes(), 0o755)


def pack(stage: Path, folder: Path) -> Path:
    """Packs what is staged. Returns the package."""
    architecture = run("dpkg", "--print-architecture").strip()
    package = folder / f"edge-sser_{version()}_{architecture}.deb"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (stage, *stage.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    run("dpkg-deb", "--root-owner-group", "-Zzstd", "--build", stage, package)
    return package


def main(folder: Path) -> None:
    """Builds the package."""
    with tempfile.TemporaryDirectory(prefix="edge-sser-deb-") as name:
        work, stage = Path(name) / "work", Path(name) / "stage"
        work.mkdir()
        make_environment(stage, work)
        python = stage / PLACE / "bin" / "python3"
        program = work / "edge-sser"  # the staged one names an interpreter that is not there yet
        program.write_text(f'#!/bin/sh\nexec {python} -c "from edge_sser.__main__ import main; main()" "$@"\n')
        program.chmod(0o755)
        write_files(stage, python, program)
        write_control(stage)
        print(pack(stage, folder))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
