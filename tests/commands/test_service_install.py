"""Installing, explaining and removing the service, below a directory that stands for a device."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from components import require_programs
from typer.testing import CliRunner

from edge_sser.commands.service.cli import app
from edge_sser.commands.service.install import install, status, uninstall
from edge_sser.commands.service.layout import HIDDEN_FROM_SERVICE, Installation, Layout, out_of_reach
from edge_sser.commands.service.systemctl import ServiceError, Systemctl
from edge_sser.errors import SettingsError
from edge_sser.settings.load import load_settings

HOME = Path("/home/ada")
BROKER = '[mqtt]\nurl = "mqtts://cab12@broker.example:8883"\n'


@pytest.fixture
def device(tmp_path: Path) -> Path:
    root = tmp_path / "device"
    root.mkdir(mode=0o755)
    return root


@pytest.fixture
def no_systemd(tmp_path: Path) -> Systemctl:
    return Systemctl(user=False, booted=tmp_path / "not-booted")


def installed_at(directory: Path) -> Installation:
    """An installation as pip leaves it: a program, and a package that others may read."""
    package = directory / "lib" / "edge_sser"
    package.mkdir(parents=True)
    program = directory / "bin" / "edge-sser"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return Installation(program=program, code=(package,))


def never(question: str) -> bool:
    pytest.fail(f"nobody should be asked: {question}")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def settings_file(directory: Path, text: str, name: str = "mine.toml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


class Manager:
    """A program called systemctl that writes down what it is asked, for there is no systemd in a test."""

    def __init__(self, directory: Path) -> None:
        self._calls = directory / "calls"
        self._answer = directory / "answer"
        booted = directory / "booted"
        binaries = directory / "bin"
        for path in (booted, binaries, directory / "runtime" / "systemd"):
            path.mkdir(parents=True)
        program = binaries / "systemctl"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {self._calls}\ncat {self._answer} 2>/dev/null\n[ ! -e {directory}/fail ]\n'
        )
        program.chmod(0o755)
        environ = {"PATH": f"{binaries}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(directory / "runtime")}
        self.system = Systemctl(user=False, environ=environ, booted=booted)
        self.of_user = Systemctl(user=True, environ=environ, booted=booted)
        self._fail = directory / "fail"

    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []

    def answers(self, **properties: str) -> None:
        self._answer.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def fails(self, message: str) -> None:
        self._answer.write_text(message)
        self._fail.touch()


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    return Manager(tmp_path / "manager")


def test_a_device_gets_unit_and_settings_with_the_right_modes(device: Path, no_systemd: Systemctl) -> None:
    where = Layout(user=False, root=device, home=HOME)
    lines = list(install(where, installed_at(device / "opt/edge-sser"), no_systemd, ask=never))
    unit = device / "etc/systemd/system/edge-sser.service"
    config = device / "etc/edge-sser/config.toml"
    assert "\nExecStart=/opt/edge-sser/bin/edge-sser listen --config /etc/edge-sser/config.toml " in unit.read_text()
    assert (mode(unit), mode(config), mode(config.parent)) == (0o644, 0o644, 0o755)  # the service has a user of its own
    assert load_settings(config, environ={}).settings.source[0].device == "mic"
    assert lines[0].endswith(" /etc/systemd/system/edge-sser.service")  # named as on the device
    assert "systemctl daemon-reload && systemctl enable edge-sser.service && systemctl restart" in lines[-1]


def test_the_unit_runs_the_program_that_installs_it(device: Path, no_systemd: Systemctl) -> None:
    list(install(Layout(user=False, root=device, home=HOME), installed_at(device / "srv/ears"), no_systemd, ask=never))
    unit = (device / "etc/systemd/system/edge-sser.service").read_text()
    assert "ExecStart=/srv/ears/bin/edge-sser " in unit
    assert "/opt/edge-sser" not in unit


def test_a_users_service_is_private_to_the_user(device: Path, no_systemd: Systemctl) -> None:
    where = Layout(user=True, root=device, home=HOME)
    program = installed_at(device / "home/ada/.venv")  # a home is no obstacle to its owner
    password = settings_file(device, "hush\n", "password")
    list(install(where, program, no_systemd, password_file=password, ask=never))
    home = device / "home/ada/.config"
    assert mode(home / "edge-sser") == 0o700
    assert mode(home / "edge-sser/config.toml") == 0o600
    assert mode(home / "edge-sser/mqtt-password") == 0o600
    unit = (home / "systemd/user/edge-sser.service").read_text()
    assert "ExecStart=/home/ada/.venv/bin/edge-sser listen --config %h/.config/edge-sser/config.toml " in unit
    assert "WantedBy=default.target" in unit


@pytest.mark.parametrize("name", ["with blank", "hundred%", "semi;colon", "größe$1"])
def test_systemd_finds_the_program_whatever_its_path(tmp_path: Path, name: str, no_systemd: Systemctl) -> None:
    require_programs("systemd-analyze", packages="systemd")
    where = Layout(user=True, home=tmp_path / "home")
    list(install(where, installed_at(tmp_path / name), no_systemd, ask=never))
    result = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(where.unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", ['quote"d', "back\\slash", "new\nline"])
def test_a_path_that_systemd_would_not_run_is_refused(tmp_path: Path, name: str, no_systemd: Systemctl) -> None:
    where = Layout(user=True, home=tmp_path / "home")
    with pytest.raises(ServiceError, match="quotes or backslashes"):
        list(install(where, installed_at(tmp_path / name), no_systemd, ask=never))
    assert not where.unit.exists()


def test_given_settings_are_installed_as_they_are(device: Path, no_systemd: Systemctl) -> None:
    mine = settings_file(device, f"# mine\n{BROKER}")
    where = Layout(user=False, root=device, home=HOME)
    list(install(where, installed_at(device / "opt/edge-sser"), no_systemd, config=mine, ask=never))
    assert where.config.read_text() == f"# mine\n{BROKER}"


@pytest.mark.parametrize("replace", [True, False])
def test_other_settings_are_replaced_only_with_a_yes(device: Path, no_systemd: Systemctl, replace: bool) -> None:
    where = Layout(user=False, root=device, home=HOME)
    program = installed_at(device / "opt/edge-sser")
    first, second = settings_file(device, "# first\n"), settings_file(device, "# second\n", "second.toml")
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return replace

    list(install(where, program, no_systemd, config=first, ask=never))
    lines = list(install(where, program, no_systemd, config=second, ask=ask))
    assert where.config.read_text() == ("# second\n" if replace else "# first\n")
    assert asked == ["/etc/edge-sser/config.toml exists and differs. Replace it?"]
    assert lines[1].endswith("(kept)") is not replace
    list(install(where, program, no_systemd, ask=never))  # without --config what is there stays
    assert where.config.read_text() == ("# second\n" if replace else "# first\n")


def test_wrong_settings_are_refused_before_anything_is_written(device: Path, no_systemd: Systemctl) -> None:
    where = Layout(user=False, root=device, home=HOME)
    program = installed_at(device / "opt/edge-sser")
    wrong = settings_file(device, "[gate]\nagressiveness = 3\n")
    with pytest.raises(SettingsError, match=r"mine\.toml: unknown key gate\.agressiveness"):
        list(install(where, program, no_systemd, config=wrong, ask=never))
    assert not (device / "etc").exists()


def test_wrong_settings_that_are_there_are_refused_too(device: Path, no_systemd: Systemctl) -> None:
    where = Layout(user=False, root=device, home=HOME)
    where.directory.mkdir(parents=True)
    where.config.write_text("node = 3\n")
    with pytest.raises(SettingsError, match="node"):
        list(install(where, installed_at(device / "opt/edge-sser"), no_systemd, ask=never))
    assert not where.unit.exists()


def test_a_password_is_copied_for_root_alone(device: Path, no_systemd: Systemctl) -> None:
    where = Layout(user=False, root=device, home=HOME)
    source = settings_file(device, "hush\nnot this line\n", "password")
    config = settings_file(device, BROKER)
    lines = list(
        install(
            where, installed_at(device / "opt/edge-sser"), no_systemd, config=config, password_file=source, ask=never
        )
    )
    password = device / "etc/edge-sser/mqtt-password"
    assert password.read_text() == "hush\n"
    assert mode(password) == 0o600
    assert not any("hush" in line for line in lines)


@pytest.mark.parametrize("content", ["", "\nhush\n", None])
def test_a_password_file_without_one_is_refused(device: Path, no_systemd: Systemctl, content: str | None) -> None:
    source = device / "password" if content is None else settings_file(device, content, "password")
    where = Layout(user=False, root=device, home=HOME)
    with pytest.raises(ServiceError, match=str(source)):
        list(install(where, installed_at(device / "opt/edge-sser"), no_systemd, password_file=source, ask=never))
    assert not where.unit.exists()


def test_a_user_without_a_password_is_told_where_it_goes(device: Path, no_systemd: Systemctl) -> None:
    where = Layout(user=False, root=device, home=HOME)
    config = settings_file(device, BROKER)
    lines = list(install(where, installed_at(device / "opt/edge-sser"), no_systemd, config=config, ask=never))
    assert any("/etc/edge-sser/mqtt-password" in line for line in lines)


@pytest.mark.parametrize("place", ["home/ada/.venv", "root/edge-sser", "tmp/edge-sser", "var/tmp/edge-sser"])
def test_an_installation_that_the_service_cannot_see_is_refused(
    device: Path, no_systemd: Systemctl, place: str
) -> None:
    where = Layout(user=False, root=device, home=HOME)
    with pytest.raises(ServiceError, match=f"/{place}/bin/edge-sser is below .* /usr/bin/python3 -m venv /opt/"):
        list(install(where, installed_at(device / place), no_systemd, ask=never))
    assert not (device / "etc").exists()


def test_what_counts_as_hidden_is_what_the_unit_hides() -> None:
    unit = (resources.files("edge_sser.units") / "edge-sser.service").read_text()
    assert "\nProtectHome=yes\n" in unit  # systemd.exec(5): /home, /root and /run/user
    assert "\nPrivateTmp=yes\n" in unit
    assert {str(path) for path in HIDDEN_FROM_SERVICE} == {"/home", "/root", "/run/user", "/tmp", "/var/tmp"}


def test_an_installation_that_is_closed_to_others_is_refused(device: Path, no_systemd: Systemctl) -> None:
    program = installed_at(device / "opt/edge-sser")
    (device / "opt/edge-sser/lib").chmod(0o750)
    with pytest.raises(ServiceError, match="/opt/edge-sser/lib is not open to other users"):
        list(install(Layout(user=False, root=device, home=HOME), program, no_systemd, ask=never))


def test_a_link_does_not_hide_where_code_is(device: Path) -> None:
    hidden = device / "home/ada/edge-sser"
    hidden.mkdir(parents=True)
    link = device / "opt"
    link.symlink_to(hidden)
    assert out_of_reach(link, device) == "/home/ada/edge-sser is below /home, which the service does not see"


def test_a_system_service_needs_root(monkeypatch: pytest.MonkeyPatch, manager: Manager, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ServiceError, match="sudo"):
        list(install(Layout(user=False, home=HOME), installed_at(tmp_path / "edge"), manager.system, ask=never))
    assert manager.calls() == []


def test_a_users_service_is_not_installed_by_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "ada")
    where = Layout(user=True, home=tmp_path / "home")
    with pytest.raises(ServiceError, match="without sudo"):
        list(install(where, installed_at(tmp_path / "edge"), Systemctl(user=True, booted=tmp_path / "no"), ask=never))
    assert not where.unit.exists()


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A user's layout on this machine, with a home of its own."""
    monkeypatch.delenv("SUDO_USER", raising=False)
    return Layout(user=True, home=tmp_path / "home")


def test_where_systemd_runs_the_service_is_started_without_waiting(
    mine: Layout, manager: Manager, tmp_path: Path
) -> None:
    lines = list(install(mine, installed_at(tmp_path / "edge"), manager.of_user, ask=never))
    assert manager.calls() == [
        "--user daemon-reload",
        "--user enable edge-sser.service",
        "--user restart --no-block edge-sser.service",
    ]
    assert any("enable-linger" in line for line in lines)


def test_what_systemctl_complains_of_is_the_error(mine: Layout, manager: Manager, tmp_path: Path) -> None:
    manager.fails("Unit is masked.\n")
    with pytest.raises(ServiceError, match=r"`systemctl --user daemon-reload` failed: Unit is masked\.$"):
        list(install(mine, installed_at(tmp_path / "edge"), manager.of_user, ask=never))


def test_an_image_is_never_started(device: Path, manager: Manager) -> None:
    where = Layout(user=False, root=device, home=HOME)
    list(install(where, installed_at(device / "opt/edge-sser"), manager.system, ask=never))
    status(where, manager.system)
    list(uninstall(where, manager.system))
    assert manager.calls() == []


@pytest.mark.parametrize(
    ("properties", "running", "explanation"),
    [
        (
            {"ActiveState": "active", "SubState": "running", "StatusText": "desk: low", "NRestarts": "0"},
            True,
            "active (running): desk: low",
        ),
        (
            {"ActiveState": "active", "SubState": "running", "Result": "success", "NRestarts": "3"},
            True,
            "started again 3 times",
        ),
        ({"ActiveState": "activating", "SubState": "start"}, False, "waits for the first audio"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "2"}, False, "a setting is wrong"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "Result": "watchdog"}, False, "watchdog ended it"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "216"}, False, "no group audio"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "77"}, False, "exit status 77"),
        ({"ActiveState": "failed", "Result": "timeout"}, False, "edge-sser devices"),
        ({"ActiveState": "failed", "Result": "start-limit-hit"}, False, "start-limit-hit"),
        ({"ActiveState": "inactive", "SubState": "dead", "Result": "success"}, False, "inactive (dead)"),
    ],
)
def test_status_explains(
    mine: Layout, manager: Manager, tmp_path: Path, properties: dict[str, str], running: bool, explanation: str
) -> None:
    list(install(mine, installed_at(tmp_path / "edge"), manager.of_user, ask=never))
    manager.answers(**properties)
    runs, lines = status(mine, manager.of_user)
    assert runs is running
    assert explanation in "\n".join(lines)
    assert "journalctl --user -u edge-sser" in lines[-1]


@pytest.mark.parametrize(
    ("user", "command"), [(True, "edge-sser service install --user"), (False, "edge-sser service install")]
)
def test_status_names_the_command_that_installs_what_is_missing(
    device: Path, no_systemd: Systemctl, user: bool, command: str
) -> None:
    _, lines = status(Layout(user=user, root=device, home=HOME), no_systemd)
    assert lines[0].endswith(f"edge-sser.service is not there: {command}")
    assert f"config.toml is not there: {command} writes a first one" in lines[1]


def test_status_finds_what_is_wrong_with_the_files(device: Path, no_systemd: Systemctl) -> None:
    where = Layout(user=False, root=device, home=HOME)
    runs, lines = status(where, no_systemd)
    assert not runs
    assert "none is sent" in lines[2]
    list(install(where, installed_at(device / "opt/edge-sser"), no_systemd, ask=never))
    where.config.write_text("nod = 'x'\n")
    where.password.write_text("hush\n")
    where.password.chmod(0o644)
    _, lines = status(where, no_systemd)
    assert "unknown key nod: did you mean node?" in lines[1]
    assert lines[2].endswith("others may read it, chmod 600 /etc/edge-sser/mqtt-password")
    assert "systemd does not run here" in lines[3]


def test_status_knows_the_unit_of_the_debian_package(device: Path, no_systemd: Systemctl) -> None:
    where = Layout(user=False, root=device, home=HOME)
    packaged = device / "lib/systemd/system/edge-sser.service"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    _, lines = status(where, no_systemd)
    assert lines[0] == "unit      /lib/systemd/system/edge-sser.service"
    assert "systemd does not run here" in lines[-1]
    list(install(where, installed_at(device / "opt/edge-sser"), no_systemd, ask=never))
    assert status(where, no_systemd)[1][0] == "unit      /etc/systemd/system/edge-sser.service"  # systemd prefers it


def test_uninstalling_stops_it_and_keeps_what_is_a_persons(mine: Layout, manager: Manager, tmp_path: Path) -> None:
    list(install(mine, installed_at(tmp_path / "edge"), manager.of_user, ask=never))
    before = len(manager.calls())
    lines = list(uninstall(mine, manager.of_user))
    assert manager.calls()[before:] == ["--user disable --now edge-sser.service", "--user daemon-reload"]
    assert not mine.unit.exists()
    assert mine.config.exists()
    assert any(line.startswith("kept") and line.endswith(str(mine.config)) for line in lines)
    assert "is not there" in next(uninstall(mine, manager.of_user))


def test_purging_removes_settings_password_and_state_and_nothing_else(device: Path, no_systemd: Systemctl) -> None:
    where = Layout(user=False, root=device, home=HOME)
    list(install(where, installed_at(device / "opt/edge-sser"), no_systemd, ask=never))
    where.password.write_text("hush\n")
    private = device / "var/lib/private/edge-sser"  # as DynamicUser= has it
    private.mkdir(parents=True)
    (private / "outbox.db").write_text("")
    (device / "var/lib/edge-sser").symlink_to("private/edge-sser")
    neighbour = device / "var/lib/private/other"
    neighbour.mkdir()
    (where.directory / "client.pem").write_text("")
    list(uninstall(where, no_systemd, purge=True))
    left = {str(path.relative_to(device)) for path in device.rglob("*") if not path.is_relative_to(device / "opt")}
    assert {"etc/edge-sser/client.pem", "var/lib/private/other"} <= left
    assert not any("outbox" in name or "config.toml" in name or "mqtt-password" in name for name in left)
    assert "var/lib/edge-sser" not in left


@pytest.fixture
def command_line(device: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv("HOME", str(HOME))

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*arguments, "--user", "--root", str(device)])
        return result.exit_code, result.output

    return run


def test_the_command_line_installs_shows_and_removes(command_line, device: Path, tmp_path: Path) -> None:
    status_code, output = command_line("install", "--config", str(settings_file(tmp_path, BROKER)))
    assert status_code == 0, output
    assert (device / "home/ada/.config/edge-sser/config.toml").read_text() == BROKER
    status_code, output = command_line("status")
    assert status_code == 1  # it does not run
    assert "config.toml: valid" in output
    assert command_line("uninstall", "--purge")[0] == 0
    assert not (device / "home/ada/.config/edge-sser").exists()


def test_without_a_person_to_ask_settings_are_kept_unless_told(command_line, device: Path, tmp_path: Path) -> None:
    config = device / "home/ada/.config/edge-sser/config.toml"
    command_line("install", "--config", str(settings_file(tmp_path, BROKER)))
    other = settings_file(tmp_path, "# other\n")
    status_code, output = command_line("install", "--config", str(other))
    assert status_code == 0
    assert "--yes replaces it" in output
    assert config.read_text() == BROKER
    command_line("install", "--config", str(other), "--yes")
    assert config.read_text() == "# other\n"
