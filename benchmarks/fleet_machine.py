"""Machine of a fleet: description, and limit of open files."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from fleet_broker import SPARE_FILES, find_mosquitto


def describe_machine() -> dict[str, str]:
    """Describes the machine, the date and the versions of a measurement."""
    known = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    model = next((line.partition(":")[2].strip() for line in known if line.lower().startswith("model name")), "")
    output = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
    broker = output.partition("\n")[0]
    return {
        "machine": f"{model or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "date": datetime.now(tz=timezone.utc).date().isoformat(),
        "versions": f"{broker}, Python {platform.python_version()}, paho-mqtt {version('paho-mqtt')}",
    }


def raise_file_limit(nodes: int) -> None:
    """Raises the limit of open files to what the broker needs; child processes inherit it.

    Raises:
        SystemExit: the limit of this user is too low.
    """
    needed = nodes + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(
            f"{nodes} nodes need {needed} open files in the broker, and this user may have {hard}: "
            "raise the hard limit (ulimit -Hn, as root), or take fewer --nodes"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
