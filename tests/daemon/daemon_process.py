"""`edge-sser listen` as a process, with its events and its log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from mqtt_rig import LIMIT_SECONDS, eventually

# The program, but with other values for some named constants, so that a test need not wait for minutes.
_WITH_CONSTANTS = """
import importlib, json, sys
from edge_sser.cli import main
for name, value in json.loads(sys.argv.pop(1)).items():
    module, _, constant = name.rpartition(".")
    getattr(importlib.import_module(module), constant)
    setattr(importlib.import_module(module), constant, value)
sys.exit(main(sys.argv[1:]))
"""


class Daemon:
    """A process that listens. All its output is kept.

    Args:
        arguments: of `edge-sser listen`.
        environment: variables besides those of this process.
        constants: values of the program's constants to change, by their full names.
        prefix: a program that starts it in other circumstances, with its arguments.
        fed: True when `feed` gives audio on standard input.
        cwd: working directory; the current one when None.
    """

    def __init__(
        self,
        *arguments: str,
        environment: dict[str, str],
        constants: dict[str, float] | None = None,
        prefix: Sequence[str] = (),
        fed: bool = False,
        cwd: Path | None = None,
    ) -> None:
        self.lines: list[bytes] = []
        self.log: list[str] = []
        program = ["-c", _WITH_CONSTANTS, json.dumps(constants)] if constants else ["-m", "edge_sser.cli"]
        self._process = subprocess.Popen(
            [*prefix, sys.executable, *program, "listen", "--node", "cab12", *arguments],
            stdin=subprocess.PIPE if fed else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            cwd=cwd,
        )
        self._audio: SimpleQueue[bytes] = SimpleQueue()  # nothing in it ends the audio
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_out, self._read_log)]
        self._threads = [*self._readers, *([threading.Thread(target=self._speak, daemon=True)] if fed else [])]
        for thread in self._threads:
            thread.start()

    def _read_out(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip(b"\n"))

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line.decode().rstrip("\n"))

    def feed(self, pcm: bytes) -> None:
        """Queues audio for standard input. Does not wait: a daemon that hangs must not hang the test."""
        assert pcm, "nothing would end the audio"
        self._audio.put(pcm)

    def _speak(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            while pcm := self._audio.get():
                self._process.stdin.write(pcm)
                self._process.stdin.flush()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def all_events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.lines)]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.all_events if event["type"] == kind]

    def episode_lines(self) -> list[bytes]:
        """Returns the episodes, as printed."""
        return [line for line in list(self.lines) if line.startswith(b'{"type":"episode"')]

    def states(self, source: str | None = None) -> list[str]:
        """Returns the states of all health events so far."""
        return [event["state"] for event in self.events("health") if source in (None, event["source"])]

    def await_states(self, *states: str, source: str | None = None) -> None:
        """Waits until the states of all health events are these, in this order."""
        eventually(lambda: len(self.states(source)) >= len(states) or self.ended, f"health says {', '.join(states)}")
        assert self.states(source) == [*states], self.log

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def readings(self, source: str | None = None) -> list[dict[str, Any]]:
        """Returns the readings of one source, or of all, so far."""
        return [event for event in self.events("reading") if source in (None, event["source"])]

    def await_readings(self, count: int, *, source: str | None = None) -> None:
        """Waits until so many more readings of one source, or of all, have come."""
        before = len(self.readings(source))
        eventually(lambda: len(self.readings(source)) >= before + count or self.ended, f"{count} readings: {self.log}")
        assert not self.ended, self.log

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, within_seconds: float = LIMIT_SECONDS) -> int:
        """Waits for the end; returns the exit status."""
        status = self._process.wait(within_seconds)
        for reader in self._readers:
            reader.join()
        return status

    def terminate(self) -> None:
        """Sends SIGTERM, as systemd does."""
        self.send(signal.SIGTERM)

    def stop(self, within_seconds: float = LIMIT_SECONDS) -> int:
        """Stops the process as systemd does; returns the exit status."""
        self.terminate()
        return self.wait(within_seconds)

    def kill(self) -> None:
        if not self.ended:
            self._process.kill()
        self.wait()
        self._audio.put(b"")
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
