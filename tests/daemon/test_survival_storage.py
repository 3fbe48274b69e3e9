"""The disk under a running daemon fills up, becomes read-only, gets damaged: listening goes on, with one log line."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from components import require_programs
from daemon_process import Daemon
from mqtt_rig import Cable, eventually, free_port, gaps
from outbox_copy import is_drained, read_outbox, waiting_in
from preloaded_faults import Faults
from stressed_speech import EPISODE_TOPIC as TOPIC
from stressed_speech import feed_episodes, write_settings

DISK_BYTES = 2**22
IMPATIENT = {"edge_sser.sinks.mqtt.outbox.RETRY_SECONDS": 1.0, "edge_sser.daemon.loop.NOTE_SECONDS": 1.0}
Mend = Callable[[], object]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Returns the state directory, on a small disk of its own where the test may mount one."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "none", str(directory)]
    mounted = False
    with contextlib.suppress(FileNotFoundError):
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    yield directory
    if mounted:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(daemon: Daemon, state: Path) -> Mend:
    """Fills the state directory's disk, or limits the files of the daemon; returns the function that undoes it."""
    if not os.path.ismount(state):
        before = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (16_384, before[1]))
        return lambda: resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, before)
    ballast = state / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast.unlink


def make_read_only(faults: Faults, state: Path) -> Mend:
    faults.make_read_only(state)
    return faults.make_writable


def figure(port: int, name: str) -> float:
    """Returns a metric without labels, as Prometheus would scrape it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def outbox_lines(daemon: Daemon) -> list[str]:
    return [line for line in daemon.log if "outbox" in line]


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_disk_that_fails_under_a_daemon_is_logged_once_and_used_again(
    fault, state, tmp_path, start, broker, start_subscriber, sharp_model
):
    faults = Faults(tmp_path / "faults")
    subscriber = start_subscriber(broker.port, TOPIC)
    cable, port = Cable(broker.port), free_port()
    cable.shut()
    url = f"mqtt://127.0.0.1:{cable.port}"
    config = write_settings(tmp_path / "config.toml", url=url, more=f"[metrics]\nport = {port}\n")
    constants = None if fault == "full" else IMPATIENT  # the real waits, 10 s, once are enough
    daemon = start("--config", config, "--model", sharp_model, fed=True, constants=constants, **faults.environment)
    outbox = state / "outbox.db"
    feed_episodes(daemon, 2)
    eventually(lambda: waiting_in(outbox, TOPIC) == daemon.episode_lines(), "episodes are on disk")

    end = fill(daemon, state) if fault == "full" else make_read_only(faults, state)
    for _ in range(100):  # a full disk takes what fits into its last blocks
        feed_episodes(daemon, 1)
        if outbox_lines(daemon):
            break
    (line,) = outbox_lines(daemon)
    assert "events are kept in memory until it works again" in line
    feed_episodes(daemon, 3)
    kept = daemon.episode_lines()
    assert waiting_in(outbox, TOPIC) != kept
    eventually(lambda: figure(port, "edge_sser_outbox_depth") >= len(kept), "what is in memory counts")
    assert figure(port, "edge_sser_outbox_lost") == 0
    in_memory = "episodes are in memory only"
    eventually(lambda: in_memory in daemon.events("health")[-1]["detail"], "health says so")

    end()
    eventually(lambda: waiting_in(outbox, TOPIC) == kept, "all is on disk")
    assert outbox_lines(daemon)[1:] == [f"edge-sser: outbox {outbox} works again"]
    eventually(lambda: in_memory not in daemon.events("health")[-1]["detail"], "health takes it back")
    cable.admit()
    feed_episodes(daemon, 1)
    eventually(lambda: subscriber.payloads(TOPIC) == daemon.episode_lines(), "all arrives, in order")
    assert daemon.stop() == 0
    assert gaps(subscriber.received) == []
    assert read_outbox(outbox).lost == 0
    assert len(outbox_lines(daemon)) == 2
    cable.close()


def as_one_who_minds_permissions() -> list[str]:
    """Returns the prefix that starts a program without the privilege to ignore file modes, as root does."""
    if os.geteuid() != 0:
        return []
    require_programs("setpriv", packages="util-linux")
    without = "-dac_override,-dac_read_search,-fowner"
    return ["setpriv", f"--inh-caps={without}", f"--bounding-set={without}"]


def test_an_outbox_that_is_read_only_at_the_start_is_delivered_when_it_can_be_written(
    start, broker, start_subscriber, sharp_model, tmp_path
):
    subscriber = start_subscriber(broker.port, TOPIC)
    cable = Cable(broker.port)
    cable.shut()
    config = write_settings(tmp_path / "config.toml", url=f"mqtt://127.0.0.1:{cable.port}")
    outbox = tmp_path / "state" / "outbox.db"
    first = start("--config", config, "--model", sharp_model, fed=True)
    feed_episodes(first, 2)
    eventually(lambda: waiting_in(outbox, TOPIC) == first.episode_lines(), "episodes are on disk")
    assert first.stop() == 0

    outbox.chmod(0o400)
    cable.admit()
    second = start(
        "--config", config, "--model", sharp_model,
        fed=True, constants=IMPATIENT, prefix=as_one_who_minds_permissions(),
    )  # fmt: skip
    feed_episodes(second, 2)
    eventually(lambda: subscriber.payloads(TOPIC) == second.episode_lines(), "what is in memory arrives")
    (line,) = outbox_lines(second)
    assert "Permission denied; events are kept in memory" in line
    outbox.chmod(0o600)
    eventually(lambda: subscriber.payloads(TOPIC)[6:] == first.episode_lines(), "what is in the file follows")
    feed_episodes(second, 1)
    eventually(lambda: subscriber.payloads(TOPIC)[12:] == second.episode_lines()[6:], "the next episode arrives")
    eventually(lambda: is_drained(outbox), "what was delivered is forgotten")
    assert second.stop() == 0
    assert outbox_lines(second)[1:] == [f"edge-sser: outbox {outbox} works again"]
    cable.close()


def rot_one_row(path: Path) -> None:
    content = path.read_bytes()
    at = content.index(b'"phase":"update"')
    path.write_bytes(content[:at] + b'"phase":"updato"' + content[at + 16 :])


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


@pytest.mark.parametrize(("damage", "lost"), [(rot_one_row, 1), (cut_in_half, None), (overwrite, 12)])
def test_an_outbox_damaged_between_runs_gives_its_readable_part(
    damage, lost, start, broker, start_subscriber, sharp_model, tmp_path
):
    subscriber = start_subscriber(broker.port, TOPIC)
    cable = Cable(broker.port)
    cable.shut()
    config = write_settings(tmp_path / "config.toml", url=f"mqtt://127.0.0.1:{cable.port}")
    outbox = tmp_path / "state" / "outbox.db"
    first = start("--config", config, "--model", sharp_model, fed=True)
    feed_episodes(first, 4)
    eventually(lambda: waiting_in(outbox, TOPIC) == first.episode_lines(), "episodes are on disk")
    assert first.stop() == 0
    damage(outbox)

    cable.admit()
    second = start("--config", config, "--model", sharp_model, fed=True)
    feed_episodes(second, 2)
    eventually(lambda: second.episode_lines()[-1] in subscriber.payloads(TOPIC), "the last")
    assert second.stop() == 0
    (line,) = [line for line in outbox_lines(second) if "was damaged" in line]
    assert outbox.with_name("outbox.db.damaged").exists()
    arrived = subscriber.payloads(TOPIC)
    assert arrived[-6:] == second.episode_lines()
    saved = arrived[:-6]
    assert saved == [line for line in first.episode_lines() if line in saved], "what was put, in order"
    logged = re.search(r"(\d+) events saved", line)
    assert logged is not None
    assert int(logged[1]) >= len(saved)  # health is among them
    if lost is not None:
        assert len(saved) == 12 - lost
    cable.close()


@pytest.mark.parametrize("seed", range(3))
def test_an_outbox_damaged_under_a_daemon_stops_neither_this_run_nor_the_next(
    seed, start, broker, start_subscriber, sharp_model, tmp_path
):
    chance = random.Random(seed)
    subscriber = start_subscriber(broker.port, TOPIC)
    cable = Cable(broker.port)
    cable.shut()
    config = write_settings(tmp_path / "config.toml", url=f"mqtt://127.0.0.1:{cable.port}")
    outbox = tmp_path / "state" / "outbox.db"
    first = start("--config", config, "--model", sharp_model, fed=True)
    feed_episodes(first, 2)
    eventually(lambda: waiting_in(outbox, TOPIC) == first.episode_lines(), "episodes are on disk")
    for path in (outbox, outbox.with_name("outbox.db-wal")):
        with path.open("r+b") as file:
            for _ in range(20):
                file.seek(chance.randrange(path.stat().st_size))
                file.write(chance.randbytes(64))
    feed_episodes(first, 2)
    cable.admit()
    eventually(lambda: first.episode_lines()[-1] in subscriber.payloads(TOPIC), "what came after the damage arrives")
    arrived = subscriber.payloads(TOPIC)
    assert arrived == [line for line in first.episode_lines() if line in arrived], "what was put, in order"
    assert arrived[-6:] == first.episode_lines()[-6:]
    first.kill()

    second = start("--config", config, "--model", sharp_model, fed=True)
    feed_episodes(second, 2)
    eventually(lambda: second.episode_lines()[-1] in subscriber.payloads(TOPIC), "the last")
    assert second.stop() == 0
    assert subscriber.payloads(TOPIC)[-6:] == second.episode_lines()
    assert set(subscriber.payloads(TOPIC)) <= {*first.episode_lines(), *second.episode_lines()}
    cable.close()
