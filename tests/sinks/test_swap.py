"""Replacement of a sink while events come: none is lost."""

from __future__ import annotations

import logging

import pytest
from mqtt_rig import emit

from edge_sser.errors import SinkError
from edge_sser.events import Event, Health, HealthState
from edge_sser.sinks.base import Sink
from edge_sser.sinks.swap import SwappableSink


class Kept(Sink):
    def __init__(self, *, room: int = 100) -> None:
        self.events: list[str] = []
        self.room = room

    def emit(self, event: Event, line: bytes) -> None:
        if len(self.events) >= self.room:
            raise SinkError("the sink is full")
        assert isinstance(event, Health)
        self.events.append(event.detail)


def health(detail: str) -> Health:
    return Health(
        node="n", source="s", ts="t", state=HealthState.OK, detail=detail, read_s=0.0, processed_s=0.0, dropped_s=0.0,
        overruns=0,
    )  # fmt: skip


def test_events_that_come_during_an_exchange_reach_the_next_sink_in_order() -> None:
    swap, first, second = SwappableSink(), Kept(), Kept()
    emit(swap, health("before any"))
    swap.attach(first)
    emit(swap, health("1"))
    swap.detach()
    emit(swap, health("2"))
    emit(swap, health("3"))
    swap.attach(second)
    emit(swap, health("4"))
    assert first.events == ["before any", "1"]  # the health of the source, from before there was a sink
    assert second.events == ["1", "2", "3", "4"]


def test_events_wait_through_a_sink_that_cannot_be_opened() -> None:
    swap, first, second = SwappableSink(), Kept(), Kept()
    swap.attach(first)
    swap.detach()
    emit(swap, health("1"))
    swap.detach()  # the next try, with the settings of before
    emit(swap, health("2"))
    swap.attach(second)
    assert (first.events, second.events) == ([], ["1", "2"])


def test_a_place_without_a_sink_works_for_nobody() -> None:
    swap = SwappableSink()
    assert not swap.active
    swap.detach()
    assert swap.active
    emit(swap, health("for nobody"))
    swap.attach(None)
    assert not swap.active


def test_a_sink_that_fails_is_told_of_once_and_may_be_exchanged(caplog: pytest.LogCaptureFixture) -> None:
    swap, full, next_one = SwappableSink(), Kept(room=1), Kept()
    swap.attach(full)
    with caplog.at_level(logging.ERROR):
        for text in "123":
            emit(swap, health(text))
    assert [record.getMessage() for record in caplog.records] == ["the sink is full; the other outputs go on"]
    assert not swap.active
    assert swap.failure == "the sink is full"
    swap.attach(next_one)
    assert swap.failure == ""
    emit(swap, health("4"))
    assert full.events == ["1"]
    assert next_one.events == ["3", "4"]
