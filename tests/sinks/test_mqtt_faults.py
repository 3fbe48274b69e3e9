"""No episode is lost: the broker, the network, the program and the disk fail, and every promise is kept."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mqtt_rig import (
    NODE,
    Broker,
    Cable,
    Subscriber,
    emit,
    episode,
    eventually,
    free_port,
    gaps,
    health,
    once_each,
    reading,
)

import edge_sser.sinks.mqtt.link as broker_module
from edge_sser.events import Phase, to_json
from edge_sser.sinks.mqtt.outbox import Outbox
from edge_sser.sinks.mqtt.sink import LinkState, MqttReport, MqttSink

Start = Callable[..., MqttSink]
Subscribe = Callable[..., Subscriber]
KILLS = 50 if os.environ.get("EDGE_SSER_SOAK") == "1" else 6
PUBLISHER = Path(__file__).with_name("mqtt_publisher.py")


def ids(received: list[Any]) -> list[str]:
    return [message.json["id"] for message in received]


def test_the_broker_is_killed_twenty_times_under_load(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    # A broker is killed with what it had acknowledged and not passed on yet. For the count to be about our side, the
    # subscriber is there first each time, and takes QoS 0: mosquitto writes to it before it acknowledges to the sender.
    subscriber = start_subscriber(broker.port, "edge-sser/#", qos=0)
    cable = Cable(broker.port)
    sink = open_sink(cable.port)
    sent: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            for phase in Phase:
                event = episode(len(sent), phase)
                emit(sink, event)
            sent.append(event.id)
            emit(sink, reading(len(sent)))
            emit(sink, health())
            time.sleep(0.01)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for _ in range(20):
            received = len(subscriber.episodes())
            eventually(lambda received=received: len(subscriber.episodes()) > received + 5, "messages flow again")
            time.sleep(random.uniform(0.0, 0.05))
            broker.kill()
            cable.shut()
            eventually(lambda: not subscriber.subscribed.is_set(), "the subscriber notices")
            broker.start()
            subscriber.ready()
            cable.admit()
    finally:
        stop.set()
        thread.join()
    eventually(lambda: sink.report.outbox_depth == 0, "the outbox is empty")
    eventually(lambda: len(once_each(subscriber.episodes())) == 3 * len(sent), "every event of every episode")
    unique = once_each(subscriber.episodes())
    ends = [message for message in unique if message.json["phase"] == "end"]
    assert ids(ends) == sent
    assert gaps(subscriber.on(f"edge-sser/{NODE}/desk/episode")) == []
    assert gaps(subscriber.on(f"edge-sser/{NODE}/desk/health")) == []
    assert sink.report.connections >= 20
    assert sink.report.lost == 0
    cable.close()


@pytest.mark.soak
def test_the_program_is_killed_at_random_points(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start, tmp_path: Path
) -> None:
    """Six times, and fifty with EDGE_SSER_SOAK=1."""
    subscriber = start_subscriber(broker.port, "+/+/+/episode")
    directory, ledger = tmp_path / "state", tmp_path / "ledger"
    ledger.touch()
    for run in range(KILLS):
        before = ledger.stat().st_size
        command = [sys.executable, PUBLISHER, str(broker.port), directory, ledger, str(run)]
        with subprocess.Popen(command) as publisher:
            eventually(lambda before=before: ledger.stat().st_size > before, "the first episode is promised")
            time.sleep(random.uniform(0.0, 0.3))
            assert publisher.poll() is None
            publisher.kill()
    last = open_sink(broker.port)
    eventually(lambda: last.report.connections and last.report.outbox_depth == 0, "the last run sends what is left")
    promised = ledger.read_text().split()
    eventually(lambda: set(promised) <= set(ids(subscriber.episodes())), "every promised episode arrives")
    assert len(promised) == len(set(promised)) > KILLS
    arrived = once_each(subscriber.episodes())
    assert len(ids(arrived)) == len(set(ids(arrived)))
    assert gaps(subscriber.episodes()) == []
    numbers = [(message.properties["stream"], int(message.properties["seq"])) for message in arrived]
    assert numbers == [(numbers[0][0], 1 + place) for place in range(len(numbers))], "in order, each number once"


def test_the_network_is_cut_in_the_middle_of_a_publish(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port)
    cable = Cable(broker.port, cut_after=9000)  # the greeting takes about 4,000 bytes, an episode 400
    sink = open_sink(cable.port)
    for number in range(60):
        emit(sink, episode(number))
    eventually(lambda: sink.report.outbox_depth == 0 and sink.report.stored == 60, "all delivered")
    eventually(lambda: len(once_each(subscriber.episodes())) == 60, "all arrived")
    assert sink.report.connections > 3
    assert ids(once_each(subscriber.episodes())) == [episode(number).id for number in range(60)]
    assert gaps(subscriber.episodes()) == []
    cable.close()


def test_a_network_that_falls_silent_delays_nobody_and_loses_no_episode(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port)
    cable = Cable(broker.port)
    sink = open_sink(cable.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    cable.hold()
    for number in range(200):
        emit(sink, episode(number))
        emit(sink, reading(number))
    eventually(lambda: sink.report.stored == 200, "stored meanwhile")
    assert sink.report.outbox_depth == 200
    cable.cut()
    cable.release()
    eventually(lambda: len(once_each(subscriber.episodes())) == 200, "all arrived")
    assert gaps(subscriber.episodes()) == []
    cable.close()


def test_a_network_that_falls_silent_is_noticed_by_the_keepalive(
    broker: Broker, open_sink: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "TICK_SECONDS", 0.02)
    monkeypatch.setattr("paho.mqtt.client.time_func", lambda: time.monotonic() * 20)  # a second is 20 of paho's
    cable = Cable(broker.port)
    sink = open_sink(cable.port, keepalive_seconds=20)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    cable.hold()
    eventually(lambda: sink.report.link is LinkState.UNREACHABLE, "is noticed")
    cable.cut()
    cable.release()
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "comes back")
    cable.close()


def test_a_broker_that_never_acknowledges_is_left_and_tried_again(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "ACK_SECONDS", 0.2)
    monkeypatch.setattr(broker_module, "TICK_SECONDS", 0.05)
    subscriber = start_subscriber(broker.port)
    cable = Cable(broker.port)
    sink = open_sink(cable.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    cable.hold()
    emit(sink, episode(1))
    eventually(lambda: "acknowledge" in sink.report.detail, "gives up")
    cable.cut()
    cable.release()
    eventually(lambda: ids(subscriber.episodes())[-1:] == [episode(1).id], "arrives on the next connection")
    cable.close()


def test_readings_are_for_now_and_never_wait_for_a_broker(
    start_broker: Callable[..., Broker], start_subscriber: Subscribe, open_sink: Start
) -> None:
    port = free_port()
    sink = open_sink(port)
    for number in range(10):
        emit(sink, reading(number))
        emit(sink, episode(number))
    assert sink.report.readings_dropped == 10
    broker = start_broker(port=port)
    subscriber = start_subscriber(broker.port, "edge-sser/+/desk/#")
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    emit(sink, reading(99))
    topic = f"edge-sser/{NODE}/desk/reading"
    eventually(lambda: subscriber.on(topic), "a reading")
    assert [message.payload for message in subscriber.on(topic)] == [to_json(reading(99)).encode()]
    eventually(lambda: len(subscriber.episodes()) == 10 or sink.report.outbox_depth == 0, "episodes waited")


def test_the_first_connection_is_tried_until_there_is_a_broker(
    start_broker: Callable[..., Broker], open_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    with caplog.at_level(logging.INFO, logger="edge_sser.mqtt"):
        sink = open_sink(port)
        eventually(lambda: sink.report.link is LinkState.UNREACHABLE, "says that there is none")
        time.sleep(0.5)  # several attempts, without a report
        start_broker(port=port)
        eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    lines = [record.getMessage() for record in caplog.records if record.name == "edge_sser.mqtt"]
    assert len([line for line in lines if "refused" in line]) == 1
    assert len([line for line in lines if "connected (MQTT 5)" in line]) == 1


def test_one_fault_that_shows_in_two_ways_is_said_once_in_each_however_often_it_is_tried(
    open_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    def turn_away() -> None:
        nonlocal tries
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                client.recv(65536)
                if tries % 2:  # a reset, as from a proxy whose broker is gone; else a proper end
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                tries += 1

    with caplog.at_level(logging.INFO, logger="edge_sser.mqtt"), socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=turn_away, daemon=True).start()
        reports: list[MqttReport] = []
        open_sink(listener.getsockname()[1], hooks={"on_change": reports.append})
        eventually(lambda: tries >= 8, "it is tried again and again")
        lines = [record.getMessage() for record in caplog.records if "hangs up" in record.getMessage()]
        count = len(reports)  # a port that is closed is a third fault
        listener.shutdown(socket.SHUT_RDWR)
    assert len(lines) == len(set(lines)) == 2
    assert 0 < count <= 2


def test_a_disk_that_hangs_delays_neither_the_audio_nor_the_connection(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang, put = threading.Event(), Outbox.put

    def slow_put(self: Outbox, records: Any) -> None:
        if records:
            assert hang.wait(30)
        put(self, records)

    monkeypatch.setattr(Outbox, "put", slow_put)
    subscriber = start_subscriber(broker.port)
    sink = open_sink(broker.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    for number in range(5):
        emit(sink, episode(number))
    emit(sink, reading(1))
    eventually(lambda: subscriber.on(f"edge-sser/{NODE}/desk/reading"), "readings go on while the disk hangs")
    assert subscriber.episodes() == []
    hang.set()
    eventually(lambda: len(subscriber.episodes()) == 5, "the episodes follow")


def test_an_outbox_that_fails_is_reported_episodes_go_on_and_recovery_is_reported(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sser.sinks.mqtt.outbox.RETRY_SECONDS", 0.1)
    in_the_way = tmp_path / "state"
    in_the_way.write_text("a file where the directory should be")
    reports: list[MqttReport] = []
    subscriber = start_subscriber(broker.port)
    sink = open_sink(broker.port, hooks={"on_change": reports.append})
    emit(sink, episode(1))
    eventually(lambda: len(subscriber.episodes()) == 1, "delivered from memory")
    eventually(lambda: any(report.storage_fault for report in reports), "reported")
    assert "in memory only" in sink.report.trouble
    assert "in memory only" in sink.trouble
    in_the_way.unlink()
    eventually(lambda: reports[-1].storage_fault is None, "recovery reported")
    assert sink.report.trouble == ""
    emit(sink, episode(2))
    eventually(lambda: len(subscriber.episodes()) == 2, "delivered")
    assert (in_the_way / "outbox.db").exists()


def test_nothing_is_left_open_after_many_reconnections(broker: Broker, open_sink: Start) -> None:
    cable = Cable(broker.port)
    sink = open_sink(cable.port)

    def cut_and_return() -> int:
        seen = sink.report.connections
        cable.cut()
        eventually(lambda: sink.report.connections > seen, "comes back")
        eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
        return sum("socket" in os.readlink(f"/proc/self/fd/{fd}") for fd in open_files())

    def open_files() -> list[str]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                os.readlink(f"/proc/self/fd/{fd}")
                found.append(fd)
        return found

    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    threads = threading.active_count
    first = cut_and_return()
    counts = [cut_and_return() for _ in range(10)]
    eventually(lambda: cut_and_return() <= first, f"no descriptor more than at first ({first}): {counts}")
    assert {"edge-sser-mqtt", "edge-sser-outbox"} <= {thread.name for thread in threading.enumerate()}
    assert threads() < 40
    cable.close()
