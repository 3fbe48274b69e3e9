"""The program as a command line, for tests that start it as a process."""

from __future__ import annotations

import sys

COMMAND = [sys.executable, "-m", "edge_sser.cli"]
