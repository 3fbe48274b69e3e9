"""The simulation of a fleet runs and counts what it says. How much a broker carries is no matter of a test."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from components import require, require_programs
from mqtt_rig import MOSQUITTO

FLEET = Path(__file__).parents[2] / "benchmarks" / "fleet.py"
NODES = 20
SECONDS = 3.0
BACKLOG = 20


def run(
    *arguments: object, limit: Callable[[], None] | None = None
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    command = [sys.executable, str(FLEET), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, preexec_fn=limit)
    return done, json.loads(done.stdout) if done.stdout else {}


@pytest.fixture(autouse=True)
def _broker() -> None:
    require(MOSQUITTO is not None, "mosquitto not found: apt install mosquitto")


def test_a_small_fleet_delivers_everything_and_comes_back_after_its_broker_was_killed(tmp_path: Path) -> None:
    out = tmp_path / "fleet.json"
    queue = ("--backlog", BACKLOG, "--queue", 2 * NODES * BACKLOG)
    done, _ = run("--nodes", NODES, "--seconds", SECONDS, "--outages", 0.5, *queue, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(out.read_text())
    steady, (outage,) = figures["steady"], figures["outages"]
    assert figures["nodes"] == NODES
    assert figures["refusals"] == 0
    backlog = figures["first_connection"]["backlog"]
    assert (backlog["sent"], backlog["lost"]) == (NODES * BACKLOG, 0)
    assert steady["readings"]["sent"] > 0
    assert steady["readings"]["lost"] == steady["episodes_and_health"]["lost"] == 0
    assert steady["messages_per_second"] > 0
    assert 0 < steady["readings"]["latency_ms"]["p50"] <= steady["readings"]["latency_ms"]["p99"]
    assert steady["broker"]["open_files"] > NODES
    assert steady["broker"]["resident_mb"] > 0
    assert outage["nodes_back"] >= NODES
    assert outage["all_back_after_seconds"] > 0
    assert 0 < outage["peak_accepted_in_a_second"] <= outage["nodes_back"]
    assert outage["broker"]["open_files"] > NODES


def test_a_fleet_over_tls_delivers_too() -> None:
    require_programs("openssl", packages="openssl")
    done, figures = run("--nodes", 3, "--seconds", 1, "--tls", "--outages")
    assert (done.returncode, done.stderr) == (0, "")
    assert figures["tls"]
    assert figures["steady"]["readings"]["sent"] > 0
    assert figures["steady"]["readings"]["lost"] == 0


def test_more_nodes_than_files_may_be_open_is_one_line_that_says_so() -> None:
    done, figures = run("--nodes", 1000, limit=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (500, 500)))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "1064 open files" in done.stderr
    assert "may have 500" in done.stderr
    assert figures == {}
