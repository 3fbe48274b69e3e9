"""What the logs of a fleet and of its subscriber say, as figures."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fleet_plan import FleetLog, HeardLog

Stamped = Sequence[tuple[tuple[str, int], float]]


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the run, in monotonic seconds."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.begin

    def __contains__(self, when: float) -> bool:
        return self.begin <= when < self.end


def delivery(sent: Stamped, heard: Stamped, span: Span) -> dict[str, Any]:
    """What became of the messages that were sent within a span: lost, doubled, and how long each took."""
    first: dict[tuple[str, int], float] = {}
    for key, when in heard:
        first.setdefault(key, when)
    times = Counter(key for key, _ in heard)
    ours = [(key, when) for key, when in sent if when in span]
    took = [(first[key] - when) * 1000.0 for key, when in ours if key in first]
    return {
        "sent": len(ours),
        "lost": len(ours) - len(took),
        "duplicates": sum(times[key] - 1 for key, _ in ours if key in first),
        "latency_ms": percentiles(took),
    }


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """p50, p95, p99 and the largest; None of nothing."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3), "max": round(max(values), 3)}


def traffic(heard: HeardLog, span: Span, nodes: int) -> dict[str, Any]:
    """Messages and bytes a second: what the subscriber got, and what the broker counted on its sockets."""
    messages = sum(when in span for _, when in [*heard.readings, *heard.kept])
    received, sent = (_rate(heard, f"bytes/{way}", span) for way in ("received", "sent"))
    return {
        "messages_per_second": round(messages / span.seconds, 1),
        "broker_bytes_in_per_second": received,
        "broker_bytes_out_per_second": sent,
        "bytes_in_per_second_of_a_node": None if received is None else round(received / nodes, 1),
        "retained_messages": _last(heard, "retained messages/count", span),
    }


def recovery(logs: Sequence[FleetLog], answering: float, end: float) -> dict[str, Any]:
    """How the nodes came back after the broker answered again."""
    span = Span(answering, end)
    accepted = sorted(when for log in logs for when in log.accepted if when in span)
    attempts = sorted(when for log in logs for when in log.attempts if when in span)
    return {
        "nodes_back": len(accepted),
        "all_back_after_seconds": round(accepted[-1] - answering, 2) if accepted else None,
        "half_back_after_seconds": round(accepted[len(accepted) // 2] - answering, 2) if accepted else None,
        "attempts": len(attempts),
        "peak_attempts_in_a_second": busiest_second(attempts),
        "peak_accepted_in_a_second": busiest_second(accepted),
        "peak_accepted_in_a_tenth": busiest_second(accepted, seconds=0.1),
    }


def busiest_second(times: Sequence[float], seconds: float = 1.0) -> int:
    """Most events within any second, or so many seconds; `times` rise."""
    return max((bisect_right(times, when + seconds) - index for index, when in enumerate(times)), default=0)


def _rate(heard: HeardLog, topic: str, span: Span) -> float | None:
    """Growth a second of a counter of the broker's, between the first and the last time it told it in the span."""
    told = [(when, value) for name, when, value in heard.broker if name == topic and when in span]
    if len(told) < 2:
        return None
    return round((told[-1][1] - told[0][1]) / (told[-1][0] - told[0][0]), 1)


def _last(heard: HeardLog, topic: str, span: Span) -> float | None:
    told = [value for name, when, value in heard.broker if name == topic and when < span.end]
    return told[-1] if told else None
