"""`edge-sser notify test` sends one message marked as a test; `doctor` looks without sending any."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mqtt_certificates import Authority
from mqtt_rig import free_port
from webhook_server import WebhookServer

from edge_sser.commands.doctor.finding import CheckContext, Finding, State
from edge_sser.commands.doctor.notify import check_notify
from edge_sser.settings.load import load_settings

SECRET = "T0KEN-x7Yq"


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    server = WebhookServer()
    yield server
    server.close()


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(f'node = "cab12"\n{text}')
    return path


def run(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_sser", "notify", "test", *arguments, "--config", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def doctor(config: Path) -> Finding:
    return check_notify(CheckContext(load_settings(config, environ={}).settings, (), microphone_configured=False))


def test_one_message_marked_as_a_test_goes_to_each_target(tmp_path: Path, server: WebhookServer) -> None:
    out = tmp_path / "out"
    config = write(
        tmp_path,
        f'[[notify]]\nname = "hook"\nurl = "{server.url}/{SECRET}"\n'
        f'[[notify]]\nname = "own"\ncommand = ["tee", "{out}"]\nquiet_hours = "00:00-23:59"\n',
    )
    result = run(config)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [f"hook: {server.url}/... took the test", "own: tee took the test"]
    body = server.requests[0].json()
    assert (body["test"], body["type"], body["node"]) == (True, "episode", "cab12")
    assert body["text"].startswith("TEST, no alarm: ")
    assert '"test": true' in out.read_text()
    assert run(config, "own").stdout == "own: tee took the test\n"
    assert len(server.requests) == 1


def test_failures_are_told_for_each_target(tmp_path: Path, server: WebhookServer) -> None:
    server.status = 500
    config = write(
        tmp_path,
        f'[[notify]]\nname = "hook"\nurl = "{server.url}/{SECRET}"\n'
        '[[notify]]\nname = "own"\ncommand = ["sh", "-c", "echo my reason >&2; exit 3"]\n',
    )
    result = run(config)
    assert result.returncode == 1
    assert result.stderr.splitlines() == ["hook: answers 500", "my reason", "own: ended with status 3"]
    assert (run(config, "none").returncode, "there are hook, own" in run(config, "none").stderr) == (2, True)
    port = free_port()  # where nobody listens
    gone = run(write(tmp_path, f'[[notify]]\nname = "hook"\nurl = "http://127.0.0.1:{port}/"\n'))
    assert gone.stderr == "hook: cannot be reached: Connection refused\n"
    lost = run(write(tmp_path, '[[notify]]\nname = "own"\ncommand = ["/nowhere/program"]\n'))
    assert lost.stderr == "own: the command /nowhere/program is not found or not executable: write its path\n"
    assert "no [[notify]] in the settings" in run(write(tmp_path, "")).stderr


def test_two_tables_of_one_name_and_wrong_values_name_the_file(tmp_path: Path) -> None:
    twice = '[[notify]]\nname = "a"\ncommand = ["true"]\n' * 2
    assert "two notifications are called a" in run(write(tmp_path, twice)).stderr
    result = run(write(tmp_path, f'[[notify]]\nname = "a"\nurl = "ftp://h/{SECRET}"\n'))
    assert "notify[0].url" in result.stderr
    assert SECRET not in result.stderr
    result = run(write(tmp_path, f'[[notify]]\nname = "a"\nlink = "https://h/{SECRET}"\n'))
    assert "unknown key notify[0].link" in result.stderr
    assert "1 to 16 tables, each begun by [[notify]]" in run(write(tmp_path, "notify = 3\n")).stderr


def test_the_environment_sets_no_notification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SSER_NOTIFY_URL", "https://h")
    assert "there is no such setting" in run(write(tmp_path, "")).stderr


def test_settings_are_shown_without_the_url(tmp_path: Path, server: WebhookServer) -> None:
    config = write(tmp_path, f'[[notify]]\nname = "hook"\nurl = "{server.url}/{SECRET}"\n')
    command = [sys.executable, "-m", "edge_sser", "config", "show", "--config", str(config)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "[[notify]]" in shown
    assert 'name = "hook"' in shown
    assert SECRET not in shown


def test_doctor_reaches_the_server_and_sends_nothing(tmp_path: Path, server: WebhookServer) -> None:
    config = write(tmp_path, f'[[notify]]\nname = "hook"\nurl = "{server.url}/{SECRET}"\n')
    finding = doctor(config)
    assert (finding.state, server.requests) == (State.FINE, [])
    assert f"hook ({server.url}/...)" in finding.detail
    assert doctor(write(tmp_path, "")) == Finding(State.FINE, "no [[notify]] in the settings")


def test_doctor_finds_what_is_wrong(tmp_path: Path) -> None:
    def complaint(table: str) -> str:
        finding = doctor(write(tmp_path, f'[[notify]]\nname = "hook"\n{table}\n'))
        assert finding.state is not State.FINE
        return f"{finding.detail} -> {finding.remedy}"

    assert "Connection refused" in complaint(f'url = "http://127.0.0.1:{free_port()}/{SECRET}"')
    assert SECRET not in complaint(f'url = "http://127.0.0.1:{free_port()}/{SECRET}"')
    assert "cannot be reached" in complaint('url = "https://no.such.host.invalid/"')
    assert "not found or not executable" in complaint('command = ["/no/such/program"]')
    secret = tmp_path / "url"
    secret.write_text("nonsense")
    assert "must look like https://" in complaint(f'url_file = "{secret}"')
    server = WebhookServer(Authority(tmp_path / "ca").issue("hook"))
    try:
        assert "certificate cannot be trusted" in complaint(f'url = "{server.url}"')
        secret.write_text(server.url)
        os.chmod(secret, 0o644)
        ca = tmp_path / "ca" / "ca.pem"
        assert f"every user may read {secret}" in complaint(f'url_file = "{secret}"\nca_file = "{ca}"')
    finally:
        server.close()
