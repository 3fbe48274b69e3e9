"""Fleet on one machine: simulated nodes, one mosquitto on loopback, and one subscriber to all of them.

Measures delivery and latency at the subscriber, the cost of the broker, and how the nodes reconnect when the broker is
killed and started again. Nothing leaves the machine. Needs mosquitto, and openssl for --tls.
usage: python benchmarks/fleet.py --nodes 1000 --seconds 60 --out fleet.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from fleet_figures import Span, delivery, recovery, traffic
from fleet_plan import FleetLog, FleetPlan, SubscriberLog
from fleet_process import run_nodes
from fleet_subscriber import run_subscriber
from mosquitto import PERSISTENCE, Mosquitto, Usage, find_mosquitto, measure_usage

from edge_sser.commands.bench import this_machine

NODES_OF_A_PROCESS = 500
CONNECTIONS_PER_SECOND = 200  # while the fleet connects for the first time
SETTLE_SECONDS = 2.0  # after all nodes are connected, and before the broker is killed
AFTERMATH_SECONDS = 5.0  # after all nodes are connected again; both are at most as long as the measurement
TIMEOUT_SECONDS = 300.0  # until all nodes are connected
SPARE_FILES = 64  # open files of a process besides its connections: libraries, logs, pipes


class Fleet:
    """Processes of the nodes and the subscriber."""

    def __init__(self, options: argparse.Namespace, broker: Mosquitto) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[Any] = []
        self._options = options
        self._broker = broker
        self._subscriber = self._start(run_subscriber, broker.port, "edge-sser")
        self._wait([self._subscriber], after=0.0)
        self._nodes = [self._start(run_nodes, plan) for plan in self._plans()]
        self._wait(self._nodes, after=0.0)

    def begin(self) -> None:
        """Lets the nodes connect, one after another."""
        for pipe in self._nodes:
            pipe.send("begin")

    def _plans(self) -> list[FleetPlan]:
        nodes, ca_file = self._options.nodes, self._broker.ca_file
        return [
            FleetPlan(
                port=self._broker.port if ca_file is None else self._broker.tls_port,
                ca_file=ca_file,
                first=first,
                count=min(NODES_OF_A_PROCESS, nodes - first),
                total=nodes,
                readings_hz=self._options.readings_per_second,
                backlog=self._options.backlog,
                ramp_seconds=nodes / CONNECTIONS_PER_SECOND,
                seed=self._options.seed,
            )
            for first in range(0, nodes, NODES_OF_A_PROCESS)
        ]

    def _start(self, target: Callable[..., None], *arguments: object) -> Pipe:
        own_end, other_end = self._context.Pipe()
        process = self._context.Process(target=target, args=(*arguments, other_end), daemon=True)
        process.start()
        other_end.close()  # so that the failure of the process ends the wait for it
        self._processes.append(process)
        return own_end

    def wait_until_connected(self, *, after: float) -> float:
        """Waits until every node is connected and has published its waiting messages.

        Args:
            after: ignores reports from before this time, monotonic seconds.

        Returns:
            Time of the last report, monotonic seconds.
        """
        return self._wait(self._nodes, after=after)

    def _wait(self, pipes: Sequence[Pipe], *, after: float) -> float:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        times = []
        for pipe in pipes:
            reported = -1.0
            while reported < after:
                if not pipe.poll(max(deadline - time.monotonic(), 0.0)):
                    raise RuntimeError(f"not all nodes were connected within {TIMEOUT_SECONDS:.0f} s")
                reported = pipe.recv()
            times.append(reported)
        return max(times)

    def stop(self) -> tuple[list[FleetLog], SubscriberLog]:
        """Ends the nodes, then the subscriber, and returns their logs."""
        logs = [self._log(pipe) for pipe in self._nodes]
        received = self._log(self._subscriber)
        for process in self._processes:
            process.join()
        return logs, received

    @staticmethod
    def _log(pipe: Pipe) -> Any:
        pipe.send("stop")
        while isinstance(answer := pipe.recv(), float):
            pass
        return answer


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the whole scenario, and returns the figures for JSON."""
    load_before = os.getloadavg()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-sser-fleet-")))
        settings = {"queue": options.queue, "nodelay": options.nodelay, "tls": options.tls}
        broker = stack.enter_context(Mosquitto(folder, options.persistence, **settings))
        fleet = Fleet(options, broker)
        begin, before = time.monotonic(), measure_usage(broker.pid)
        fleet.begin()
        first = Span(begin, fleet.wait_until_connected(after=begin))
        first_cost = broker_cost(broker.pid, before, first.seconds)
        time.sleep(min(SETTLE_SECONDS, options.seconds))
        steady, cost = measure_broker(broker, options.seconds)
        time.sleep(min(SETTLE_SECONDS, options.seconds))
        aftermath = min(AFTERMATH_SECONDS, options.seconds)
        outages = [measure_outage(broker, fleet, seconds, aftermath) for seconds in options.outages]
        logs, received = fleet.stop()
    sent, kept = ([stamped for log in logs for stamped in getattr(log, name)] for name in ("readings", "kept"))
    return {
        "command": " ".join(["python", "benchmarks/fleet.py", *sys.argv[1:]]),
        "machine": describe_machine(),
        "load_average": {"before": load_before[0], "after": os.getloadavg()[0]},
        "nodes": options.nodes,
        "node_processes": len(logs),
        "readings_per_second_of_a_node": options.readings_per_second,
        "persistence": options.persistence,
        "max_queued_messages": options.queue,
        "set_tcp_nodelay": options.nodelay,
        "tls": options.tls,
        "refusals": sum(len(log.refusals) for log in logs),
        "first_connection": {
            "all_connected_after_seconds": round(first.seconds, 2),
            "backlog": delivery(kept, received.kept, Span(0.0, begin)),
            "broker": first_cost,
        },
        "steady": {
            "seconds": round(steady.seconds, 2),
            **traffic(received, steady, options.nodes),
            "readings": delivery(sent, received.readings, steady),
            "episodes_and_health": delivery(kept, received.kept, steady),
            "broker": cost,
        },
        "outages": [
            {
                "outage_seconds": seconds,
                **recovery(logs, answering, whole.end),
                "readings": delivery(sent, received.readings, whole),
                "episodes_and_health": delivery(kept, received.kept, whole),
                "broker": outage_cost,
            }
            for seconds, (whole, answering, outage_cost) in zip(options.outages, outages, strict=True)
        ],
        "readings_without_a_connection": sum(log.readings_dropped for log in logs),
        "cpu_seconds": {
            "node_processes": round(sum(log.cpu_seconds for log in logs), 1),
            "subscriber": round(received.cpu_seconds, 1),
        },
    }


def measure_broker(broker: Mosquitto, seconds: float) -> tuple[Span, dict[str, Any]]:
    """Measures the broker over some seconds."""
    begin, before = time.monotonic(), measure_usage(broker.pid)
    time.sleep(seconds)
    span = Span(begin, time.monotonic())
    return span, broker_cost(broker.pid, before, span.seconds)


def measure_outage(
    broker: Mosquitto, fleet: Fleet, outage_seconds: float, aftermath_seconds: float
) -> tuple[Span, float, dict[str, Any]]:
    """Kills the broker, starts it again some time later, and waits until all nodes are connected again.

    Returns:
        Span from the kill to some seconds after the last node connected; time of the broker's first answer; its cost
        since then.
    """
    killed = time.monotonic()
    broker.kill()
    time.sleep(outage_seconds)
    answering = broker.start()
    fleet.wait_until_connected(after=answering)
    time.sleep(aftermath_seconds)
    whole = Span(killed, time.monotonic())
    return whole, answering, broker_cost(broker.pid, Usage(0.0, 0.0), whole.end - answering)


def broker_cost(pid: int, before: Usage, seconds: float) -> dict[str, Any]:
    """Returns the cost of the broker since `before`, so many seconds ago: CPU, memory, files, bytes to the disk."""
    now = measure_usage(pid)
    resident_pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "core_percent": round(100.0 * (now.cpu_seconds - before.cpu_seconds) / seconds, 1),
        "cpu_seconds": round(now.cpu_seconds - before.cpu_seconds, 2),
        "disk_mb_per_second": round((now.disk_mb - before.disk_mb) / seconds, 2),
        "resident_mb": round(resident_pages * resource.getpagesize() / 1e6, 1),
        "open_files": len(os.listdir(f"/proc/{pid}/fd")),
    }


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


def parse_arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="duration of the measurement with all nodes connected"
    )
    parser.add_argument("--readings-per-second", type=float, default=2.0, help="of each node; a device publishes 2")
    parser.add_argument("--persistence", choices=list(PERSISTENCE), default="minute")
    parser.add_argument("--tls", action="store_true", help="nodes connect with TLS")
    parser.add_argument("--outages", type=float, nargs="*", default=[5.0], metavar="SECONDS", help="one after another")
    parser.add_argument(
        "--backlog", type=int, default=0, help="messages of each node that wait for its first connection"
    )
    parser.add_argument(
        "--queue", type=int, default=1_000_000, help="max_queued_messages of mosquitto, whose default is 1000"
    )
    parser.add_argument(
        "--nodelay",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="set_tcp_nodelay of mosquitto, which is off by default",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file for the figures; default standard output")
    options = parser.parse_args()
    if min(options.nodes, options.seconds, options.readings_per_second, *options.outages) <= 0:
        parser.error("--nodes, --seconds, --readings-per-second and --outages must be above 0")
    return options


def main() -> None:
    """Measures, and writes the figures."""
    options = parse_arguments()
    raise_file_limit(options.nodes)
    try:
        figures = measure(options)
    except (OSError, RuntimeError, EOFError) as error:
        raise SystemExit(str(error) or "a process of the simulation has failed: see above") from None
    text = json.dumps(figures, indent=2) + "\n"
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
