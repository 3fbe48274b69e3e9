"""Structure of the Debian package; packaging/deb/try installs a real one in a bare Debian root."""

from __future__ import annotations

import gzip
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from components import require_programs

ROOT = Path(__file__).parents[2]
DEB = ROOT / "packaging" / "deb"


def script(name: str) -> ModuleType:
    """Loads a script of packaging/deb."""
    spec = importlib.util.spec_from_file_location(name, DEB / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the package, with a stand-in for the environment."""
    require_programs("dpkg-deb", packages="dpkg")
    folder = tmp_path_factory.mktemp("deb")
    root, program = folder / "stage", folder / "edge-sser"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edge_sser "$@"\n')
    program.chmod(0o755)
    build = script("build")
    build.write(root, "opt/edge-sser/bin/edge-sser", "#!/bin/sh\n", 0o755)
    build.write_files(root, Path(sys.executable), program)
    build.write_control(root)
    return root


@pytest.fixture(scope="module")
def package(stage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(script("build").pack(stage, tmp_path_factory.mktemp("dist")))


def read(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, timeout=120).stdout


def test_a_pythonpath_of_the_builder_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert script("build").run("sh", "-c", "echo ${PYTHONPATH-none} $GIVEN", GIVEN="yes") == "none yes\n"


def test_every_file_is_roots_and_none_is_for_others_to_write(package: Path) -> None:
    lines = read("dpkg-deb", "--contents", package).splitlines()
    assert len(lines) > 20
    for line in lines:
        mode, owner, *_ = line.split()
        assert owner == "root/root"
        assert mode[8] == "-" or mode[0] == "l", line


def test_files_lie_where_debian_looks_for_them(package: Path) -> None:
    names = {line.split()[5] for line in read("dpkg-deb", "--contents", package).splitlines()}
    assert {
        "./lib/systemd/system/edge-sser.service",
        "./usr/lib/systemd/user/edge-sser.service",
        "./etc/edge-sser/config.toml",
        "./usr/bin/edge-sser",
        "./usr/share/man/man1/edge-sser.1.gz",
        "./usr/share/bash-completion/completions/edge-sser",
        "./usr/share/zsh/vendor-completions/_edge-sser",
        "./usr/share/fish/vendor_completions.d/edge-sser.fish",
        "./usr/share/doc/edge-sser/copyright",
        "./usr/share/doc/edge-sser/examples/raspberry-pi-5.toml",
    } <= names


def test_the_unit_runs_the_program_of_the_package(stage: Path) -> None:
    unit = (stage / "lib/systemd/system/edge-sser.service").read_text()
    assert "ExecStart=/opt/edge-sser/bin/edge-sser listen --config /etc/edge-sser/config.toml " in unit
    assert os.readlink(stage / "usr/bin/edge-sser") == "/opt/edge-sser/bin/edge-sser"


def test_settings_are_a_persons_and_the_python_is_the_one_it_was_built_with(package: Path) -> None:
    assert read("dpkg-deb", "--info", package, "conffiles").split() == ["/etc/edge-sser/config.toml"]
    depends = read("dpkg-deb", "--field", package, "Depends")
    major, minor = sys.version_info[:2]
    assert f"python3 (>= {major}.{minor}), python3 (<< {major}.{minor + 1})" in depends
    assert "libportaudio2" in depends


def test_the_manual_page_has_every_command_and_its_options(stage: Path, tmp_path: Path) -> None:
    require_programs("groff", packages="groff")
    page = tmp_path / "edge-sser.1"
    page.write_bytes(gzip.decompress((stage / "usr/share/man/man1/edge-sser.1.gz").read_bytes()))
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", "-P-cbou", page], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr == ""
    words = done.stdout.split()
    for text in ("--mqtt", "--no-pace", "--purge", "service", "doctor", "analyze", "130"):
        assert text in words
    for command in ("listen", "service install", "config check", "train", "export"):
        assert f"edge-sser {command}" in " ".join(words)


@pytest.mark.parametrize(("shell", "flag"), [("bash", "-n"), ("sh", "-n")])
def test_scripts_of_dpkg_and_completion_parse(stage: Path, shell: str, flag: str) -> None:
    files = (
        [stage / "usr/share/bash-completion/completions/edge-sser"]
        if shell == "bash"
        else [stage / "DEBIAN" / name for name in ("postinst", "prerm", "postrm")]
    )
    for file in files:
        read(shell, flag, file)


def test_the_first_completion_of_zsh_is_answered(stage: Path) -> None:
    """Zsh calls the file itself as a function first, by its name."""
    lines = (stage / "usr/share/zsh/vendor-completions/_edge-sser").read_text().splitlines()
    assert lines[0] == "#compdef edge-sser"
    assert lines[-1] == '[[ $funcstack[1] = _edge-sser ]] && _edge_sser_completion "$@"'
    assert "_edge_sser_completion() {" in lines


def test_bash_completes_a_command(stage: Path) -> None:
    completion = stage / "usr/share/bash-completion/completions/edge-sser"
    assert "_edge_sser_completion" in completion.read_text()
    environment = {
        **os.environ,
        "_EDGE_SSER_COMPLETE": "complete_bash",
        "COMP_WORDS": "edge-sser dev",
        "COMP_CWORD": "1",
    }
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'edge-sser'; from edge_sser.__main__ import main; main()",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["devices"]
