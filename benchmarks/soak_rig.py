"""What `soak.py` drives: the daemon with all that runs for long, a broker, and a day of sound. Linux only (/proc)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from numpy.typing import NDArray

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.commands.bench_processes import COMMAND, cpu_seconds
from edge_sser.pipeline.features import FEATURES
from edge_sser.settings.schema import Settings

MINUTE_SAMPLES = 60 * SAMPLE_RATE
PIECE_BYTES = 10 * 2 * SAMPLE_RATE  # ten seconds
HOP_SAMPLES = round(Settings().window.hop_seconds * SAMPLE_RATE)
KINDS = ("speech",) * 6 + ("noise",) * 2 + ("silence",) * 2  # of a minute, drawn by chance
NOISE_DBFS = -60.0
LIMIT_SECONDS = 120.0  # for anything that must happen; reached only when something is wrong
REST_SECONDS = 0.05  # without a thread that runs or waits for the disk: the process has come to rest

SETTINGS = """
node = "soak"

[[source]]
device = "-"

[rolling]
dwell_seconds = 1.0
elevated = {elevated}
high = {high}
hysteresis = 0.04

[episode]
update_seconds = {update_seconds}
silence_seconds = 5.0

[mqtt]
url = "mqtt://127.0.0.1:{port}"
retry_max_seconds = 1.0
outbox_bytes = {outbox_bytes}

[file]
path = "{folder}/events.jsonl"
max_bytes = 1000000
keep = 2

[metrics]
port = {metrics_port}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The process at rest.

    Attributes:
        audio_minutes: pushed so far.
        rss_kib: resident memory.
        anonymous_kib: the part of it that is no file's.
        fds: open file descriptors.
        threads: of the process.
    """

    audio_minutes: int
    rss_kib: int
    anonymous_kib: int
    fds: int
    threads: int


class Daemon:
    """`edge-sser listen` as a process, with what it says counted.

    Attributes:
        counts: events of each type, each with its phase or state as well, and `scored` readings.
        readings: so far.
        faults: readings that were not the next one, or lacked audio.
        model: as the readings name it.
    """

    def __init__(self, config: Path, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.readings = 0
        self._samples = 0
        self.faults: list[str] = []
        self.model = ""
        self._log = folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "listen", "--config", str(config), "--format", "jsonl"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "STATE_DIRECTORY": str(folder / "state")},
            )
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        """What it said on standard error."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            with self._changed:
                self._count(event)
                self._changed.notify()

    def _count(self, event: dict[str, Any]) -> None:
        self.counts[event["type"]] += 1
        if event["type"] != "reading":
            self.counts[f"{event['type']} {event.get('phase') or event['state']}"] += 1
            return
        if event["id"] != f"soak/stdin/{self.readings:06d}" or event["dropped_s"]:
            self.faults.append(f"reading {self.readings} is {event['id']}, {event['dropped_s']} s dropped")
        self.readings += 1
        self.counts["scored"] += event["stress"] is not None
        self.model = event["model"]

    def push(self, pcm: bytes) -> None:
        """Writes 16-bit audio a piece at a time, and waits for the readings of each: its output never fills the pipe.

        Raises:
            RuntimeError: they do not come.
        """
        assert self._process.stdin is not None
        for start in range(0, len(pcm), PIECE_BYTES):
            piece = pcm[start : start + PIECE_BYTES]
            with suppress(BrokenPipeError):
                self._process.stdin.write(piece)
                self._process.stdin.flush()
            self._samples += len(piece) // 2
            due = expected_readings(self._samples)
            with self._changed:
                self._changed.wait_for(lambda due=due: self.readings >= due, LIMIT_SECONDS)
            if self.readings < due:
                raise RuntimeError(f"{self.readings} of {due} readings came: {self.log or 'nothing was said'}")

    def look(self, audio_minutes: int) -> Sample:
        """Lets it come to rest, and looks."""
        pid = self._process.pid
        eventually(lambda: _rests(pid), "the process comes to rest")
        lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines())
        status = {words[0]: words[1] for words in lines if len(words) > 1}
        return Sample(
            audio_minutes,
            rss_kib=int(status["VmRSS:"]),
            anonymous_kib=int(status["RssAnon:"]),
            fds=len(os.listdir(f"/proc/{pid}/fd")),
            threads=int(status["Threads:"]),
        )

    def end(self) -> int:
        """Ends the audio; returns the exit status."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        status = self._process.wait(LIMIT_SECONDS)
        self._reader.join()
        return status

    def kill(self) -> None:
        """Ends it in any case."""
        self._process.kill()
        self._process.wait()


def _rests(pid: int) -> bool:
    """Whether every thread sleeps, and has used no CPU meanwhile."""
    before = cpu_seconds(pid)
    for pause in (REST_SECONDS, 0.0):
        for task in Path(f"/proc/{pid}/task").iterdir():
            state = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
            if state != "S":
                return False
        time.sleep(pause)
    return cpu_seconds(pid) == before


def expected_readings(samples: int) -> int:
    """How many readings so much audio gives: one with the first full window, then one a hop."""
    return max(0, (samples - FEATURES.window_samples) // HOP_SAMPLES + 1)


def minute(number: int, speech: NDArray[np.int16]) -> bytes:
    """One minute of 16 kHz mono PCM: speech at some gain, faint noise or digital silence. The same every time."""
    chance = np.random.default_rng(number)
    kind = chance.choice(KINDS)
    if kind == "silence":
        return bytes(2 * MINUTE_SAMPLES)
    if kind == "noise":
        sound = chance.standard_normal(MINUTE_SAMPLES) * 10.0 ** (NOISE_DBFS / 20.0) * 32_768.0
    else:
        sound = np.resize(np.roll(speech, chance.integers(speech.size)), MINUTE_SAMPLES) * chance.uniform(0.25, 1.0)
    return sound.astype("<i2").tobytes()


@contextmanager
def mosquitto(folder: Path, port: int) -> Iterator[Counter[str]]:
    """Runs a broker, and counts what it passes on to a subscriber, by the last level of the topic."""
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("mosquitto", path=search)
    if program is None:
        raise SystemExit("mosquitto not found: apt install mosquitto, or use --broker none")
    user = "user root\n" if os.geteuid() == 0 else ""
    config = folder / "mosquitto.conf"
    config.write_text(f"{user}listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 1000000\n")
    passed: Counter[str] = Counter()
    subscribed = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _data, message: passed.update([message.topic.rpartition("/")[2]])
    with (folder / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
    try:
        eventually(lambda: _accepts(port), "mosquitto starts")
        client.connect("127.0.0.1", port)
        client.subscribe("edge-sser/#", 1)
        client.loop_start()
        eventually(subscribed.is_set, "the subscriber is there")
        yield passed
    finally:
        client.disconnect()
        client.loop_stop()
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Waits until a condition holds.

    Raises:
        RuntimeError: it never does.
    """
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"did not happen: {what}")
        time.sleep(0.02)


def scrape(port: int) -> dict[str, float]:
    """The daemon's figures as Prometheus would get them, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}
