"""A mosquitto for the simulated fleet: its settings, its faults, and what it costs."""

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

START_SECONDS = 30.0  # for a broker to answer, which reads its database first
SPARE_FILES = 64  # of a process beyond its connections: libraries, logs, pipes
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Persistence(str, Enum):
    """What mosquitto writes to disk, and when."""

    NONE = "none"
    MINUTE = "minute"
    CHANGES = "changes"


_PERSISTENCE_LINES = {
    Persistence.NONE: ["persistence false"],
    Persistence.MINUTE: ["persistence true", "autosave_interval 60"],
    Persistence.CHANGES: ["persistence true", "autosave_on_changes true", "autosave_interval 1"],
}


class FleetBroker:
    """mosquitto on a free loopback port, with everything that it writes in one folder.

    Args:
        folder: for its configuration, log and database.
        persistence: what it keeps.
        queue: messages of QoS 1 that may wait for one subscriber; it drops what comes beyond that.
        nodelay: whether small messages are sent at once. Else TCP holds each until the one before is confirmed.
        tls: whether there is a second listener, with TLS.

    Attributes:
        port: without TLS.
        tls_port: with TLS.
        ca_file: who signed its certificate; None without TLS.
    """

    def __init__(self, folder: Path, persistence: Persistence, *, queue: int, nodelay: bool, tls: bool) -> None:
        program = find_mosquitto()
        self.port, self.tls_port = _free_ports(2)
        self.ca_file = _make_certificate(folder) if tls else None
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        self._log = folder / "mosquitto.log"
        lines = [
            *(["user root"] if os.geteuid() == 0 else []),  # else it could not write into the folder
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
        """Starts it and waits until it answers.

        Returns:
            When it did, in monotonic seconds.

        Raises:
            RuntimeError: it does not.
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
        """As a power cut would. Does nothing when it does not run."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        if self._process is None:
            raise RuntimeError("mosquitto does not run")
        return self._process.pid


def find_mosquitto() -> str:
    """The program.

    Raises:
        FileNotFoundError: it is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])  # Debian puts it there
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise FileNotFoundError("mosquitto not found: apt install mosquitto")
    return program


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 on the curve P-256, which vouches for itself, with its key in key.pem."""
    certificate = folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=fleet", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", folder / "key.pem", "-out", certificate], check=True, capture_output=True)
    return certificate


@dataclass(frozen=True, slots=True)
class Spent:
    """What a process has used since it began.

    Attributes:
        cpu_seconds: in user and kernel mode.
        disk_mb: sent to the storage layer, 10^6 bytes. A file in memory (tmpfs) does not count.
    """

    cpu_seconds: float
    disk_mb: float


def spent(pid: int) -> Spent:
    """What a process has used so far."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    counters = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    # utime and stime in proc(5), where the first value behind the name is number 3
    return Spent((int(times[11]) + int(times[12])) / CLOCK_TICKS, int(counters["write_bytes"]) / 1e6)


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM, in 10^6 bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files(pid: int) -> int:
    """How many file descriptors a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))
