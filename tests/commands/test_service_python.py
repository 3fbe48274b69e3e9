"""Installing the service with a Python that the service cannot see."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_sser.commands.service import layout
from edge_sser.commands.service.cli import app
from edge_sser.commands.service.install import install
from edge_sser.commands.service.layout import Installation, Layout, running_installation
from edge_sser.commands.service.systemctl import ServiceError, Systemctl

UV = "root/.local/share/uv/python/cpython-3.12.3-linux-x86_64-gnu/bin/python3.12"
PYENV = "home/ada/.pyenv/versions/3.11.7/bin/python3.11"


@pytest.fixture
def device(tmp_path: Path) -> Path:
    root = tmp_path / "device"
    root.mkdir(mode=0o755)
    return root


@pytest.fixture
def installation(device: Path) -> Installation:
    """An environment in /opt, as pip leaves it, whose Python is still to be set."""
    package, program = device / "opt/edge-sser/lib/edge_sser", device / "opt/edge-sser/bin/edge-sser"
    for folder in (package, program.parent):
        folder.mkdir(parents=True)
    program.write_text("#!/opt/edge-sser/bin/python\n")
    program.chmod(0o755)
    return Installation(program=program, code=(package,))


def install_on(device: Path, installation: Installation) -> list[str]:
    where = Layout(user=False, root=device, home=Path("/home/ada"))
    systemctl = Systemctl(user=False, booted=device / "not-booted")
    return list(install(where, installation, systemctl, ask=lambda _question: False))


def python_at(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("place", [UV, PYENV, "tmp/python3"])
def test_a_python_that_the_service_cannot_see_is_refused_before_anything_is_written(
    device: Path, installation: Installation, place: str
) -> None:
    interpreter = device / "opt/edge-sser/bin/python"
    interpreter.symlink_to(python_at(device / place))
    with pytest.raises(ServiceError) as caught:
        install_on(device, replace(installation, interpreter=interpreter))
    said = str(caught.value)
    assert f"/{place} is below /{place.split('/')[0]}, which the service does not see" in said
    assert "use the system's Python" in said
    assert "/usr/bin/python3 -m venv /opt/edge-sser --clear" in said
    assert not (device / "etc").exists()


def test_a_link_by_way_of_a_hidden_folder_is_refused(device: Path, installation: Installation) -> None:
    """The Python itself is open to all, but the link to it is not."""
    python = python_at(device / "usr/bin/python3.12")
    shim = device / "home/ada/bin/python3"
    shim.parent.mkdir(parents=True)
    shim.symlink_to("../../../usr/bin/python3.12")
    interpreter = device / "opt/edge-sser/bin/python"
    interpreter.symlink_to("../../../home/ada/bin/python3")
    assert interpreter.resolve() == python
    with pytest.raises(ServiceError, match="/home/ada/bin/python3 is below /home, which the service does not see"):
        install_on(device, replace(installation, interpreter=interpreter))
    interpreter.unlink()
    interpreter.symlink_to("../../../usr/bin/python3.12")
    assert any(line.startswith("unit ") for line in install_on(device, replace(installation, interpreter=interpreter)))


def test_a_user_service_runs_from_anywhere(device: Path, installation: Installation) -> None:
    interpreter = python_at(device / PYENV)
    where = Layout(user=True, root=device, home=Path("/home/ada"))
    systemctl = Systemctl(user=True, booted=device / "not-booted")
    lines = list(install(where, replace(installation, interpreter=interpreter), systemctl, ask=lambda _question: False))
    assert lines[0].startswith("unit ")


def test_the_running_installation_is_all_that_it_imports(tmp_path: Path) -> None:
    """Of a real environment: its own program, and the links to its Python."""
    venv.create(tmp_path / "environment", symlinks=True)
    python = tmp_path / "environment/bin/python"
    program = (
        "from edge_sser.commands.service.layout import running_installation as running; found = running(); "
        "print(found.program, found.interpreter, *found.code, sep='\\n')"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [python, "-c", program], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    command, interpreter, library, package, *imported = map(Path, done.stdout.splitlines())
    assert command == tmp_path / "environment/bin/edge-sser"
    assert interpreter == python
    assert library == Path(os.__file__).resolve().parent
    assert package == Path(layout.__file__).resolve().parent
    assert [path.name for path in imported] == ["numpy", "onnxruntime"]


def test_the_program_of_pip_user_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {"posix_prefix": tmp_path / "usr/bin", "posix_user": tmp_path / "home/ada/.local/bin"}
    monkeypatch.setattr(sysconfig, "get_path", lambda _kind, scheme="posix_prefix": str(folders[scheme]))
    assert running_installation().program == folders["posix_prefix"] / "edge-sser"
    for folder in reversed(folders.values()):
        folder.mkdir(parents=True)
        (folder / "edge-sser").touch()
        assert running_installation().program == folder / "edge-sser"


def test_the_command_refuses_an_environment_below_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program = tmp_path / "bin/edge-sser"
    program.parent.mkdir()
    program.touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _kind, _scheme="": str(program.parent))
    result = CliRunner().invoke(app, ["install"])
    assert isinstance(result.exception, ServiceError)
    assert f"{program} is below /tmp, which the service does not see" in str(result.exception)
    assert result.output == ""
