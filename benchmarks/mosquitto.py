"""mosquitto for benchmarks: settings, faults and resource usage, and a subscriber. Linux only (/proc)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from processes import cpu_seconds

START_SECONDS = 30.0  # timeout of the start, during which the broker reads its database
SYSTEM_PROGRAMS = "/usr/sbin:/usr/local/sbin"  # may hold a broker, and are not on a user's PATH


# Lines of the configuration, by the moment at which mosquitto writes its database.
PERSISTENCE = {
    "none": ["persistence false"],
    "minute": ["persistence true", "autosave_interval 60"],
    "changes": ["persistence true", "autosave_on_changes true", "autosave_interval 1"],
}


class Mosquitto:
    """mosquitto on a free loopback port, with all its files in one folder. Runs while a `with` block runs.

    Args:
        folder: empty folder.
        persistence: key of `PERSISTENCE`.
        queue: messages of QoS 1 that may wait for one subscriber; the broker drops further ones.
        nodelay: True to send small messages at once; otherwise TCP holds each until the one before is confirmed.
        tls: True for a second listener with TLS.

    Attributes:
        port: port without TLS.
        ca_file: certificate of the authority; None without TLS.
    """

    def __init__(
        self,
        folder: Path,
        persistence: str = "none",
        *,
        queue: int = 1000,
        nodelay: bool = False,
        tls: bool = False,
    ) -> None:
        program = find_mosquitto()
        self.port, self.tls_port = free_ports(2)
        self.ca_file = _make_certificate(folder) if tls else None
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        self._log = folder / "mosquitto.log"
        lines = [
            *(["user root"] if os.geteuid() == 0 else []),  # otherwise it could not write into the folder
            f"listener {self.port} 127.0.0.1",
            *([f"listener {self.tls_port} 127.0.0.1"] if tls else []),
            *([f"certfile {self.ca_file}", f"keyfile {folder / 'key.pem'}"] if tls else []),
            "allow_anonymous true",
            "sys_interval 1",
            f"set_tcp_nodelay {str(nodelay).lower()}",
            f"max_queued_messages {queue}",
            f"persistence_location {folder}/",
            *PERSISTENCE[persistence],
        ]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Starts the broker and waits until it answers.

        Returns:
            Time of the first answer, monotonic seconds.

        Raises:
            RuntimeError: the broker does not answer.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return time.monotonic()
            time.sleep(0.002)
        self.kill()
        raise RuntimeError(f"mosquitto does not start: {self._log.read_text()[-500:]}")

    def kill(self) -> None:
        """Kills the broker, as a power cut would. Does nothing when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Id of the running process."""
        if self._process is None:
            raise RuntimeError("mosquitto does not run")
        return self._process.pid


@contextlib.contextmanager
def subscriber(port: int, topic: str, on_message: Callable[[paho.MQTTMessage], None]) -> Iterator[None]:
    """Calls `on_message` in a thread for every message of a topic, while the block runs.

    Raises:
        RuntimeError: the broker does not answer.
    """
    subscribed = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.on_connect = lambda *_: client.subscribe(topic, 1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _data, message: on_message(message)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        if not subscribed.wait(START_SECONDS):
            raise RuntimeError("the broker did not answer: run the benchmark again on an idle machine")
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def find_program(name: str) -> str | None:
    """Returns the path of a program; None when it is not installed."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), SYSTEM_PROGRAMS)))


def find_mosquitto() -> str:
    """Returns the path of mosquitto.

    Raises:
        SystemExit: mosquitto is not installed.
    """
    program = find_program("mosquitto")
    if program is None:
        raise SystemExit("mosquitto not found: apt install mosquitto")
    return program


def free_ports(count: int) -> list[int]:
    """Returns different free ports."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _make_certificate(folder: Path) -> Path:
    """Writes a self-signed certificate for 127.0.0.1 on the curve P-256, and its key in key.pem."""
    certificate = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=fleet", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", folder / "key.pem", "-out", certificate], check=True, capture_output=True)
    return certificate


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources that a process has used since its start.

    Attributes:
        cpu_seconds: CPU time in user and kernel mode.
        disk_mb: data sent to the storage layer, 10^6 bytes. Files in memory (tmpfs) do not count.
    """

    cpu_seconds: float
    disk_mb: float


def measure_usage(pid: int) -> Usage:
    """Returns the resources that a process has used so far."""
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return Usage(cpu_seconds(pid), int(counters["write_bytes"]) / 1e6)
