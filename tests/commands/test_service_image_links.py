"""An image of a device whose links lead out of it: nothing of this machine is read, written or removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_sser.commands.service.install import install, status, uninstall
from edge_sser.commands.service.layout import Installation, Layout
from edge_sser.commands.service.systemctl import ServiceError, Systemctl

HOME = Path("/home/ada")
SECRET = "root:secret-of-this-machine"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root directory of an image, with edge-sser in /opt."""
    root = tmp_path / "image"
    program = root / "opt/edge-sser/bin/edge-sser"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return root


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Folders of this machine that a link could lead to, with files of the names that edge-sser writes and removes."""
    outside = tmp_path / "machine"
    for name in (
        "systemd/system/edge-sser.service",
        "system/edge-sser.service",
        "edge-sser.service",
        "edge-sser/config.toml",
        "edge-sser/mqtt-password",
        "edge-sser/outbox.db",
        "config.toml",
        "mqtt-password",
        "outbox.db",
        "lib/edge-sser/outbox.db",
        "lib/private/edge-sser/outbox.db",
        "cache/edge-sser/engine",
        "private/edge-sser/outbox.db",
    ):
        path = outside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET)
    return outside


@pytest.fixture
def no_systemd(tmp_path: Path) -> Systemctl:
    return Systemctl(user=False, booted=tmp_path / "not-booted")


def contents(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def run_all(image: Path, systemctl: Systemctl) -> Iterator[str | ServiceError]:
    """Installs, describes and purges. Yields each line of text, or the refusal."""
    target = Layout(user=False, root=image, home=HOME)
    program = Installation(program=image / "opt/edge-sser/bin/edge-sser", code=())
    for steps in (
        lambda: install(target, program, systemctl, ask=lambda _: True),
        lambda: status(target, systemctl)[1],
        lambda: uninstall(target, systemctl, purge=True),
    ):
        try:
            yield from steps()
        except ServiceError as error:
            yield error


@pytest.mark.parametrize(
    "link",
    ["etc", "etc/systemd", "etc/systemd/system", "etc/edge-sser", "var", "var/lib", "var/lib/private", "var/cache"],
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_that_leads_out_is_refused_before_anything_is_touched(
    image: Path, machine: Path, no_systemd: Systemctl, link: str, relative: bool
) -> None:
    path = image / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(Path(*[".."] * len(Path(link).parts), "machine") if relative else machine)
    before, inside = contents(machine), sorted(image.rglob("*"))
    said = list(run_all(image, no_systemd))
    assert len(said) == 3
    assert all(isinstance(error, ServiceError) and "leads out of" in str(error) for error in said)
    assert contents(machine) == before
    assert sorted(image.rglob("*")) == inside


@pytest.mark.parametrize("link", ["etc/edge-sser/config.toml", "etc/edge-sser/mqtt-password", "etc/systemd/system"])
def test_a_dangling_link_that_leads_out_is_refused_too(
    image: Path, machine: Path, no_systemd: Systemctl, link: str
) -> None:
    (image / link).parent.mkdir(parents=True)
    (image / link).symlink_to(machine / "not/there")
    said = list(run_all(image, no_systemd))
    assert isinstance(said[0], ServiceError)
    assert not (machine / "not").exists()


@pytest.mark.parametrize("name", ["etc/edge-sser/config.toml", "etc/edge-sser/mqtt-password"])
def test_a_file_that_leads_out_is_never_read_and_only_the_link_is_removed(
    image: Path, machine: Path, no_systemd: Systemctl, name: str
) -> None:
    link = image / name
    link.parent.mkdir(parents=True)
    link.symlink_to(machine / Path(name).name)
    before = contents(machine)
    said = [str(line) for line in run_all(image, no_systemd)]
    assert not any(SECRET in line for line in said)
    assert any(line == f"removed   /{name}" for line in said)
    assert not link.is_symlink()
    assert contents(machine) == before


@pytest.mark.parametrize("target", ["/", "machine"])
@pytest.mark.parametrize("name", ["var/lib/edge-sser", "var/lib/private/edge-sser", "var/cache/edge-sser"])
def test_state_that_is_a_link_goes_without_what_it_leads_to(
    image: Path, machine: Path, no_systemd: Systemctl, name: str, target: str
) -> None:
    link = image / name
    link.parent.mkdir(parents=True)
    link.symlink_to("/" if target == "/" else machine)
    before = contents(machine)
    assert f"removed   /{name}" in list(run_all(image, no_systemd))
    assert not link.is_symlink()
    assert contents(machine) == before


def test_a_link_within_state_is_removed_without_what_it_leads_to(
    image: Path, machine: Path, no_systemd: Systemctl
) -> None:
    state = image / "var/lib/edge-sser"
    state.mkdir(parents=True)
    (state / "deep").symlink_to(machine)
    before = contents(machine)
    assert "removed   /var/lib/edge-sser" in list(run_all(image, no_systemd))
    assert contents(machine) == before


def test_a_link_that_stays_in_the_image_is_followed(image: Path, machine: Path, no_systemd: Systemctl) -> None:
    (image / "usr/etc").mkdir(parents=True)
    (image / "etc").symlink_to("usr/etc")
    said = list(run_all(image, no_systemd))
    assert not any(isinstance(line, ServiceError) for line in said)
    assert "removed   /etc/edge-sser/config.toml" in said
    assert not (image / "usr/etc/edge-sser").exists()


def test_links_of_this_machine_are_its_owners(tmp_path: Path, machine: Path) -> None:
    """Settings that a user keeps elsewhere, as with a folder of dotfiles."""
    home = tmp_path / "house"
    home.mkdir()
    (home / ".config").symlink_to(machine)
    program = tmp_path / "edge-sser"
    program.write_text("")
    (machine / "edge-sser/config.toml").write_text("")
    target = Layout(user=True, home=home)
    systemctl = Systemctl(user=True, booted=tmp_path / "not-booted")
    lines = list(install(target, Installation(program=program, code=()), systemctl, ask=lambda _: True))
    assert any(line.startswith("settings") for line in lines)
    assert (machine / "systemd/user/edge-sser.service").exists()
