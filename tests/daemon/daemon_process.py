"""`edge-sser listen` as a process, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mqtt_rig import LIMIT_SECONDS, eventually


class Daemon:
    """A process that listens. Everything that it prints is kept.

    Args:
        arguments: of `edge-sser listen`.
        environment: variables besides those of this process.
        before: what runs it, put before its command.
        cwd: the folder that it runs in; the present one when None.
    """

    def __init__(
        self, *arguments: str, environment: dict[str, str], before: Sequence[str] = (), cwd: Path | None = None
    ) -> None:
        self.lines: list[bytes] = []
        self.log: list[str] = []
        self._process = subprocess.Popen(
            [*before, sys.executable, "-m", "edge_sser.cli", "listen", "--node", "cab12", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            cwd=cwd,
        )
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_out, self._read_log)]
        for reader in self._readers:
            reader.start()

    def _read_out(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip(b"\n"))

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line.decode().rstrip("\n"))

    @property
    def pid(self) -> int:
        return self._process.pid

    def events(self, kind: str) -> list[dict[str, Any]]:
        events = [json.loads(line) for line in list(self.lines)]
        return [event for event in events if event["type"] == kind]

    def states(self) -> list[str]:
        """What health has said so far."""
        return [event["state"] for event in self.events("health")]

    def await_readings(self, count: int) -> None:
        """Waits until so many more readings have come."""
        before = len(self.events("reading"))
        eventually(lambda: len(self.events("reading")) >= before + count or self.ended, f"{count} readings: {self.log}")
        assert not self.ended, self.log

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """Waits for the end; returns the exit status."""
        status = self._process.wait(LIMIT_SECONDS)
        for reader in self._readers:
            reader.join()
        return status

    def stop(self) -> int:
        """Ends it as systemd does; returns the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        if not self.ended:
            self._process.kill()
        self.wait()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
