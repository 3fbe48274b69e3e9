"""Brokers with limits of their own: what they say is kept to, and what is lost is told."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mqtt_rig import NODE, Broker, Cable, Subscriber, emit, episode, eventually, gaps, health, once_each, reading
from paho.mqtt.enums import MQTTProtocolVersion

from edge_sser.settings.broker import BrokerAddress
from edge_sser.sinks.mqtt.client import MAX_RECEIVED_BYTES
from edge_sser.sinks.mqtt.connection import Connection, Message
from edge_sser.sinks.mqtt.sink import LinkState, MqttSink
from edge_sser.sinks.mqtt.terms import Terms

StartBroker = Callable[..., Broker]
Subscribe = Callable[..., Subscriber]
Start = Callable[..., MqttSink]
COMMAND = f"edge-sser/{NODE}/listen/set"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "edge_sser.mqtt"]


@pytest.mark.parametrize("limit", [1, 2, 10, 19])
def test_no_more_messages_are_under_way_than_the_broker_allows(
    start_broker: StartBroker, start_subscriber: Subscribe, open_sink: Start, limit: int
) -> None:
    broker = start_broker("allow_anonymous true", f"max_inflight_messages {limit}")
    subscriber = start_subscriber(broker.port)
    sink = open_sink(broker.port)
    for number in range(60):
        emit(sink, episode(number))
        emit(sink, reading(number))
    eventually(lambda: len(once_each(subscriber.episodes())) == 60, "every episode arrives")
    assert [message.json["id"] for message in once_each(subscriber.episodes())] == [episode(n).id for n in range(60)]
    assert gaps(subscriber.episodes()) == []
    eventually(lambda: sink.report.outbox_depth == 0, "acknowledged")
    assert sink.report.connections == 1


def test_a_broker_without_retained_messages_gets_everything_and_is_told_of(
    start_broker: StartBroker, start_subscriber: Subscribe, open_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    broker = start_broker("allow_anonymous true", "retain_available false")
    subscriber = start_subscriber(broker.port)
    with caplog.at_level(logging.INFO):
        sink = open_sink(broker.port)
        eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
        emit(sink, reading(1))
        emit(sink, health())
        emit(sink, episode(1))
        for kind in ("reading", "health", "episode"):
            eventually(lambda kind=kind: subscriber.on(f"edge-sser/{NODE}/desk/{kind}"), kind)
    assert sink.report.connections == 1
    assert len([line for line in lines(caplog) if "keeps no retained messages" in line]) == 1


def test_a_broker_of_qos_0_gets_everything_and_is_told_of(
    start_broker: StartBroker, start_subscriber: Subscribe, open_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    broker = start_broker("allow_anonymous true", "max_qos 0")
    subscriber = start_subscriber(broker.port, qos=0)
    with caplog.at_level(logging.INFO):
        sink = open_sink(broker.port)
        for number in range(100):
            emit(sink, episode(number))
        emit(sink, health())
        eventually(lambda: sink.report.outbox_depth == 0 and sink.report.stored == 101, "the outbox is emptied")
    eventually(lambda: len(subscriber.episodes()) == 100, "every episode arrives")
    assert len([line for line in lines(caplog) if "takes QoS 0 only" in line]) == 1


def test_with_qos_0_an_episode_leaves_the_outbox_only_when_the_network_has_taken_it(
    start_broker: StartBroker, open_sink: Start
) -> None:
    broker = start_broker("allow_anonymous true", "max_qos 0")
    cable = Cable(broker.port)
    sink = open_sink(cable.port, discovery=False)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    cable.hold()
    for number in range(3000):
        emit(sink, health(source=f"mic{number}", detail="x" * 4000))
    eventually(lambda: sink.report.stored == 3000, "stored")
    time.sleep(1.0)
    assert sink.report.outbox_depth > 100
    cable.cut()
    cable.release()
    cable.close()


def test_a_message_that_the_broker_calls_too_large_is_given_up_counted_and_told_once(
    start_broker: StartBroker, start_subscriber: Subscribe, open_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    broker = start_broker("allow_anonymous true", "message_size_limit 900")  # its answer is a code PUBACK never has
    subscriber = start_subscriber(broker.port)
    topic = f"edge-sser/{NODE}/desk/health"
    with caplog.at_level(logging.INFO):
        sink = open_sink(broker.port, discovery=False)
        for _ in range(3):
            emit(sink, health(detail="x" * 900))
        emit(sink, health())
        emit(sink, episode(1))
        eventually(lambda: subscriber.episodes() and subscriber.on(topic), "what is small enough arrives")
        eventually(lambda: sink.report.outbox_depth == 0, "nothing waits")
        eventually(lambda: sink.report.refused == (), "accepted again")
    assert sink.report.lost_now == 3
    assert "3 events were lost" in sink.report.trouble
    assert sink.report.connections == 1
    told = [line for line in lines(caplog) if "Packet too large; the message is given up" in line]
    assert len(told) == 1


def test_a_shorter_keepalive_of_the_broker_is_kept(
    start_broker: StartBroker, open_sink: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_sser.sinks.mqtt.link.TICK_SECONDS", 0.02)
    monkeypatch.setattr("paho.mqtt.client.time_func", lambda: time.monotonic() * 20)  # a second is 20 of paho's
    broker = start_broker("allow_anonymous true", "max_keepalive 10", "log_type all")
    sink = open_sink(broker.port, keepalive_seconds=3600)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    eventually(lambda: broker.log_text().count("Received PINGREQ") >= 3, "pings come every half second")
    assert sink.report.connections == 1


class Scripted:
    """A broker made of answers: one for each kind of packet, by the level of the protocol."""

    def __init__(self, connack: Callable[[int], bytes], puback: Callable[[bytes], bytes] = lambda mid: b"") -> None:
        self._connack, self._puback = connack, puback
        self.levels: list[int] = []
        self.keepalives: list[int] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._server.accept()
                threading.Thread(target=self._talk, args=(link,), daemon=True).start()

    def _talk(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError), link:
            stream = link.makefile("rb")
            while head := stream.read(1):
                size = shift = 0
                while (byte := stream.read(1)[0]) & 0x80:
                    size, shift = size | (byte & 0x7F) << shift, shift + 7
                body = stream.read(size | byte << shift)
                if head[0] >> 4 == 1:
                    self.levels.append(body[6])
                    self.keepalives.append(int.from_bytes(body[8:10], "big"))
                    answer = self._connack(body[6])
                    if not answer:
                        return
                    link.sendall(answer)
                elif head[0] >> 4 == 3 and head[0] & 6:
                    length = int.from_bytes(body[:2], "big")
                    link.sendall(self._puback(body[2 + length : 4 + length]))

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    brokers: list[Scripted] = []

    def start(*answers: Any) -> Scripted:
        brokers.append(Scripted(*answers))
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.close()


@pytest.mark.parametrize("code", [0x01, 0x11, 0x7F, 0x80, 0x8B, 0x95, 0x9E, 0xA2, 0xFF])
def test_any_reason_code_in_an_acknowledgement_is_an_answer(
    scripted: Callable[..., Scripted], open_sink: Start, code: int
) -> None:
    broker = scripted(lambda _level: b"\x20\x03\0\0\0", lambda mid: b"\x40\x04" + mid + bytes([code, 0]))
    sink = open_sink(broker.port, discovery=False)
    emit(sink, episode(1))
    if code < 0x80:
        eventually(lambda: sink.report.stored and not sink.report.outbox_depth, "taken for a success")
    else:
        eventually(lambda: any("episode" in topic for topic, _ in sink.report.refused), "taken for a refusal")
    assert sink.report.connections == 1
    assert sink.report.link is LinkState.CONNECTED


@pytest.mark.parametrize("code", [0x83, 0x96, 0xF0])
def test_any_reason_code_that_refuses_a_connection_is_told(
    scripted: Callable[..., Scripted], open_sink: Start, code: int
) -> None:
    broker = scripted(lambda _level: b"\x20\x03\0" + bytes([code, 0]))
    sink = open_sink(broker.port)
    eventually(lambda: "refuses the connection" in sink.report.detail, "told")
    assert set(broker.levels) == {5}


def test_a_broker_that_finds_the_last_will_too_large_is_reached_without_one(
    scripted: Callable[..., Scripted], open_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([b"\x20\x03\0\x95\0"])
    broker = scripted(lambda _level: next(answers, b"\x20\x03\0\0\0"))
    with caplog.at_level(logging.INFO):
        sink = open_sink(broker.port)
        eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
        eventually(lambda: any("as large as the last will" in line for line in lines(caplog)), "told")
    assert broker.levels == [5, 5]


def test_a_broker_of_3_1_1_that_rejects_the_id_is_tried_with_a_short_keepalive(
    scripted: Callable[..., Scripted], open_sink: Start
) -> None:
    answers = iter([b"\x20\x02\0\x02"])  # what mosquitto documents for a keepalive above `max_keepalive`
    broker = scripted(lambda _level: next(answers, b"\x20\x02\0\0"))
    sink = open_sink(broker.port, version="3.1.1")
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    assert broker.keepalives == [30, 10]


@pytest.mark.parametrize("answer", [b"", b"\x20\x02\0\x01", b"\x20\x03\0\x84\0"])
def test_a_broker_that_does_not_know_mqtt_5_is_spoken_to_in_3_1_1_however_it_says_so(
    scripted: Callable[..., Scripted], open_sink: Start, answer: bytes
) -> None:
    broker = scripted(lambda level: answer if level == 5 else b"\x20\x02\0\0", lambda mid: b"\x40\x02" + mid)
    sink = open_sink(broker.port)
    emit(sink, episode(1))
    eventually(lambda: sink.report.stored and not sink.report.outbox_depth, "delivered")
    assert sink.report.detail == "MQTT 3.1.1"


@pytest.mark.parametrize(("version", "level"), [("3.1.1", 4), (5, 5)])
def test_the_version_can_be_chosen_by_hand(
    scripted: Callable[..., Scripted], open_sink: Start, version: Any, level: int
) -> None:
    broker = scripted(lambda _level: b"")
    open_sink(broker.port, version=version)
    eventually(lambda: len(broker.levels) > 4, "tried again and again")
    assert set(broker.levels) == {level}


def test_a_message_of_megabytes_takes_little_memory_and_is_ignored_under_3_1_1_too(
    broker: Broker, start_subscriber: Subscribe, open_sink: Start, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = start_subscriber(broker.port, "nothing")
    publisher.publish(COMMAND, b"O" * 20_000_000, retain=True)
    with caplog.at_level(logging.WARNING):
        sink = open_sink(broker.port, version="3.1.1")
        eventually(lambda: any("ignored" in line for line in lines(caplog)), "the retained one is passed over")
    for _ in range(25):  # more than mosquitto lets wait for an acknowledgement
        publisher.publish(COMMAND, b"O" * 100_000)
    publisher.publish(COMMAND, b"OFF")
    eventually(lambda: not sink.switch.on, "a command behind it is applied")
    assert sink.report.connections == 1


def test_of_a_huge_packet_little_is_ever_in_memory() -> None:
    size, topic = 50_000_000, COMMAND.encode()
    length = bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128, size >> 21])
    packet = b"\x30" + length + struct.pack(">H", len(topic)) + topic
    packet += b"O" * (size - 2 - len(topic))
    with socket.create_server(("127.0.0.1", 0)) as server:
        connection = Connection(
            address=BrokerAddress("127.0.0.1", server.getsockname()[1], tls=False, username=None),
            client_id="c",
            version=MQTTProtocolVersion.MQTTv311,
            terms=Terms(keepalive_seconds=30),
            password=None,
            tls=None,
            will=Message(topic="will", payload=b"", qos=1, retain=True),
        )
        connection.open()
        peer, _ = server.accept()
        threading.Thread(target=peer.sendall, args=(b"\x20\x02\0\0" + packet,), daemon=True).start()
        most = 0
        while not (received := connection.take_received()):
            connection.step()
            most = max(most, len(connection._client._in_packet["packet"]))
            assert connection.alive
        peer.close()
        connection.close()
    assert MAX_RECEIVED_BYTES <= most <= 2 * MAX_RECEIVED_BYTES
    assert len(received[0][1]) <= 2 * MAX_RECEIVED_BYTES
