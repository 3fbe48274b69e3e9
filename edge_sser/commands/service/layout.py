"""Paths of a service: its installation, unit, settings, password and state."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_sser.commands.service.systemctl import UNIT, WEB_UNIT, ServiceError
from edge_sser.settings.broker import CREDENTIAL
from edge_sser.settings.web import CREDENTIAL as WEB_CREDENTIAL

# Hidden from the service by ProtectHome= and PrivateTmp= of the unit.
HIDDEN_FROM_SERVICE: Final = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108
SLASH: Final = Path("/")
MAX_LINKS: Final = 40  # of Linux, path_resolution(7)


@dataclass(frozen=True, slots=True)
class Installation:
    """Installation of edge-sser.

    Attributes:
        program: file of the command.
        code: other files and directories that it needs: the library of Python, this package and those it imports.
        interpreter: Python; None for one that is not examined.
    """

    program: Path
    code: tuple[Path, ...]
    interpreter: Path | None = None


def running_installation() -> Installation:
    """Returns the installation that this process runs from."""
    scripts = (sysconfig.get_path("scripts"), sysconfig.get_path("scripts", f"{os.name}_user"))  # pip's, pip --user's
    programs = [Path(folder) / "edge-sser" for folder in scripts]
    imported = (importlib.util.find_spec(name) for name in ("numpy", "onnxruntime"))
    return Installation(
        program=next((program for program in programs if program.exists()), programs[0]),
        code=(
            Path(os.__file__).resolve().parent,
            Path(__file__).resolve().parent,
            *(Path(spec.origin).parent for spec in imported if spec is not None and spec.origin is not None),
        ),
        interpreter=Path(sys.executable),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Paths of a service.

    Attributes:
        user: True for a user's service, False for a system service.
        root: root directory of the device's image; `/` for this machine.
        home: home folder of the user, as a path on the device.
    """

    user: bool
    root: Path = SLASH
    home: Path

    @property
    def staged(self) -> bool:
        """True for another machine, or an image of one."""
        return self.root != SLASH

    @property
    def unit(self) -> Path:
        """File of the unit."""
        return self._below((self.home / ".config/systemd/user" if self.user else Path("/etc/systemd/system")) / UNIT)

    @property
    def web_unit(self) -> Path:
        """File of the unit of the web page."""
        return self.unit.with_name(WEB_UNIT)

    @property
    def packaged_unit(self) -> Path:
        """File of the unit that the Debian package brings; systemd prefers `unit`, where both are there."""
        return self._below(Path("/usr/lib/systemd/user" if self.user else "/lib/systemd/system") / UNIT)

    @property
    def directory(self) -> Path:
        """Directory of the settings and the passwords."""
        return self._below(self.home / ".config/edge-sser" if self.user else Path("/etc/edge-sser"))

    @property
    def config(self) -> Path:
        """File of the settings."""
        return self.directory / "config.toml"

    @property
    def password(self) -> Path:
        """File of the broker's password."""
        return self.directory / CREDENTIAL

    @property
    def web_password(self) -> Path:
        """File of the web page's password."""
        return self.directory / WEB_CREDENTIAL

    @property
    def state(self) -> tuple[Path, ...]:
        """Directories that the service writes: the outbox, the pause file, and caches."""
        if self.user:
            return (self._below(self.home / ".local/state/edge-sser"),)
        # With DynamicUser= the directory is in private/, and the plain name is a link to it.
        names = ("lib/edge-sser", "lib/private/edge-sser", "cache/edge-sser", "cache/private/edge-sser")
        return tuple(self._below(Path("/var") / name) for name in names)

    @property
    def log_line(self) -> str:
        """Command that shows the log."""
        return f"journalctl {'--user ' if self.user else ''}-u edge-sser"

    def named(self, path: Path) -> Path:
        """Returns a path as it is on the device."""
        return path_in(self.root, path)

    def check_links(self, *, read: bool) -> None:
        """Refuses an image with a link that leads out of it; this machine's own links are its owner's business.

        Args:
            read: True to refuse settings, password and unit that are such links, too. They are about to be read. When
                they are only replaced or removed, that happens to the link itself.

        Raises:
            ServiceError: a file of the service would be outside of the image.
        """
        if not self.staged:
            return
        files = (self.unit, self.config, self.password)
        for path in (*(file.parent for file in (*files, *self.state)), *(files if read else ())):
            target = path.resolve()
            if not target.is_relative_to(self.root):
                raise ServiceError(
                    f"{path} leads out of {self.root}, to {target}: remove that link, or run the command on the device"
                )

    def _below(self, path: Path) -> Path:
        return self.root / path.relative_to(SLASH)


def layout(*, user: bool, root: Path | None) -> Layout:
    """Returns the layout on this machine, or below `root`.

    Raises:
        ServiceError: a user's service was asked for, and this user has no home folder.
    """
    try:
        home = Path.home()
    except RuntimeError:
        if user:
            raise ServiceError("a user's service is kept in a home folder, and this user has none: set HOME") from None
        home = SLASH  # a system service has nothing there
    return Layout(user=user, root=SLASH if root is None else root.resolve(), home=home)


def path_in(root: Path, path: Path) -> Path:
    """Returns a path as it is once `root` is the root directory; unchanged when it is not below `root`.

    Examples:
        >>> path_in(Path("/images/pi"), Path("/images/pi/opt/edge-sser/bin/edge-sser"))
        PosixPath('/opt/edge-sser/bin/edge-sser')
    """
    return SLASH / path.relative_to(root) if path.is_relative_to(root) else path


def out_of_reach(path: Path, root: Path = SLASH) -> str | None:
    """Returns why the system service cannot read a file or directory, in words; None when it can.

    Args:
        path: absolute path.
        root: root directory of the device's image.
    """
    for name in _links(path):
        inside = path_in(root, name)
        hidden = next((place for place in HIDDEN_FROM_SERVICE if inside.is_relative_to(place)), None)
        if hidden is not None:
            return f"{inside} is below {hidden}, which the service does not see"
    if not path.exists():
        return f"{path_in(root, path)} does not exist"
    target = path.resolve()
    for place in (target, *target.parents):
        if place == root:
            break
        needed = stat.S_IXOTH if place != target else stat.S_IROTH | (stat.S_IXOTH if place.is_dir() else 0)
        if place.stat().st_mode & needed != needed:
            return f"{path_in(root, place)} is not open to other users"
    return None


def _links(path: Path) -> list[Path]:
    """Returns a path, each path that it leads to as a link, and what is at the end."""
    names = [path]
    while names[-1].is_symlink() and len(names) < MAX_LINKS:
        names.append(Path(os.path.normpath(names[-1].parent / names[-1].readlink())))
    return [*names, path.resolve()]


def remove(path: Path) -> None:
    """Removes a file, a link, or a directory with its content.

    Raises:
        ServiceError: the path cannot be removed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise ServiceError(f"{path} cannot be removed: {error.strerror}") from None
