"""Notifications to systemd, through a real datagram socket."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sser.daemon.systemd import Notifier, Watchdog, watchdog_timeout_seconds


class Manager:
    """The receiving end of the socket, as in systemd."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self._socket.setblocking(False)

    def received(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(65_536).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@edge-sser-test-{uuid.uuid4()}"
    manager = Manager(name)
    yield manager
    manager.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def notifier_for(manager: Manager) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": manager.name})


def test_the_life_of_a_service_is_reported_in_order(manager: Manager) -> None:
    notifier = notifier_for(manager)
    notifier.status("opening the microphone")
    notifier.ready("listening to desk")
    notifier.reloading()
    notifier.ready()
    notifier.stopping()
    received = manager.received()
    assert received[:2] == ["STATUS=opening the microphone", "READY=1\nSTATUS=listening to desk"]
    assert received[2].splitlines()[0] == "RELOADING=1"
    assert int(received[2].splitlines()[1].removeprefix("MONOTONIC_USEC=")) > 0
    assert received[3:] == ["READY=1\nSTATUS=listening to desk", "STOPPING=1"]


def test_a_status_is_one_line_and_not_repeated(manager: Manager) -> None:
    notifier = notifier_for(manager)
    notifier.status("desk: low\nMAINPID=1")
    notifier.status("desk: low MAINPID=1")
    notifier.status("Küche: erhöht")
    assert manager.received() == ["STATUS=desk: low MAINPID=1", "STATUS=Küche: erhöht"]


@pytest.mark.parametrize("value", [None, "", "@", "relative", "vsock:2:1234"])
def test_nothing_is_sent_without_a_service_manager(value: str | None) -> None:
    notifier = Notifier.from_environment({} if value is None else {"NOTIFY_SOCKET": value})
    assert not notifier.enabled
    notifier.ready("listening")


@pytest.mark.parametrize("name", ["/nonexistent/notify", "/" + "x" * 300])
def test_a_socket_that_cannot_be_reached_is_logged_once_and_stops_nothing(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(name)
    with caplog.at_level(logging.WARNING):
        notifier.ready()
        notifier.status("still here")
    assert len(caplog.records) == 1
    assert name in caplog.text


def test_a_manager_that_does_not_read_does_not_block_the_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    notifier = Notifier(manager.name)
    sent = 0
    while not caplog.records and sent < 10_000:
        notifier.status(f"{sent} {'x' * 1000}")
        sent += 1
    assert "timed out" in caplog.text, "the queue of the socket never filled"
    manager.received()
    notifier.status("heard again")
    assert manager.received() == ["STATUS=heard again"]
    manager.close()


def watchdog(manager: Manager, clock: Clock, timeout: float | None = 30.0) -> Watchdog:
    return Watchdog(notifier_for(manager), timeout, clock=clock)


def test_progress_feeds_the_watchdog_twice_within_its_timeout(manager: Manager) -> None:
    clock = Clock()
    dog = watchdog(manager, clock)
    for window in range(1, 121):  # a minute, a window every half second
        dog.update(window)
        clock.now += 0.5
    assert manager.received() == ["WATCHDOG=1"] * 4


def test_a_loop_without_progress_gets_no_ping(manager: Manager) -> None:
    clock = Clock()
    dog = watchdog(manager, clock)
    dog.update(1)
    clock.now += 0.5
    dog.update(2)  # too early for a ping, and not saved up for later
    assert manager.received() == ["WATCHDOG=1"]
    for _ in range(1000):
        clock.now += 0.2
        dog.update(2)
    assert manager.received() == []
    dog.update(3)
    assert manager.received() == ["WATCHDOG=1"]


def test_a_source_without_audio_needs_no_progress(manager: Manager) -> None:
    clock = Clock()
    dog = watchdog(manager, clock)
    for _ in range(120):
        dog.update(7, due=False)
        clock.now += 0.5
    assert manager.received() == ["WATCHDOG=1"] * 4


def test_a_count_that_falls_is_no_progress_until_it_grows(manager: Manager) -> None:
    clock = Clock()
    dog = watchdog(manager, clock)
    dog.update(100)
    clock.now += 20
    dog.update(0)
    assert manager.received() == ["WATCHDOG=1"]
    dog.update(1)
    assert manager.received() == ["WATCHDOG=1"]


def test_without_a_watchdog_nothing_is_sent(manager: Manager) -> None:
    watchdog(manager, Clock(), timeout=None).update(1)
    assert manager.received() == []


@settings(deadline=None)
@given(updates=st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0.01, 5.0)), max_size=60))
def test_a_ping_always_follows_progress_or_idleness_and_never_comes_too_late(
    updates: list[tuple[bool, bool, float]],
) -> None:
    pings: list[float] = []
    clock = Clock()

    class Recorder(Notifier):
        def ping(self) -> None:
            pings.append(clock.now)

    dog = Watchdog(Recorder(None), 30.0, clock=clock)
    alive, count = [], 0
    for advances, due, seconds in updates:
        count += advances
        if advances or not due:
            alive.append(clock.now)
        dog.update(count, due=due)
        clock.now += seconds
    assert set(pings) <= set(alive)
    for moment in alive:
        assert any(moment - 15.0 < ping <= moment for ping in pings), "a sign of life without a ping"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_it_names(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_timeout_seconds(environ) == seconds
