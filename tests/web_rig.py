"""Test rig of the web page: a device with a history, its page as a process, and a browser."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from components import require
from history_days import write_days
from mqtt_rig import LIMIT_SECONDS, NODE, eventually, free_port, health, reading
from playwright.sync_api import Browser, sync_playwright

from edge_sser.events import Episode, Event, HealthState, Level, Phase, timestamp, to_line
from edge_sser.history.live import LiveFile
from edge_sser.history.schema import FILE_NAME

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SOURCES = ("source-1", "source-2")


class Device:
    """State of a device that listens: a history of three days, and the live file."""

    def __init__(self, state: Path) -> None:
        self.state = state / "edge-sser"
        self.state.mkdir(parents=True)
        midnight = time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1))
        self.first_day = midnight - 2 * 86_400
        write_days(self.state / FILE_NAME, start=self.first_day, days=2, sources=2)
        self._live = LiveFile(self.state / "live.json")
        self.paused = self.state / "paused"

    def hear(
        self, stress: float | None, level: Level, *, source: str = "source-1", state: HealthState | None = None
    ) -> None:
        """Writes a reading of this moment, as `listen` does."""
        moment = replace(
            reading(1, source=source, level=level),
            node="cab",
            ts=timestamp(time.time()),
            stress=stress,
            stress_rolling=stress,
        )
        self.tell(moment)
        if state is not None:
            self.tell(replace(health(state, "plug it in again", source=source), node="cab"))

    def tell(self, event: Event) -> None:
        self._live.add(event, to_line(event))
        self._live.write(time.time())


class Page:
    """`edge-sser web` as a process."""

    def __init__(self, state: Path, *arguments: str, settings: str = "", port: int | None = None) -> None:
        self.port = port or free_port()
        self._config = state / "page.toml"
        self._config.write_text(f'node = "{NODE}"\n{settings}')
        self._environment = {**os.environ, "XDG_STATE_HOME": str(state)}
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> Page:
        command = [sys.executable, "-m", "edge_sser", "web", "--config", str(self._config), "--port", str(self.port)]
        self._process = subprocess.Popen(
            [*command, *self._arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert f":{self.port}/" in line, self._process.communicate(timeout=LIMIT_SECONDS)[1]
        eventually(self._answers, "the page answers")
        return self

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)) as connection,
        ):
            connection.connect()
            return True
        return False

    def refused(self) -> tuple[int, str]:
        """Starts a page that must not start; returns its exit status and message."""
        command = [sys.executable, "-m", "edge_sser", "web", "--config", str(self._config), "--port", str(self.port)]
        done = subprocess.run(
            [*command, *self._arguments], env=self._environment, capture_output=True, text=True, timeout=LIMIT_SECONDS
        )
        return done.returncode, done.stderr

    def stop(self) -> int:
        """Ends the page as systemd does; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(LIMIT_SECONDS)

    def close(self) -> str:
        """Ends the page at once; returns what it wrote to standard error."""
        if self._process is None:
            return ""
        self._process.kill()
        return self._process.communicate()[1]

    def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        body: bytes | None = None,
        tls: ssl.SSLContext | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Sends a request, with `_` in the names of headers for `-`; returns status, headers and content."""
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_SECONDS)
            if tls is None
            else http.client.HTTPSConnection("127.0.0.1", self.port, timeout=LIMIT_SECONDS, context=tls)
        )
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=named)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def start_browser() -> Iterator[Browser]:
    """Yields Chromium, without a window."""
    require(CHROMIUM is not None, "chromium not found: apt install chromium")
    with sync_playwright() as playwright:
        sandbox = [] if os.geteuid() else ["--no-sandbox"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


def open_episode(source: str = "source-1") -> Episode:
    """An episode that began just now."""
    return Episode(
        phase=Phase.START,
        id=f"cab/{source}/now",
        node="cab",
        source=source,
        ts=timestamp(time.time()),
        level=Level.HIGH,
        start_s=0.0,
        end_s=5.0,
        duration_s=5.0,
        peak=0.97,
        mean=0.9,
        evidence_s=0.0,
        declared_s=0.0,
        model="model@0",
    )
