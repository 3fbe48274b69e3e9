"""Machine of a fleet: description, and limit of open files."""

from __future__ import annotations

import platform
import resource
import subprocess
from importlib.metadata import version

from fleet_broker import SPARE_FILES, find_mosquitto

from edge_sser.commands.bench import this_machine


def describe_machine() -> dict[str, str]:
    """Describes the machine, the date and the versions of a measurement."""
    output = subprocess.run([find_mosquitto(), "-h"], capture_output=True, text=True, check=False).stdout
    versions = output.partition("\n")[0], f"Python {platform.python_version()}", f"paho-mqtt {version('paho-mqtt')}"
    return {**this_machine(), "versions": ", ".join(versions)}


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
