"""Commands without a home folder: no HOME, and a user whom the system does not know, as in many containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from components import require, require_programs

UID = 54_321


@pytest.fixture(scope="session")
def homeless(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command as a user without a name, in an environment with a PATH alone."""
    require_programs("unshare", packages="util-linux")
    empty = tmp_path_factory.mktemp("empty")
    prefix = ["unshare", "--user", f"--map-user={UID}", f"--map-group={UID}"]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": paths}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*prefix, sys.executable, "-m", "edge_sser.cli", *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=empty, capture_output=True, text=True, timeout=60)

    known = "import pwd, os, pathlib; print(os.getuid(), os.getuid() in [each.pw_uid for each in pwd.getpwall()])"
    done = subprocess.run([*prefix, sys.executable, "-c", known], env=environment, capture_output=True, text=True)
    require(done.stdout == f"{UID} False\n", "user namespaces, and a user without a name")
    return run


def test_analyze_and_listen_give_the_same_as_ever(homeless, run, speech, model):
    ordinary = run("analyze", speech, "--model", model)
    analysed = homeless("analyze", speech, "--model", model)
    assert (analysed.returncode, analysed.stderr) == (0, "")
    assert analysed.stdout == ordinary.out
    heard = homeless("listen", "--no-pace", "--source", speech, "--model", model, "--format", "jsonl")
    assert (heard.returncode, heard.stderr) == (0, "")
    events = [json.loads(line) for line in heard.stdout.splitlines()]
    assert [event for event in events if event["type"] in ("reading", "episode")] == ordinary.events


def test_doctor_examines_all_and_says_what_needs_a_home(homeless, tmp_path):
    result = homeless("doctor")
    assert (result.returncode, result.stderr) == (0, "")
    assert not [line for line in result.stdout.splitlines() if line.startswith("problem")]
    assert "\nno problems, " in result.stdout
    settings = tmp_path / "settings.toml"
    settings.write_text('[mqtt]\nurl = "mqtt://127.0.0.1:9"\n')
    result = homeless("doctor", "--config", settings)
    (outbox,) = [line for line in result.stdout.splitlines() if line.split()[1:2] == ["outbox"]]
    assert outbox.startswith("problem")
    assert outbox.endswith("no place for outbox and baselines: set STATE_DIRECTORY or HOME")
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["baseline", "show"], "no place for outbox and baselines: set STATE_DIRECTORY or HOME"),
        (["service", "install", "--user"], "kept in a home folder, and this user has none: set HOME"),
        (["service", "status", "--user"], "kept in a home folder, and this user has none: set HOME"),
        (["service", "install"], "put sudo before the command"),
        (["listen", "--source", "~/talk.wav"], "~/talk.wav does not exist"),
        (["listen", "--config", "~/settings.toml"], "~/settings.toml: there is no such settings file"),
    ],
)
def test_what_needs_a_home_says_so_in_one_line(homeless, arguments: list[str], said: str):
    result = homeless(*arguments)
    assert result.returncode != 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("edge-sser: error: ")
    assert said in line


def test_listening_with_a_broker_and_no_place_for_an_outbox_is_one_line(homeless, speech: Path, tmp_path: Path):
    settings = tmp_path / "settings.toml"
    settings.write_text('[mqtt]\nurl = "mqtt://127.0.0.1:9"\n')
    result = homeless("listen", "--no-pace", "--source", speech, "--config", settings)
    assert result.returncode == 2
    assert result.stderr == "edge-sser: error: no place for outbox and baselines: set STATE_DIRECTORY or HOME\n"
