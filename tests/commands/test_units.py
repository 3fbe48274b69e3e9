"""The units as systemd reads them, and what they promise."""

from __future__ import annotations

import os
import subprocess
from importlib import resources
from pathlib import Path

import pytest
from components import require_programs

from edge_sser.errors import UsageError
from edge_sser.settings.broker import CREDENTIAL
from edge_sser.settings.sinks import MqttSettings
from edge_sser.sinks.mqtt.options import broker_password

UNITS = ("edge-sser.service", "edge-sser-user.service")
MAX_EXPOSURE = 20  # tenths, as systemd-analyze counts them


class Directives(dict[str, list[str]]):
    """Every value of every directive of a unit, over its sections, in order."""

    @classmethod
    def of(cls, text: str) -> Directives:
        found = cls()
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith(("#", ";")):
                found.setdefault(name, []).append(value)
        return found


def unit(name: str) -> str:
    return (resources.files("edge_sser.units") / name).read_text()


@pytest.fixture
def analyze(tmp_path: Path):
    """Runs systemd-analyze on a unit whose program exists, without a running systemd."""
    require_programs("systemd-analyze", packages="systemd")

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = tmp_path / "bin" / "edge-sser"
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        file = tmp_path / name
        file.write_text(unit(name).replace("/opt/edge-sser/bin/edge-sser", str(program)))
        return subprocess.run(
            ["systemd-analyze", *arguments, str(file)],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_COLORS": "0"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say_against_a_unit(analyze, name: str) -> None:
    result = analyze(name, "verify", *(["--user"] if "user" in name else []))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_system_unit_is_exposed_by_no_more_than_two(analyze) -> None:
    result = analyze("edge-sser.service", "security", "--offline=true", f"--threshold={MAX_EXPOSURE}", "--no-pager")
    assert result.returncode == 0, result.stdout[-400:]
    assert "Overall exposure level" in result.stdout


def test_an_unhardened_unit_would_not_pass(analyze) -> None:
    # That the check above can fail: the user unit leaves most of it out.
    result = analyze("edge-sser-user.service", "security", "--offline=true", f"--threshold={MAX_EXPOSURE}")
    assert result.returncode != 0


@pytest.mark.parametrize("name", UNITS)
def test_what_both_units_promise(name: str) -> None:
    directives = Directives.of(unit(name))
    for directive, value in {
        "Type": "notify",
        "Restart": "on-failure",
        "RestartPreventExitStatus": str(UsageError.exit_status),  # a wrong setting must not restart for ever
        "StartLimitIntervalSec": "0",  # and everything else must
        "LimitCORE": "0",
        "StandardOutput": "null",  # readings are not for the journal
        "UMask": "0077",
    }.items():
        assert directives[directive] == [value]
    assert int(directives["WatchdogSec"][0]) > 0
    assert int(directives["RestartSec"][0]) > 0


def test_what_would_break_the_microphone_or_the_runtime_is_not_set() -> None:
    directives = Directives.of(unit("edge-sser.service"))
    assert not {"PrivateDevices", "MemoryDenyWriteExecute", "ProcSubset", "PrivateIPC"} & set(directives)
    # ProtectClock brings a list of allowed devices: the microphone must be on it.
    assert directives["DeviceAllow"] == ["char-alsa rw"]
    assert directives["SupplementaryGroups"] == ["audio"]
    assert directives["DynamicUser"] == ["yes"]


def test_the_password_reaches_the_service_and_is_optional() -> None:
    directives = Directives.of(unit("edge-sser.service"))
    assert directives["LoadCredential"] == [f"{CREDENTIAL}:/etc/edge-sser/{CREDENTIAL}"]
    # systemd.exec(5): a value set for the same name is the default when the file is not there, which is then no error.
    assert directives["SetCredential"] == [f"{CREDENTIAL}:\\n"]


def test_the_value_that_stands_for_no_password_is_none(tmp_path: Path) -> None:
    settings = MqttSettings(url="mqtt://broker")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    (tmp_path / CREDENTIAL).write_text("\n")
    assert broker_password(settings, environ) is None
    (tmp_path / CREDENTIAL).write_text("secret\n")
    assert broker_password(settings, environ) == "secret"


def test_the_users_password_is_looked_for_beside_its_settings(tmp_path: Path) -> None:
    (environment,) = Directives.of(unit("edge-sser-user.service"))["Environment"]
    directory = environment.removeprefix("CREDENTIALS_DIRECTORY=").replace("%h", str(tmp_path))
    assert directory == str(tmp_path / ".config" / "edge-sser")
    environ = {"CREDENTIALS_DIRECTORY": directory}
    assert broker_password(MqttSettings(url="mqtt://broker"), environ) is None
    Path(directory).mkdir(parents=True)
    (Path(directory) / CREDENTIAL).write_text("secret\n")
    assert broker_password(MqttSettings(url="mqtt://broker"), environ) == "secret"
