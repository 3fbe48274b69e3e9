"""Helpers of the tests with hostile input: number of examples, form of messages, and a process that may crash."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

MANY = 50 if os.environ.get("EDGE_SSER_SOAK") == "1" else 1
MESSAGE_CHARACTERS = 500  # besides the path: a person reads it
LIMIT_SECONDS = 120  # for one answer of a worker; reached only when it hangs


def examples(count: int) -> settings:
    """Returns settings for a number of examples, fifty times as many with EDGE_SSER_SOAK=1, without a deadline."""
    return settings(max_examples=count * MANY, deadline=None, suppress_health_check=list(HealthCheck))


def check_message(message: str, *paths: object) -> None:
    """Checks a message for a person: one printable line of limited length."""
    assert message
    assert message.isprintable(), "it is not one line, or has control characters in it"
    length = len(message) - sum(len(str(path)) for path in paths)
    assert length <= MESSAGE_CHARACTERS, message


class Worker:
    """A process that answers each path with a line of JSON. When it crashes or hangs, the test fails.

    Args:
        script: a Python program.
        arguments: of the program.
    """

    def __init__(self, script: Path, *arguments: object) -> None:
        self._command = [sys.executable, str(script), *map(str, arguments)]
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, path: Path) -> Any:
        """Returns the process's answer for a file."""
        if self._process is None:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{path}\n".encode())
        process.stdin.flush()
        hangs = not select.select([process.stdout], [], [], LIMIT_SECONDS)[0]
        line = b"" if hangs else process.stdout.readline()
        if not line:
            end = "it hangs" if hangs else f"the process ended with status {process.wait()}"
            self.close()
            pytest.fail(f"{path}: {end}")
        return json.loads(line)

    def close(self) -> None:
        """Kills the process; the next call starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
