"""Notifications, journal lines and metrics of a running daemon."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import urllib.request

import pytest
from mqtt_rig import eventually, free_port


@pytest.fixture
def manager(tmp_path):
    """The receiving end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


def messages(manager, received):
    """Receives new messages, and returns all so far."""
    while True:
        try:
            received.append(manager.recv(65_536).decode())
        except BlockingIOError:
            return received


def test_a_service_manager_is_notified_of_ready_progress_levels_and_the_end(start, manager, tmp_path, speech):
    received: list[str] = []
    daemon = start("--source", speech, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000")
    eventually(
        lambda: any("STATUS=demo: " in each and "no speech" not in each for each in messages(manager, received)), ""
    )
    eventually(lambda: messages(manager, received).count("WATCHDOG=1") >= 3, "pings")
    assert daemon.stop() == 0
    messages(manager, received)
    assert received[0] == "READY=1\nSTATUS=demo: no speech yet"
    assert received.count("STOPPING=1") == 1
    assert received[-1] == "STOPPING=1"
    levels = [each for each in received if each.startswith("STATUS=")]
    assert all(before != after for before, after in itertools.pairwise(levels))


@pytest.mark.mic
def test_a_paused_daemon_is_ready_and_pings_the_watchdog(start, manager, tmp_path, virtual_microphone):
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "paused").touch()
    received: list[str] = []
    daemon = start(
        "--mqtt", f"mqtt://127.0.0.1:{free_port()}",
        NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000",
    )  # fmt: skip
    eventually(lambda: messages(manager, received).count("WATCHDOG=1") >= 3, "pings")
    assert received[0] == "READY=1\nSTATUS=mic: paused"
    assert not virtual_microphone.is_recorded()
    assert daemon.stop() == 0


def test_metrics_are_served_during_listening(start, tmp_path, speech):
    port = free_port()
    config = tmp_path / "config.toml"
    config.write_text(f'[metrics]\nport = {port}\n[mqtt]\nurl = "mqtt://127.0.0.1:{free_port()}"\n')
    daemon = start("--source", speech, "--config", config)
    daemon.await_readings(2)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        text = response.read().decode()
    assert 'edge_sser_windows_total{source="demo"} ' in text
    assert "edge_sser_listening 1.0" in text
    assert "edge_sser_mqtt_connected 0.0" in text
    assert "edge_sser_outbox_depth " in text
    assert daemon.stop() == 0


def test_journal_lines_carry_their_priority(tmp_path, model):
    with (tmp_path / "journal").open("w+b") as journal:
        status = os.fstat(journal.fileno())
        done = subprocess.run(
            [sys.executable, "-m", "edge_sser.cli", "listen", "--model", model, "--source", "gone.wav",
             "--log-level", "info"],
            stdout=subprocess.PIPE, stderr=journal, check=False,
            env={**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
        )  # fmt: skip
        journal.seek(0)
        *reported, error = journal.read().decode().splitlines()
    assert done.returncode == 1
    assert reported[0].startswith("<6>edge-sser: tiny@")
    assert all(line.startswith("<6>edge-sser: ") for line in reported)
    assert error.startswith("<3>edge-sser: error: ")
