"""`edge-sser doctor`: what cannot be written, and a port that is taken, are found, with their remedy."""

from __future__ import annotations

import errno
import resource
import socket
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from components import require, require_package
from mqtt_certificates import Authority
from mqtt_rig import free_port
from unprivileged import as_ordinary_user, folder_for_all

from edge_sser.commands.doctor.finding import CheckContext, State
from edge_sser.commands.doctor.outputs import check_file, check_outbox, check_web
from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import FileSinkSettings, MetricsSettings, MqttSettings
from edge_sser.settings.web import WebSettings
from edge_sser.sinks.metrics import MetricsSink
from edge_sser.sinks.mqtt.outbox_destination import destination_text, kept_path

RECORDING = '[[source]]\ndevice = "talk.flac"'

LINE = '{"type":"reading"}\n'


@pytest.fixture
def folder():
    with folder_for_all() as folder:
        yield folder


@pytest.fixture
def outbox(monkeypatch):
    """Finding on the outbox in a folder, for an ordinary user."""
    context = CheckContext(Settings(mqtt=MqttSettings(url="mqtt://broker")), (), microphone_configured=False)

    def outbox(directory):
        monkeypatch.setenv("STATE_DIRECTORY", str(directory))
        with as_ordinary_user():
            return check_outbox(context)

    return outbox


def event_file(path):
    """Finding on an event file, for an ordinary user."""
    context = CheckContext(Settings(file=FileSinkSettings(path=path)), (), microphone_configured=False)
    with as_ordinary_user():
        return check_file(context)


def test_a_state_directory_that_can_be_written_is_fine_and_stays_as_it_was(outbox, folder):
    folder.chmod(0o777)
    assert outbox(folder).state is State.FINE
    assert outbox(folder / "not" / "yet").state is State.FINE
    assert list(folder.iterdir()) == []
    kept = kept_path(folder / "outbox.db", destination_text("broker.example:8883", "cab12"))
    kept.touch()
    assert outbox(folder).detail.endswith(f"events for other brokers are kept there: {kept.name}")


@pytest.mark.parametrize("below", ["", "not/yet"])
def test_a_state_directory_that_cannot_be_written(outbox, folder, below):
    folder.chmod(0o555)
    finding = outbox(folder / below)
    assert finding.state is State.PROBLEM
    assert str(folder) in finding.detail
    assert finding.remedy.startswith(f"give {folder / below} to the user who runs edge-sser, or set STATE_DIRECTORY")


def test_a_state_directory_that_may_not_be_looked_into(outbox, folder):
    (folder / "state").mkdir()
    folder.chmod(0o000)
    finding = outbox(folder / "state")
    assert finding.state is State.PROBLEM
    assert "Permission denied" in finding.detail


@pytest.mark.parametrize("name", ["outbox.db", "outbox.db-wal"])
def test_an_outbox_that_another_user_left(outbox, folder, name):
    folder.chmod(0o777)
    (folder / name).touch()
    (folder / name).chmod(0o000)
    finding = outbox(folder)
    assert finding.state is State.PROBLEM
    assert f"{folder / name} may not be written by this user" in finding.detail


def test_a_state_directory_that_is_a_file(outbox, folder):
    (folder / "state").touch()
    finding = outbox(folder / "state")
    assert finding.state is State.PROBLEM
    assert f"{folder / 'state'} is not a directory" in finding.detail


@contextmanager
def a_disk_that_takes_nothing():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_nothing(outbox, folder):
    folder.chmod(0o777)
    with a_disk_that_takes_nothing():
        finding = outbox(folder)
    assert finding.state is State.PROBLEM
    assert "File too large" in finding.detail
    assert finding.remedy.startswith("make room there for this user")
    assert list(folder.iterdir()) == []


def test_an_event_file_with_anything_else_in_it_is_a_problem(folder):
    path = folder / "events.jsonl"
    path.write_text("notes of mine")
    path.chmod(0o666)
    folder.chmod(0o777)
    finding = event_file(path)
    assert finding.state is State.PROBLEM
    assert "something else than events" in finding.detail
    assert path.read_text() == "notes of mine"


def test_an_event_file_that_can_be_written_is_fine_and_stays_as_it_was(folder):
    folder.chmod(0o777)
    path = folder / "events.jsonl"
    assert event_file(path).state is State.FINE
    assert list(folder.iterdir()) == []
    path.write_text(LINE)
    path.chmod(0o666)
    assert event_file(path).state is State.FINE
    assert path.read_text() == LINE


def test_an_event_file_with_a_relative_path_is_below_the_state_directory(folder, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(folder))
    folder.chmod(0o777)
    assert event_file(Path("events.jsonl")).detail == str(folder / "events.jsonl")


def test_an_event_file_in_a_folder_that_cannot_be_written(folder):
    folder.chmod(0o555)
    finding = event_file(folder / "events.jsonl")
    assert finding.state is State.PROBLEM
    assert str(folder) in finding.detail
    assert finding.remedy == f"give {folder} to the user who runs edge-sser, or set file.path to another place"


def test_an_event_file_that_is_a_folder(folder):
    folder.chmod(0o777)
    (folder / "events").mkdir()
    finding = event_file(folder / "events")
    assert finding.state is State.PROBLEM
    assert f"{folder / 'events'} is a directory" in finding.detail


def test_outputs_that_nobody_asked_for_are_fine(examine):
    status, found = examine(RECORDING)
    assert status == 0
    assert found["outbox"] == "fine     outbox      not needed without [mqtt]"
    assert found["event file"] == "fine     event file  no [file] in the settings"
    assert found["metrics"] == "fine     metrics     no [metrics] in the settings"
    assert found["history"].startswith("fine     history     no [history] in the settings")
    assert found["web page"].startswith("fine     web page    no [web] in the settings")


def test_a_history_that_can_be_written_and_one_that_is_another_file(examine, tmp_path):
    path = tmp_path / "kept" / "history.sqlite"
    status, found = examine(f'{RECORDING}\n[history]\npath = "{path}"')
    assert (status, found["history"]) == (0, f"fine     history     {path}, which listen will make")
    path.parent.mkdir()
    path.write_text("my notes, which are long enough to be read as the header of a file" * 3)
    status, found = examine(f'{RECORDING}\n[history]\npath = "{path}"')
    assert status == 1
    assert "this is no history file" in found["history"]
    path.unlink()
    path.mkdir()
    assert "history.path to another place" in examine(f'{RECORDING}\n[history]\npath = "{path}"')[1]["history"]


def test_a_page_for_other_machines_without_a_password(examine):
    require_package("uvicorn", "web")
    status, found = examine(f'{RECORDING}\n[web]\naddress = "0.0.0.0"')
    assert status == 1
    assert "needs a password" in found["web page"]


def test_the_port_of_the_page(examine):
    require_package("uvicorn", "web")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        assert "edge-sser web has it" in examine(f"{RECORDING}\n[web]\nport = {port}")[1]["web page"]
    assert "is free" in examine(f"{RECORDING}\n[web]\nport = {port}")[1]["web page"]


def test_a_page_that_cannot_be_opened_at_its_address(examine, tmp_path):
    require_package("uvicorn", "web")
    (tmp_path / "web-password").write_text("long enough\n")
    status, found = examine(f'{RECORDING}\n[web]\naddress = "192.0.2.1"')  # of documentation, never this machine's
    assert status == 1
    assert found["web page"].startswith("problem")
    assert "192.0.2.1:8321 cannot be opened: Cannot assign requested address" in found["web page"]
    assert "set web.address to an address of this machine" in found["web page"]


@pytest.mark.parametrize("own", [True, False])
def test_a_password_of_the_page_that_is_too_short(examine, tmp_path, own):
    require_package("uvicorn", "web")
    path = tmp_path / "web-password"
    path.write_text("short\n")
    key = f'password_file = "{path}"' if own else ""
    status, found = examine(f"{RECORDING}\n[web]\nport = {free_port()}\n{key}")
    assert status == 1
    assert f"web.password_file {path} must hold at least 8 characters" in found["web page"]
    path.write_text("long enough\n")
    assert "is free" in examine(f"{RECORDING}\n[web]\nport = {free_port()}\n{key}")[1]["web page"]


def test_a_password_of_the_service_that_this_user_may_not_read():
    require_package("uvicorn", "web")
    with folder_for_all() as folder:
        folder.chmod(0o755)
        (folder / "web-password").write_text("long enough\n")
        (folder / "web-password").chmod(0o600)
        settings = Settings(web=WebSettings(address="0.0.0.0", port=free_port()))
        context = CheckContext(settings, (), microphone_configured=False, settings_file=folder / "config.toml")
        with as_ordinary_user():
            finding = check_web(context)
    assert finding.state is State.WARNING
    assert finding.remedy.startswith("sudo edge-sser doctor")


def test_a_certificate_of_the_page_that_is_none(examine, tmp_path):
    require_package("uvicorn", "web")
    none = tmp_path / "none.pem"
    status, found = examine(f'{RECORDING}\n[web]\ncert_file = "{none}"\nkey_file = "{none}"')
    assert status == 1
    assert f"web.cert_file {none}" in found["web page"]


RELATIVE = f"""{RECORDING}
[metrics]
port = %d
token_file = "metrics-token"

[[notify]]
name = "hook"
url_file = "hook-url"
"""


def test_secrets_that_are_credentials_of_the_service_and_not_here(examine, tmp_path, monkeypatch):
    require_package("httpx", "notify")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    status, found = examine(RELATIVE % free_port())
    assert status == 0
    assert found["secrets"].startswith("fine")
    assert found["metrics"].startswith("skipped")
    assert found["notify"].startswith("skipped")
    assert "notify.url_file is a credential that is not here" in found["notify"]


@pytest.mark.parametrize("systemd", [True, False])
def test_secrets_that_are_credentials_of_the_service(examine, tmp_path, monkeypatch, systemd):
    require_package("httpx", "notify")
    folder = tmp_path
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    if systemd:
        folder = tmp_path / "credentials"
        folder.mkdir()
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    token, url = folder / "metrics-token", folder / "hook-url"
    token.write_text("secret")
    token.chmod(0o604)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url.write_text(f"http://127.0.0.1:{server.getsockname()[1]}/")
        url.chmod(0o600)
        found = examine(RELATIVE % free_port())[1]
    assert f"every user may read {token}" in found["secrets"]
    assert "is free" in found["metrics"]
    assert found["notify"].startswith("fine")
    token.chmod(0o600)
    assert examine(RELATIVE % free_port())[1]["secrets"] == f"fine     secrets     {token}"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_metrics_port_that_another_program_has(examine, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        require(probe.connect_ex((address, 9)) != errno.EADDRNOTAVAIL, f"{address} is not there: turn IPv6 on")
    with HttpServer(address, family) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        status, found = examine(f'{RECORDING}\n[metrics]\nport = {port}\naddress = "{address}"')
        server.shutdown()
    assert status == 1
    assert found["metrics"].startswith("problem")
    assert f"{address}:{port}: Address already in use: set metrics.port to a free one" in found["metrics"]
    assert examine(f'{RECORDING}\n[metrics]\nport = {port}\naddress = "{address}"')[1]["metrics"].startswith("fine")


class HttpServer(HTTPServer):
    """A web server of somebody else's."""

    def __init__(self, address, family):
        self.address_family = family
        super().__init__((address, 0), _Hello)


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        pass


def test_a_metrics_port_of_a_program_that_speaks_no_http(examine):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def speak():
            client, _ = server.accept()
            with client:
                client.sendall(b"220 mail\r\n")

        threading.Thread(target=speak, daemon=True).start()
        port = server.getsockname()[1]
        status, found = examine(f"{RECORDING}\n[metrics]\nport = {port}")
    assert status == 1
    assert found["metrics"].startswith("problem")


def test_a_metrics_port_that_the_running_edge_sser_has_is_fine(examine):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sink = MetricsSink(address="127.0.0.1", port=port)
    try:
        status, found = examine(f"{RECORDING}\n[metrics]\nport = {port}")
    finally:
        sink.close()
    assert status == 0
    assert f"http://127.0.0.1:{port}/metrics is served by the edge-sser that runs" in found["metrics"]


def test_a_guarded_port_that_the_running_edge_sser_has_is_fine(examine, tmp_path):
    token = tmp_path / "token"
    token.write_text("secret")
    cert, key = Authority(tmp_path / "ca").issue("metrics")
    port = free_port()
    text = f"""{RECORDING}
[metrics]
port = {port}
address = "0.0.0.0"
token_file = "{token}"
cert_file = "{cert}"
key_file = "{key}"
"""
    settings = MetricsSettings(port=port, address="0.0.0.0", token_file=token, cert_file=cert, key_file=key)
    sink = MetricsSink.of_settings(settings)
    try:
        assert f"https://127.0.0.1:{port}/metrics is served by the edge-sser" in examine(text)[1]["metrics"]
    finally:
        sink.close()
    assert f"https://127.0.0.1:{port}/metrics is free" in examine(text)[1]["metrics"]


def test_metrics_without_their_package(examine, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    status, found = examine(f"{RECORDING}\n[metrics]")
    assert status == 1
    assert 'pip install "edge-sser[metrics]"' in found["metrics"]
