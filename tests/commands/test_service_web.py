"""The web page as a service: its units, and how it is installed beside the one that listens."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_service_install import Manager, installed_at, mode, never, settings_file
from test_units import MAX_EXPOSURE, Directives, analyze, unit

from edge_sser.commands.service.install import install, status, uninstall
from edge_sser.commands.service.layout import Layout
from edge_sser.errors import UsageError
from edge_sser.settings.web import CREDENTIAL

__all__ = ["analyze"]  # a fixture
UNITS = ("edge-sser-web.service", "edge-sser-web-user.service")
SETTINGS = '[history]\n[web]\naddress = "0.0.0.0"\n'


@pytest.fixture
def device(tmp_path: Path) -> Path:
    root = tmp_path / "device"
    root.mkdir(mode=0o755)
    return root


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    return Manager(tmp_path / "manager")


@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say_against_a_unit(analyze, name: str) -> None:
    result = analyze(name, "verify", *(["--user"] if "user" in name else []))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_system_unit_is_exposed_by_no_more_than_two(analyze) -> None:
    result = analyze(UNITS[0], "security", "--offline=true", f"--threshold={MAX_EXPOSURE}", "--no-pager")
    assert result.returncode == 0, result.stdout[-400:]


@pytest.mark.parametrize("name", UNITS)
def test_what_both_units_promise(name: str) -> None:
    directives = Directives.of(unit(name))
    for directive, value in {
        "Restart": "on-failure",
        "RestartPreventExitStatus": str(UsageError.exit_status),
        "StartLimitIntervalSec": "0",
        "LimitCORE": "0",
        "UMask": "0077",
    }.items():
        assert directives[directive] == [value]
    assert directives["ExecStart"][0].split()[1] == "web"


def test_the_page_shares_the_history_of_the_service_and_hears_nothing() -> None:
    listening, page = (Directives.of(unit(name)) for name in ("edge-sser.service", UNITS[0]))
    assert page["DynamicUser"] == listening["DynamicUser"] == ["yes"]
    assert page["User"] == ["edge-sser"]  # the name that DynamicUser= gives edge-sser.service
    assert page["StateDirectory"] == listening["StateDirectory"]
    assert "RuntimeDirectory" not in page  # systemd would remove the live file's when the page ends
    assert page["PrivateDevices"] == ["yes"]
    assert "SupplementaryGroups" not in page
    assert page["LoadCredential"] == [f"{CREDENTIAL}:/etc/edge-sser/{CREDENTIAL}"]


def test_the_page_is_installed_started_shown_and_removed(device: Path, manager: Manager, tmp_path: Path) -> None:
    target = Layout(user=True, home=device / "home/ada")
    password = tmp_path / "password"
    password.write_text("wrong-horse-battery\nmore\n")
    installation = installed_at(device / "venv")
    said = list(
        install(
            target,
            installation,
            manager.of_user,
            config=settings_file(tmp_path, SETTINGS),
            web=True,
            web_password_file=password,
            ask=never,
        )
    )
    assert f"{installation.program} web --config %h" in target.web_unit.read_text()
    assert target.web_password.read_text() == "wrong-horse-battery\n"
    assert mode(target.web_password) == 0o600
    assert "web page  http://0.0.0.0:8321/" in said
    assert not [line for line in said if "needs a password" in line]
    assert manager.calls() == [
        "--user daemon-reload",
        "--user enable edge-sser.service edge-sser-web.service",
        "--user restart --no-block edge-sser.service edge-sser-web.service",
    ]
    manager.answers(LoadState="loaded", ActiveState="active", SubState="running")
    assert "web page  active (running)" in status(target, manager.of_user)[1]
    removed = list(uninstall(target, manager.of_user, purge=True))
    assert not target.web_unit.exists()
    assert not target.web_password.exists()
    assert f"removed   {target.web_unit}" in removed
    assert "--user disable --now edge-sser-web.service" in manager.calls()


def test_what_the_page_lacks_is_said(device: Path, manager: Manager, tmp_path: Path) -> None:
    target = Layout(user=True, home=device / "home/ada")
    config = settings_file(tmp_path, SETTINGS.replace("[history]", ""))
    said = "\n".join(
        install(target, installed_at(device / "venv"), manager.of_user, config=config, web=True, ask=never)
    )
    assert "add [history]" in said
    assert "needs a password at 0.0.0.0: --web-password FILE" in said


def test_without_web_nothing_of_the_page_is_installed(device: Path, manager: Manager, tmp_path: Path) -> None:
    target = Layout(user=True, home=device / "home/ada")
    config = settings_file(tmp_path, SETTINGS)
    list(install(target, installed_at(device / "venv"), manager.of_user, config=config, ask=never))
    assert not target.web_unit.exists()
    assert not any("web" in call for call in manager.calls())
