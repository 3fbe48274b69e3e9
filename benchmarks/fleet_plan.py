"""What the processes of the simulation tell each other: what nodes shall do, what they did, what was heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPlan:
    """What the nodes of one process do.

    Attributes:
        port: of the broker, on 127.0.0.1.
        first: number of the first node.
        count: how many there are here.
        total: how many there are in all.
        ca_file: who signed the broker's certificate; None for connections without TLS.
        readings_hz: readings a second of each node.
        backlog: messages about episodes that each node has to tell when it first connects.
        ramp_seconds: time over which all nodes of the fleet make their first connection.
        seed: of all chance.
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
    """What the nodes of one process did. Times are monotonic seconds, which all processes of a machine share.

    Attributes:
        readings: (node, counter) and time of each reading that was handed to a connection.
        kept: (topic, sequence number) and time of each episode and health message that was made.
        attempts: when a connection was tried.
        accepted: when the broker let a node in.
        waiting: episodes and health messages that the broker has not acknowledged yet.
        refusals: what the broker refused, and why.
        readings_dropped: readings for which there was no connection.
        cpu_seconds: of the process.
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
class HeardLog:
    """What arrived. Times are monotonic seconds, which all processes of a machine share.

    Attributes:
        readings: (node, counter) and time of each reading that was not a retained one from before.
        kept: (topic, sequence number) and time of each episode and health message, likewise.
        statuses: time and state of each status, likewise.
        payload_bytes: of all of these.
        broker: what the broker says of itself: topic below $SYS/broker/, time, value.
        cpu_seconds: of the process.
    """

    readings: list[tuple[tuple[str, int], float]] = field(default_factory=list)
    kept: list[tuple[tuple[str, int], float]] = field(default_factory=list)
    statuses: list[tuple[float, str]] = field(default_factory=list)
    payload_bytes: int = 0
    broker: list[tuple[str, float, float]] = field(default_factory=list)
    cpu_seconds: float = 0.0
