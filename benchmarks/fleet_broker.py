"""Broker of the simulated fleet: settings, faults and resource usage of a mosquitto."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

START_SECONDS = 30.0  # timeout of the start, during which the broker reads its database
SPARE_FILES = 64  # open files of a process besides its connections: libraries, logs, pipes
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Persistence(str, Enum):
    """Persistence of mosquitto: never, every minute, or on every change."""

    NONE = "none"
    MINUTE = "minute"
    CHANGES = "changes"


_PERSISTENCE_LINES = {
    Persistence.NONE: ["persistence false"],
    Persistence.MINUTE: ["persistence true", "autosave_interval 60"],
    Persistence.CHANGES: ["persistence true", "autosave_on_changes true", "autosave_interval 1"],
}


class FleetBroker:
    """mosquitto on a free loopback port, with all its files in one folder.

    Args:
        folder: folder for its configuration, log and database.
        persistence: mode of persistence.
        queue: messages of QoS 1 that may wait for one subscriber; the broker drops further ones.
        nodelay: True to send small messages at once; otherwise TCP holds each until the one before is confirmed.
        tls: True for a second listener with TLS.

    Attributes:
        port: port without TLS.
        tls_port: port with TLS.
        ca_file: certificate of the authority; None without TLS.
    """

    def __init__(self, folder: Path, persistence: Persistence, *, queue: int, nodelay: bool, tls: bool) -> None:
        program = find_mosquitto()
        self.port, self.tls_port = _free_ports(2)
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
            *_PERSISTENCE_LINES[persistence],
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
        raise RuntimeError(f"mosquitto does not start: {self._log.read_text()[-500:]}")

    def kill(self) -> None:
        """Kills the broker, as a power cut would. Does nothing when it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Id of the running process."""
        if self._process is None:
            raise RuntimeError("mosquitto does not run")
        return self._process.pid


def find_mosquitto() -> str:
    """Returns the path of mosquitto.

    Raises:
        FileNotFoundError: mosquitto is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])  # Debian puts it there
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise FileNotFoundError("mosquitto not found: apt install mosquitto")
    return program


def _free_ports(count: int) -> list[int]:
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
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    # utime and stime in proc(5), in which the first value after the name has number 3
    return Usage((int(times[11]) + int(times[12])) / CLOCK_TICKS, int(counters["write_bytes"]) / 1e6)


def resident_mb(pid: int) -> float:
    """Returns the resident memory of a process, 10^6 bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files(pid: int) -> int:
    """Returns the number of open file descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))
