"""Parts of `soak.py`: the daemon with all its outputs, and a day of sound. Linux only (/proc)."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from processes import COMMAND, cpu_seconds

from edge_sser.audio.source import SAMPLE_RATE
from edge_sser.pipeline.features import FEATURES
from edge_sser.settings.schema import Settings

MINUTE_SAMPLES = 60 * SAMPLE_RATE
PIECE_BYTES = 10 * 2 * SAMPLE_RATE  # ten seconds
HOP_SAMPLES = round(Settings().window.hop_seconds * SAMPLE_RATE)
KINDS = ("speech",) * 6 + ("noise",) * 2 + ("silence",) * 2  # of a minute, drawn at random
NOISE_DBFS = -60.0
TIMEOUT_SECONDS = 120.0  # reached only when something is wrong
IDLE_SECONDS = 0.05  # without a thread that runs or waits for the disk

SETTINGS = """
node = "soak"

[[source]]
device = "-"

[rolling]
time_constant_seconds = 8.0
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
    """Resources of the idle process.

    Attributes:
        rss_kib: resident memory, KiB.
        anonymous_kib: part of it that is not backed by files, KiB.
    """

    audio_minutes: int
    rss_kib: int
    anonymous_kib: int
    fds: int
    threads: int


class Daemon:
    """Process of `edge-sser listen`, with counts of its events.

    Attributes:
        counts: events by type, and by type with phase or state, and `scored` readings.
        unexpected: readings out of order, or with dropped audio.
    """

    def __init__(self, config: Path, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.readings = 0
        self.first: int | None = None  # number of the first reading
        self._samples = 0
        self.unexpected: list[str] = []
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
        """Text of standard error."""
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
        number = int(event["id"].rpartition("/")[2])
        self.first = number - self.readings if self.first is None else self.first
        if event["id"] != f"soak/stdin/{self.first + self.readings:06d}" or event["dropped_s"]:
            self.unexpected.append(f"reading {self.readings} is {event['id']}, {event['dropped_s']} s dropped")
        self.readings += 1
        self.counts["scored"] += event["stress"] is not None
        self.model = event["model"]

    def push(self, pcm: bytes) -> None:
        """Writes 16-bit audio a piece at a time, and waits for the readings of each, so that the pipe never fills.

        Raises:
            RuntimeError: readings are missing.
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
                self._changed.wait_for(lambda due=due: self.readings >= due, TIMEOUT_SECONDS)
            if self.readings < due:
                raise RuntimeError(f"{self.readings} of {due} readings came: {self.log or 'the log is empty'}")

    def sample(self, audio_minutes: int) -> Sample:
        """Waits until the process is idle, and samples its resources."""
        pid = self._process.pid
        wait_until(lambda: _is_idle(pid), "the process becomes idle")
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
        status = self._process.wait(TIMEOUT_SECONDS)
        self._reader.join()
        return status

    def kill(self) -> None:
        """Kills the process."""
        self._process.kill()
        self._process.wait()


def _is_idle(pid: int) -> bool:
    """Returns True when every thread sleeps, and has used no CPU for a moment."""
    before = cpu_seconds(pid)
    for pause in (IDLE_SECONDS, 0.0):
        for task in Path(f"/proc/{pid}/task").iterdir():
            state = (task / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
            if state != "S":
                return False
        time.sleep(pause)
    return cpu_seconds(pid) == before


def expected_readings(samples: int) -> int:
    """Returns the number of readings of so much audio: one with the first full window, then one per hop."""
    return max(0, (samples - FEATURES.window_samples) // HOP_SAMPLES + 1)


def minute(number: int, speech: NDArray[np.int16]) -> bytes:
    """Returns one minute of 16 kHz mono PCM: speech at some gain, faint noise or digital silence. Deterministic."""
    random = np.random.default_rng(number)
    kind = random.choice(KINDS)
    if kind == "silence":
        return bytes(2 * MINUTE_SAMPLES)
    if kind == "noise":
        sound = random.standard_normal(MINUTE_SAMPLES) * 10.0 ** (NOISE_DBFS / 20.0) * 32_768.0
    else:
        sound = np.resize(np.roll(speech, random.integers(speech.size)), MINUTE_SAMPLES) * random.uniform(0.25, 1.0)
    return sound.astype("<i2").tobytes()


def wait_until(condition: Callable[[], bool], event: str) -> None:
    """Waits until a condition holds.

    Raises:
        RuntimeError: it never holds.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"did not happen: {event}")
        time.sleep(0.02)


def scrape(port: int) -> dict[str, float]:
    """Returns the daemon's metrics by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}
