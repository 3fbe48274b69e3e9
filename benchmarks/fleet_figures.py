"""Figures from the logs of a fleet and its subscriber."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fleet_plan import FleetLog, SubscriberLog

Stamped = Sequence[tuple[tuple[str, int], float]]


@dataclass(frozen=True, slots=True)
class Span:
    """Part of the run, in monotonic seconds."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """Length of the span."""
        return self.end - self.begin

    def __contains__(self, when: float) -> bool:
        return self.begin <= when < self.end


def delivery(sent: Stamped, received: Stamped, span: Span) -> dict[str, Any]:
    """Counts the messages sent within a span, those lost and duplicated, and their latencies."""
    first: dict[tuple[str, int], float] = {}
    for key, when in received:
        first.setdefault(key, when)
    times = Counter(key for key, _ in received)
    in_span = [(key, when) for key, when in sent if when in span]
    latencies_ms = [(first[key] - when) * 1000.0 for key, when in in_span if key in first]
    return {
        "sent": len(in_span),
        "lost": len(in_span) - len(latencies_ms),
        "duplicates": sum(times[key] - 1 for key, _ in in_span if key in first),
        "latency_ms": percentiles(latencies_ms),
    }


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """Returns p50, p95, p99 and the maximum; None for an empty sequence."""
    if not values:
        return None
    p50, p95, p99 = np.percentile(values, [50, 95, 99])
    return {"p50": round(p50, 3), "p95": round(p95, 3), "p99": round(p99, 3), "max": round(max(values), 3)}


def traffic(log: SubscriberLog, span: Span, nodes: int) -> dict[str, Any]:
    """Returns messages per second at the subscriber, and bytes per second as the broker counts them."""
    messages = sum(when in span for _, when in [*log.readings, *log.kept])
    received, sent = (_rate(log, f"bytes/{direction}", span) for direction in ("received", "sent"))
    return {
        "messages_per_second": round(messages / span.seconds, 1),
        "broker_bytes_in_per_second": received,
        "broker_bytes_out_per_second": sent,
        "bytes_in_per_second_of_a_node": None if received is None else round(received / nodes, 1),
        "retained_messages": _last(log, "retained messages/count", span),
    }


def recovery(logs: Sequence[FleetLog], answering: float, end: float) -> dict[str, Any]:
    """Returns how fast the nodes connected after the broker answered again."""
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
    """Returns the largest number of events within any `seconds`; `times` must rise."""
    return max((bisect_right(times, when + seconds) - index for index, when in enumerate(times)), default=0)


def _rate(log: SubscriberLog, topic: str, span: Span) -> float | None:
    """Returns the growth per second of a counter of the broker, between its first and last message in the span."""
    values = [(when, value) for name, when, value in log.broker if name == topic and when in span]
    if len(values) < 2:
        return None
    return round((values[-1][1] - values[0][1]) / (values[-1][0] - values[0][0]), 1)


def _last(log: SubscriberLog, topic: str, span: Span) -> float | None:
    values = [value for name, when, value in log.broker if name == topic and when < span.end]
    return values[-1] if values else None
