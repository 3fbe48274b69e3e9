"""`edge-sser service`: writes unit, settings and password where systemd looks for them, explains, and removes them.

Settings and password are a person's: they are never overwritten without a yes, and stay when the service goes. The unit
is ours: it is written anew each time, and changes to it belong into a drop-in (`systemctl edit`).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Final

from edge_sser.commands.service.layout import Installation, Layout, out_of_reach, remove
from edge_sser.commands.service.systemctl import UNIT, ServiceError, Systemctl, UnitState
from edge_sser.errors import EdgeSserError
from edge_sser.files import write_file
from edge_sser.settings.load import load_settings
from edge_sser.settings.schema import Settings, parse_address

PROGRAM_IN_UNIT: Final = "/opt/edge-sser/bin/edge-sser"  # what stands in the units that ship
PLACE_FOR_ALL: Final = (
    'install it for every user, from its sources: sudo install -d -o "$USER" /opt/edge-sser && python3 -m venv '
    '/opt/edge-sser && /opt/edge-sser/bin/pip install ".[mic]" && '
    "sudo /opt/edge-sser/bin/edge-sser service install"
)
_PRIVATE: Final = 0o600


def install(
    where: Layout,
    installation: Installation,
    systemctl: Systemctl,
    *,
    config: Path | None = None,
    password_file: Path | None = None,
    ask: Callable[[str], bool],
) -> Iterator[str]:
    """Installs the service and starts it. Yields a line for a person after each thing that was done.

    Args:
        where: the parts go.
        installation: that the unit runs.
        systemctl: not used for another machine.
        config: settings to install; without it those that are there stay, or a first file is written.
        password_file: a file whose first line is the broker's password.
        ask: whether something may be overwritten.

    Raises:
        ServiceError: the service could not run from this installation, or something cannot be written.
        SettingsError: the settings are wrong. Nothing has been written then.
    """
    _check_user(where)
    _check_installation(where, installation)
    text = _new_config(where, config, ask)
    settings = load_settings(where.config if text is None else config or _shipped_config(), environ={}).settings
    password = None if password_file is None else _first_line(password_file)
    unit = _unit(where, installation)

    write = partial(write_file, error=ServiceError, remedy="check the owner of the folder, and make room")
    write(where.unit, unit, mode=0o644, folder_mode=0o755)
    yield f"unit      {where.named(where.unit)}"
    if text is not None:
        modes = (_PRIVATE, 0o700) if where.user else (0o644, 0o755)
        write(where.config, text, mode=modes[0], folder_mode=modes[1])
    yield f"settings  {where.named(where.config)}{'' if text is not None else ' (kept)'}"
    if password is not None and _may_replace(where, where.password, password, ask):
        write(where.password, password, mode=_PRIVATE, folder_mode=0o755)
        yield f"password  {where.named(where.password)}"
    yield from _remarks(where, settings)
    yield from _start(where, systemctl)


def status(where: Layout, systemctl: Systemctl) -> tuple[bool, list[str]]:
    """How the service is doing.

    Returns:
        Whether it runs, and lines for a person.
    """
    installed = where.unit.exists()
    lines = [f"unit      {where.named(where.unit)}{'' if installed else ' is not there: edge-sser service install'}"]
    try:
        load_settings(where.config, environ={})
        lines.append(f"settings  {where.named(where.config)}: valid")
    except EdgeSserError as error:
        lines.append(f"settings  {error}")
    lines.append(f"password  {_password_state(where)}")
    if not installed:
        return False, lines
    if where.staged or not systemctl.running:
        return False, [*lines, "service   systemd does not run here, so nothing can be said of it"]
    state = systemctl.state()
    runs = state.active == "active"
    lines.append(f"service   {state.active} ({state.sub}){f': {state.status}' if state.status else ''}")
    lines += [f"          {line}" for line in _explained(state)]
    return runs, [*lines, f"log       {where.log_line} -n 20"]


def _explained(state: UnitState) -> Iterator[str]:
    if state.active == "activating" and state.sub == "start":
        yield "it starts, and waits for the first audio"
    elif state.active != "active" and state.trouble:
        yield state.trouble
    if state.restarts:
        yield f"started again {state.restarts} times since somebody last started it"


def uninstall(where: Layout, systemctl: Systemctl, *, purge: bool = False) -> Iterator[str]:
    """Stops and removes the service. Yields a line for a person after each thing that was done.

    Args:
        where: the parts are.
        systemctl: not used for another machine.
        purge: remove settings, password and state as well, with what waits for the broker.

    Raises:
        ServiceError: something cannot be removed.
    """
    _check_user(where)
    manager = not where.staged and systemctl.running
    if where.unit.exists():
        if manager:
            systemctl.run("disable", "--now", UNIT)
        remove(where.unit)
        if manager:
            systemctl.run("daemon-reload")
        yield f"removed   {where.named(where.unit)}"
    else:
        yield f"unit      {where.named(where.unit)} is not there"
    for path in (where.config, where.password, *where.state):
        if not (path.exists() or path.is_symlink()):
            continue
        if purge:
            remove(path)
        yield f"{'removed ' if purge else 'kept    '}  {where.named(path)}"
    if purge:
        with suppress(OSError):  # a directory with other things in it stays
            where.directory.rmdir()


def _unit(where: Layout, installation: Installation) -> str:
    name = "edge-sser-user.service" if where.user else UNIT
    template = (resources.files("edge_sser.units") / name).read_text(encoding="utf-8")
    return template.replace(PROGRAM_IN_UNIT, _quoted(where.named(installation.program)))


def _quoted(path: Path) -> str:
    """A path as the program of ExecStart=: `%` begins a specifier there, and quotes keep blanks together."""
    text = str(path).replace("%", "%%")
    if not text.isprintable() or set(text) & set("\"'\\"):
        raise ServiceError(f"systemd runs no program whose path has quotes or backslashes in it: {path}: move it")
    return f'"{text}"' if set(text) & set(" ;") else text


def _check_user(where: Layout) -> None:
    if where.staged:
        return
    if not where.user and os.geteuid() != 0:
        raise ServiceError("a system service is root's to change: put sudo before the command, or add --user")
    if where.user and os.geteuid() == 0 and "SUDO_USER" in os.environ:
        raise ServiceError("with sudo, --user would mean root's own service: run it without sudo")


def _check_installation(where: Layout, installation: Installation) -> None:
    if not installation.program.exists():
        raise ServiceError(f"{installation.program} does not exist: install edge-sser with pip, so that it does")
    if where.user:
        return
    for path in (installation.program, *installation.code):
        reason = out_of_reach(path, where.root)
        if reason is not None:
            raise ServiceError(f"the service could not run this installation: {reason}; {PLACE_FOR_ALL}")


def _new_config(where: Layout, config: Path | None, ask: Callable[[str], bool]) -> str | None:
    """The settings to write; None to keep those that are there."""
    if config is None:
        return None if where.config.exists() else _shipped_config().read_text(encoding="utf-8")
    load_settings(config, environ={})  # a wrong file is refused before anybody is asked anything
    text = config.read_text(encoding="utf-8")
    return text if _may_replace(where, where.config, text, ask) else None


def _shipped_config() -> Path:
    return Path(str(resources.files("edge_sser.units") / "config.toml"))


def _may_replace(where: Layout, path: Path, text: str, ask: Callable[[str], bool]) -> bool:
    try:
        unchanged = path.read_text(encoding="utf-8") == text
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError):
        unchanged = False
    return unchanged or ask(f"{where.named(path)} exists and differs. Replace it?")


def _first_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"the password file {path} cannot be read: {error}") from None
    if not lines or not lines[0]:
        raise ServiceError(f"the password file {path} must hold the password on its first line")
    return lines[0] + "\n"


def _remarks(where: Layout, settings: Settings) -> Iterator[str]:
    """What will not work as the settings are."""
    mqtt = settings.mqtt
    if mqtt is None:
        yield f"note      no broker is set: add [mqtt] to {where.named(where.config)}"
    elif parse_address(mqtt.url).username and mqtt.password_file is None and not where.password.exists():
        yield f"note      the broker's password goes into {where.named(where.password)}: --mqtt-password FILE copies it"
    if where.user or where.staged:
        return
    files = {"model.path": settings.model.path}
    if mqtt is not None:
        names = ("password_file", "ca_file", "cert_file", "key_file")
        files |= {f"mqtt.{name}": getattr(mqtt, name) for name in names}
    for key, path in files.items():
        reason = None if path is None or path.is_relative_to("/run/credentials") else out_of_reach(path.absolute())
        if reason is not None:
            yield f"note      the service will not be able to read {key}: {reason}"


def _start(where: Layout, systemctl: Systemctl) -> Iterator[str]:
    # Not waiting for it: with a microphone missing, that would take until the start times out.
    lines = (("daemon-reload",), ("enable", UNIT), ("restart", "--no-block", UNIT))
    if where.staged or not systemctl.running:
        yield "systemd does not run here. Where it does: " + " && ".join(systemctl.line(*line) for line in lines)
        return
    for line in lines:
        systemctl.run(*line)
    yield f"started   edge-sser service status{' --user' if where.user else ''}; {where.log_line} -f"
    if where.user:
        yield "note      it runs while you are logged in; for always: loginctl enable-linger"


def _password_state(where: Layout) -> str:
    name = where.named(where.password)
    try:
        mode = stat.S_IMODE(where.password.stat().st_mode)
    except FileNotFoundError:
        return f"{name} is not there, so none is sent"
    except OSError as error:
        return f"{name}: {error.strerror}"
    return f"{name}: others may read it, chmod 600 {name}" if mode & 0o077 else f"{name}: there, and private"
