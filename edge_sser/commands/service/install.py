"""Installs, describes and removes the unit, settings and password of the service.

Settings and password belong to the user: they are never overwritten without confirmation, and stay when the service is
removed. The unit belongs to edge-sser: it is overwritten each time, and changes to it belong into a drop-in
(`systemctl edit`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import resources
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from edge_sser.commands.service.layout import Installation, Layout, out_of_reach, remove
from edge_sser.commands.service.systemctl import UNIT, WEB_UNIT, ServiceError, Systemctl, UnitState
from edge_sser.credentials import read_password
from edge_sser.errors import EdgeSserError, SettingsError, need_package
from edge_sser.files import write_file
from edge_sser.model.shipped import model_file
from edge_sser.settings.broker import parse_address
from edge_sser.settings.load import load_settings
from edge_sser.settings.schema import Settings
from edge_sser.settings.web import WebSettings

PROGRAM_IN_UNIT: Final = "/opt/edge-sser/bin/edge-sser"  # in the units that ship
SYSTEM_INSTALL: Final = (
    'install it for every user, from its sources: sudo install -d -o "$USER" /opt/edge-sser && '
    "/usr/bin/python3 -m venv /opt/edge-sser --clear && "
    '/opt/edge-sser/bin/pip install ".[mic]" && '
    "sudo /opt/edge-sser/bin/edge-sser service install"
)
_PRIVATE_MODE: Final = 0o600


def install(
    target: Layout,
    installation: Installation,
    systemctl: Systemctl,
    *,
    config: Path | None = None,
    password_file: Path | None = None,
    web: bool = False,
    web_password_file: Path | None = None,
    ask: Callable[[str], bool],
) -> Iterator[str]:
    """Installs the service and starts it. Yields a line of text after each step.

    Args:
        target: paths to install at.
        installation: installation for the unit to run.
        systemctl: service manager; not used for another machine.
        config: settings to install; None to keep existing ones, or to write a first file.
        password_file: file whose first line is the broker's password.
        web: also install the web page, a service of its own.
        web_password_file: file whose first line is the page's password.
        ask: callback that returns True when a file may be overwritten.

    Raises:
        ServiceError: the service could not run from this installation, a file cannot be written, or a link leads out of
            the image.
        SettingsError: the settings are wrong; no file has been written.
    """
    _check_user(target)
    target.check_links(read=True)
    _check_installation(target, installation)
    text = _new_config(target, config, ask)
    settings = load_settings(target.config if text is None else config or _shipped_config(), environ={}).settings
    passwords = {
        target.password: None if password_file is None else _first_line(password_file),
        target.web_password: None if web_password_file is None else _first_line(web_password_file),
    }
    units = {target.unit: _unit(target, installation, UNIT)}
    if web:
        need_package("uvicorn", "web", "The web page")
        units[target.web_unit] = _unit(target, installation, WEB_UNIT)

    write = partial(write_file, error=ServiceError, remedy="check the owner of the folder, and make room")
    for path, unit in units.items():
        write(path, unit, mode=0o644, folder_mode=0o755)
        yield f"unit      {target.named(path)}"
    if text is not None:
        modes = (_PRIVATE_MODE, 0o700) if target.user else (0o644, 0o755)
        write(target.config, text, mode=modes[0], folder_mode=modes[1])
    yield f"settings  {target.named(target.config)}{'' if text is not None else ' (kept)'}"
    for path, password in passwords.items():
        if password is not None and _may_replace(target, path, password, ask):
            write(path, password, mode=_PRIVATE_MODE, folder_mode=0o755)
            yield f"password  {target.named(path)}"
    yield from _notes(target, settings)
    if web:
        yield from _web_notes(target, settings)
    yield from _start(target, systemctl, [path.name for path in units])


def status(target: Layout, systemctl: Systemctl) -> tuple[bool, list[str]]:
    """Describes the state of the service.

    Returns:
        True when the service runs, and lines of text.

    Raises:
        ServiceError: a link leads out of the image.
    """
    target.check_links(read=True)
    unit = next((path for path in (target.unit, target.packaged_unit) if path.exists()), None)
    command = f"edge-sser service install{' --user' if target.user else ''}"
    lines = [f"unit      {target.named(unit or target.unit)}{'' if unit else f' is not there: {command}'}"]
    lines.append(f"settings  {_settings_state(target, command)}")
    lines.append(f"password  {_password_state(target)}")
    if unit is None:
        return False, lines
    if target.staged or not systemctl.running:
        return False, [*lines, "service   systemd does not run here, so its state is unknown"]
    state = systemctl.state()
    runs = state.active == "active"
    if target.web_unit.exists() or target.packaged_unit.with_name(WEB_UNIT).exists():
        page = systemctl.state(WEB_UNIT)
        lines.append(f"web page  {page.active} ({page.sub}){f': {page.trouble}' if page.trouble else ''}")
    lines.append(f"service   {state.active} ({state.sub}){f': {state.status}' if state.status else ''}")
    lines += [f"          {line}" for line in _explanation(state)]
    return runs, [*lines, f"log       {target.log_line} -n 20"]


def _explanation(state: UnitState) -> Iterator[str]:
    if state.active == "activating" and state.sub == "start":
        yield "it starts, and waits for the first audio"
    elif state.active != "active" and state.trouble:
        yield state.trouble
    if state.restarts:
        yield f"started again {state.restarts} times since somebody last started it"


def uninstall(target: Layout, systemctl: Systemctl, *, purge: bool = False) -> Iterator[str]:
    """Stops and removes the service. Yields a line of text after each step.

    With `purge`, settings, password and state are removed too, and with them events that wait for the broker.

    Raises:
        ServiceError: a file cannot be removed, or a link leads out of the image; then nothing has been removed.
    """
    _check_user(target)
    target.check_links(read=False)
    has_manager = not target.staged and systemctl.running
    for unit in (target.web_unit, target.unit):
        if unit.exists():
            if has_manager:
                systemctl.run("disable", "--now", unit.name)
            remove(unit)
            if has_manager:
                systemctl.run("daemon-reload")
            yield f"removed   {target.named(unit)}"
        elif unit == target.unit:
            yield f"unit      {target.named(unit)} is not there"
    for path in (target.config, target.password, target.web_password, *target.state):
        if not (path.exists() or path.is_symlink()):
            continue
        if purge:
            remove(path)
        yield f"{'removed ' if purge else 'kept    '}  {target.named(path)}"
    if purge:
        with suppress(OSError):  # a directory with other files stays
            target.directory.rmdir()


def _unit(target: Layout, installation: Installation, name: str) -> str:
    if target.user:
        name = name.replace(".service", "-user.service")
    template = (resources.files("edge_sser.units") / name).read_text(encoding="utf-8")
    return template.replace(PROGRAM_IN_UNIT, _quoted(target.named(installation.program)))


def _quoted(path: Path) -> str:
    """Escapes a path for ExecStart=: `%` begins a specifier there, and quotes keep spaces together."""
    text = str(path).replace("%", "%%")
    if not text.isprintable() or set(text) & set("\"'\\"):
        raise ServiceError(f"systemd runs no program whose path has quotes or backslashes in it: {path}: move it")
    return f'"{text}"' if set(text) & set(" ;") else text


def _check_user(target: Layout) -> None:
    if target.staged:
        return
    if not target.user and os.geteuid() != 0:
        raise ServiceError("a system service is root's to change: put sudo before the command, or add --user")
    if target.user and os.geteuid() == 0 and "SUDO_USER" in os.environ:
        raise ServiceError("with sudo, --user would mean root's own service: run it without sudo")


def _check_installation(target: Layout, installation: Installation) -> None:
    if not installation.program.exists():
        raise ServiceError(f"{installation.program} does not exist: install edge-sser with pip, which writes it")
    if target.user:
        return
    interpreter = installation.interpreter
    reason = None if interpreter is None else out_of_reach(interpreter, target.root)
    if reason is not None and out_of_reach(installation.program, target.root) is None:
        raise ServiceError(
            f"the service could not run this installation, whose Python is of pyenv, uv, conda or the like: {reason}; "
            f"use the system's Python, or one in /opt (for uv, UV_PYTHON_INSTALL_DIR=/opt/python). To {SYSTEM_INSTALL}"
        )
    for path in (installation.program, *installation.code):
        reason = out_of_reach(path, target.root)
        if reason is not None:
            raise ServiceError(f"the service could not run this installation: {reason}; {SYSTEM_INSTALL}")


def _new_config(target: Layout, config: Path | None, ask: Callable[[str], bool]) -> str | None:
    """Returns the settings to write; None to keep the existing ones."""
    if config is None:
        return None if target.config.exists() else _shipped_config().read_text(encoding="utf-8")
    load_settings(config, environ={})  # refuses a wrong file before any question
    text = config.read_text(encoding="utf-8")
    return text if _may_replace(target, target.config, text, ask) else None


def _shipped_config() -> Path:
    return Path(str(resources.files("edge_sser.units") / "config.toml"))


def _may_replace(target: Layout, path: Path, text: str, ask: Callable[[str], bool]) -> bool:
    try:
        unchanged = path.read_text(encoding="utf-8") == text
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        unchanged = False
    return unchanged or ask(f"{target.named(path)} exists and differs. Replace it?")


def _first_line(path: Path) -> str:
    try:
        return f"{read_password(path, 'the password file')}\n"
    except SettingsError as error:
        raise ServiceError(str(error)) from None


def _notes(target: Layout, settings: Settings) -> Iterator[str]:
    """Yields notes on settings that will not work in the service."""
    mqtt = settings.mqtt
    if mqtt is None:
        yield f"note      no broker is set: add [mqtt] to {target.named(target.config)}"
    elif parse_address(mqtt.url).username and mqtt.password_file is None and not target.password.exists():
        password = target.named(target.password)
        yield f"note      the broker's password goes into {password}: --mqtt-password FILE copies it"
    if target.user or target.staged:
        return
    files = {"model.path": model_file(settings.model.path)}
    if mqtt is not None:
        names = ("password_file", "ca_file", "cert_file", "key_file")
        files |= {f"mqtt.{name}": getattr(mqtt, name) for name in names}
    for key, path in files.items():
        reason = None if path is None or path.is_relative_to("/run/credentials") else out_of_reach(path.absolute())
        if reason is not None:
            yield f"note      the service will not be able to read {key}: {reason}"


def _web_notes(target: Layout, settings: Settings) -> Iterator[str]:
    """Yields what the web page lacks, and its address."""
    if settings.history is None:
        yield f"note      the page shows a history: add [history] to {target.named(target.config)}"
    page, password = settings.web or WebSettings(), target.named(target.web_password)
    if not ip_address(page.address).is_loopback and page.password_file is None and not target.web_password.exists():
        yield f"note      the page needs a password at {page.address}: --web-password FILE copies it to {password}"
    place = f"[{page.address}]" if ":" in page.address else page.address
    yield f"web page  {'http' if page.cert_file is None else 'https'}://{place}:{page.port}/"


def _start(target: Layout, systemctl: Systemctl, units: Sequence[str]) -> Iterator[str]:
    # Without waiting: with a missing microphone, the start would take until its timeout.
    commands = (("daemon-reload",), ("enable", *units), ("restart", "--no-block", *units))
    if target.staged or not systemctl.running:
        yield "systemd does not run here. Where it does: " + " && ".join(
            systemctl.line(*command) for command in commands
        )
        return
    for command in commands:
        systemctl.run(*command)
    yield f"started   edge-sser service status{' --user' if target.user else ''}; {target.log_line} -f"
    if target.user:
        yield "note      it runs while you are logged in; for always: loginctl enable-linger"


def _settings_state(target: Layout, command: str) -> str:
    name = target.named(target.config)
    if not os.path.lexists(target.config):
        return f"{name} is not there: {command} writes a first one, with --config FILE yours"
    try:
        load_settings(target.config, environ={})
    except EdgeSserError as error:
        return str(error)
    return f"{name}: valid"


def _password_state(target: Layout) -> str:
    name = target.named(target.password)
    try:
        mode = stat.S_IMODE(target.password.stat().st_mode)
    except FileNotFoundError:
        return f"{name} is not there, so none is sent"
    except OSError as error:
        return f"{name}: {error.strerror}"
    return f"{name}: others may read it, chmod 600 {name}" if mode & 0o077 else f"{name}: there, and private"
