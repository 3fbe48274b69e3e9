"""Settings read again on SIGHUP, by the running program."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import pytest
from mqtt_rig import eventually, free_port

AVERAGE = "[rolling]\ntime_constant_seconds = 8.0\n"


@pytest.fixture
def hang_up(start, tmp_path, speech):
    """A daemon that loops a recording, the text of its settings file, and SIGHUP after a change of it."""

    class HangUp:
        def __init__(self, text: str, **environment: str) -> None:
            self.path = tmp_path / "config.toml"
            self.path.write_text(text)
            self.daemon = start("--source", speech, "--config", self.path, "--log-level", "info", **environment)
            self.daemon.await_readings(1)

        def read_again(self, text: str, said: str) -> None:
            self.path.write_text(text)
            before = len(self.daemon.log)
            os.kill(self.daemon.pid, signal.SIGHUP)
            eventually(lambda: any(said in line for line in self.daemon.log[before:]), f"{said}: {self.daemon.log}")

    return HangUp


def scrape(port: int) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            return response.read().decode()
    except OSError:
        return None


def test_thresholds_change_during_listening(hang_up):
    calm = f"{AVERAGE}elevated = 0.998\nhigh = 0.999\ndwell_seconds = 0.0\n"
    running = hang_up(calm)
    eventually(lambda: any(each["level"] == "low" for each in running.daemon.events("reading")), "speech")
    running.read_again(f"{AVERAGE}elevated = 0.09\nhigh = 0.999\ndwell_seconds = 0.0\n", "settings read again")
    eventually(lambda: any(each["phase"] == "start" for each in running.daemon.events("episode")), "an episode")
    running.read_again(calm, "settings read again")
    eventually(lambda: any(each["phase"] == "end" for each in running.daemon.events("episode")), "its end")
    readings = running.daemon.events("reading")
    assert [each["end_s"] for each in readings] == [3.0 + 0.5 * number for number in range(len(readings))]
    assert running.daemon.stop() == 0


def test_outputs_change_during_listening_without_losing_an_episode(hang_up, broker, start_subscriber, tmp_path):
    port, events = free_port(), tmp_path / "events.jsonl"
    lively = f"{AVERAGE}elevated = 0.09\nhigh = 0.999\ndwell_seconds = 0.0\n[episode]\nupdate_seconds = 0.1\n"
    mqtt = f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\ndiscovery = false\n'
    subscriber = start_subscriber(broker.port)
    running = hang_up(lively + mqtt)
    eventually(lambda: len(running.daemon.events("episode")) >= 2, "episodes")
    running.read_again(
        lively + mqtt + f'client_id = "other"\n[file]\npath = "{events}"\n[metrics]\nport = {port}\n',
        "settings read again",
    )
    eventually(lambda: "edge_sser_info{" in (scrape(port) or ""), "metrics")
    running.daemon.await_readings(2)
    running.read_again(lively + mqtt, "settings read again")
    assert scrape(port) is None
    written = events.read_bytes()
    running.daemon.await_readings(3)
    assert running.daemon.stop() == 0
    assert events.read_bytes() == written
    assert written.splitlines()[1:]
    assert set(written.splitlines()[1:]) <= set(running.daemon.lines)
    said = [line for line in running.daemon.lines if b'"type":"episode"' in line]
    eventually(lambda: said[-1] in [received.payload for received in subscriber.episodes()], "the last episode")
    assert list(dict.fromkeys(received.payload for received in subscriber.episodes())) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[rolling]\nelevated = 2\n", "rolling.elevated"),
        ("[rolling", "not valid TOML"),
        ("[rolling]\nhysteresis = 0.9\n", "rolling.hysteresis is 0.9"),
        ('[file]\npath = "/proc/nowhere/events"\n', "cannot be opened"),
    ],
)
def test_wrong_settings_are_refused_and_those_before_stay(hang_up, tmp_path, text, said):
    events = tmp_path / "events.jsonl"
    running = hang_up(f'[file]\npath = "{events}"\n')
    running.read_again(text, "settings refused, those before stay in effect: ")
    assert any(said in line for line in running.daemon.log)
    size = events.stat().st_size
    running.daemon.await_readings(2)
    eventually(lambda: events.stat().st_size > size, "the file of before goes on")
    assert running.daemon.stop() == 0


def test_an_output_that_cannot_be_opened_undoes_the_other_changes(hang_up, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        events, other = tmp_path / "events.jsonl", tmp_path / "other.jsonl"
        running = hang_up(f'[file]\npath = "{events}"\n')
        running.read_again(
            f'[file]\npath = "{other}"\n[metrics]\nport = {busy.getsockname()[1]}\n[rolling]\nelevated = 0.01\n'
            "hysteresis = 0.0\ndwell_seconds = 0.0\n",
            "metrics cannot be served",
        )
    running.daemon.await_readings(3)
    assert running.daemon.stop() == 0
    own = set(running.daemon.lines)
    assert set(events.read_bytes().splitlines()) >= own - set(other.read_bytes().splitlines())
    assert all(each["level"] in (None, "low") for each in running.daemon.events("reading")[:-1])


def test_a_broker_that_cannot_be_used_is_refused_and_no_episode_is_lost_meanwhile(
    hang_up, broker, start_subscriber, tmp_path
):
    lively = f"{AVERAGE}elevated = 0.09\nhigh = 0.999\ndwell_seconds = 0.0\n[episode]\nupdate_seconds = 0.1\n"
    mqtt = f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\ndiscovery = false\n'
    subscriber = start_subscriber(broker.port)
    running = hang_up(lively + mqtt)
    eventually(lambda: len(running.daemon.events("episode")) >= 2, "episodes")
    running.read_again(lively + mqtt + f'password_file = "{tmp_path}/none"\n', "cannot be read")
    running.daemon.await_readings(3)
    assert running.daemon.stop() == 0
    said = [line for line in running.daemon.lines if b'"type":"episode"' in line]
    eventually(lambda: said[-1] in [received.payload for received in subscriber.episodes()], "the last episode")
    assert list(dict.fromkeys(received.payload for received in subscriber.episodes())) == said


def test_an_output_that_is_added_gets_the_health_of_the_sources(hang_up, broker, start_subscriber):
    subscriber = start_subscriber(broker.port)
    running = hang_up("")
    running.read_again(f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n', "settings read again")
    eventually(lambda: subscriber.on("edge-sser/cab12/demo/health"), "health")
    assert running.daemon.stop() == 0


def test_a_microphone_that_is_missing_at_the_start_is_published(start, broker, start_subscriber):
    subscriber = start_subscriber(broker.port)
    daemon = start("--source", "mic:nothere", "--mqtt", f"mqtt://127.0.0.1:{broker.port}")
    assert daemon.wait() == 1
    (health,) = eventually(lambda: subscriber.on("edge-sser/cab12/nothere/health"), "health")
    assert health.json["state"] == "missing"
    assert daemon.log[-1].startswith("edge-sser: error: ")


def test_changes_that_need_a_restart_are_named(hang_up):
    running = hang_up("")
    running.read_again("[window]\nhop_seconds = 1.0\n[gate]\nfloor_dbfs = -50.0\n", "changed only by a restart")
    assert any("gate, window: changed only by a restart" in line for line in running.daemon.log)
    assert running.daemon.stop() == 0


def test_the_service_manager_is_notified_of_a_reload(hang_up, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(30.0)
        running = hang_up("", NOTIFY_SOCKET=str(tmp_path / "notify"))
        running.read_again("[rolling]\nelevated = 0.5\n", "settings read again")
        received = [receiver.recv(65_536).decode()]
        while received.count("RELOADING=1") == 0:
            received += receiver.recv(65_536).decode().splitlines()[:1]
        while not received[-1].startswith("READY=1"):
            received += receiver.recv(65_536).decode().splitlines()[:1]
    assert running.daemon.stop() == 0


def test_without_a_settings_file_sighup_ends_listening_properly(start, speech):
    daemon = start("--source", speech)
    daemon.await_readings(1)
    os.kill(daemon.pid, signal.SIGHUP)
    assert daemon.wait() == 0
    assert [each["state"] for each in daemon.events("status")] == ["online", "stopped"]


def test_a_terminal_that_is_closed_ends_listening_properly(tmp_path: Path, model: str, speech: Path):
    config, events = tmp_path / "config.toml", tmp_path / "events.jsonl"
    config.write_text(f'[file]\npath = "{events}"\n')
    mine, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_sser.cli", "listen", "--model", model, "--source", str(speech),
         "--config", str(config)],
        stdin=its, stdout=its, stderr=its, start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(its), os.O_RDWR)),
    )  # fmt: skip
    os.close(its)
    eventually(lambda: events.exists() and b'"reading"' in events.read_bytes(), "readings")
    drain = threading.Thread(target=lambda: os.read(mine, 1 << 20))
    drain.start()
    drain.join()
    os.close(mine)
    assert process.wait(60) == 0
    assert b'"stopped"' in events.read_bytes().splitlines()[-1]
