"""Data that the processes of the simulation exchange: the plan, and the logs of nodes and subscriber."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """Plan for the nodes of one process.

    Attributes:
        port: port of the broker, on 127.0.0.1.
        ca_file: certificate of the authority; None for connections without TLS.
        backlog: episode messages of each node that wait for its first connection.
        ramp_seconds: time over which all nodes of the fleet make their first connection.
    """

    port: int
    ca_file: Path | None
    first: int
    count: int
    total: int
    readings_hz: float
    backlog: int
    ramp_seconds: float
    seed: int


@dataclass(slots=True)
class FleetLog:
    """Log of the nodes of one process. Times are monotonic seconds, which all processes of a machine share.

    Attributes:
        readings: (node, counter) and time of each published reading.
        kept: (topic, sequence number) and time of each episode and health message.
        accepted: times at which the broker accepted a node.
        waiting: number of episode and health messages without an acknowledgement.
        refusals: topics that the broker refused, with the reason.
    """

    readings: list[tuple[tuple[str, int], float]] = field(default_factory=list)
    kept: list[tuple[tuple[str, int], float]] = field(default_factory=list)
    attempts: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    waiting: int = 0
    refusals: list[str] = field(default_factory=list)
    readings_dropped: int = 0
    cpu_seconds: float = 0.0


@dataclass(slots=True)
class SubscriberLog:
    """Log of the subscriber. Times are monotonic seconds, which all processes of a machine share.

    Attributes:
        readings: (node, counter) and time of each reading, without retained ones.
        kept: (topic, sequence number) and time of each episode and health message, without retained ones.
        broker: counters of the broker: topic below $SYS/broker/, time, value.
    """

    readings: list[tuple[tuple[str, int], float]] = field(default_factory=list)
    kept: list[tuple[tuple[str, int], float]] = field(default_factory=list)
    broker: list[tuple[str, float, float]] = field(default_factory=list)
    cpu_seconds: float = 0.0
