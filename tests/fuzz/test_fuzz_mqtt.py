"""Random messages from the bus: only ON and OFF count, nothing crashes, nothing fills memory, disk or log."""

from __future__ import annotations

import itertools
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from daemon_process import Daemon
from hostile import check_message, examples
from hypothesis import given
from hypothesis import strategies as st
from models import write_model
from mqtt_rig import NODE, Broker, Subscriber, emit, episode, eventually, free_port
from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTProtocolVersion

from edge_sser.daemon.log import LINES_A_MINUTE
from edge_sser.settings.broker import BrokerAddress
from edge_sser.sinks.mqtt.connection import MAX_RECEIVED_BYTES, Connection, Message
from edge_sser.sinks.mqtt.link import LinkState
from edge_sser.sinks.mqtt.sink import MqttSink
from edge_sser.sinks.mqtt.terms import Terms

SET = f"edge-sser/{NODE}/listen/set"
ANNOUNCEMENT = "homeassistant/status"
Start = Callable[..., MqttSink]

PAYLOADS = (
    st.sampled_from([b"ON", b"OFF", b"on", b"OFF\n", b"ON\0", b"\x1b[2J", b"\xef\xbb\xbfON", b"1", b"{}", b"ONOFF"])
    | st.binary(max_size=60)
    | st.integers(0, MAX_RECEIVED_BYTES - 1_000).map(lambda size: b"O" * size)
)
COMMANDS = st.lists(st.tuples(PAYLOADS, st.booleans()), max_size=15)  # payload, retained


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="edge_sser"):
        yield caplog


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the log lines, each line legible on a terminal."""
    said = [record.getMessage() for record in caplog.records]
    for line in said:
        check_message(line)
    return said


def test_any_commands_through_a_broker(
    broker: Broker,
    start_subscriber: Callable[..., Subscriber],
    open_sink: Start,
    warnings: pytest.LogCaptureFixture,
) -> None:
    publisher = start_subscriber(broker.port, "nothing")
    sink = open_sink(broker.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    batch = itertools.count()

    @examples(15)
    @given(commands=COMMANDS)
    def try_any(commands: list[tuple[bytes, bool]]) -> None:
        warnings.clear()
        before = sink.switch.on
        for payload, retained in commands:
            publisher.publish(SET, payload, retain=retained)
        last = f"last {next(batch)}".encode()
        publisher.publish(SET, last)
        eventually(lambda: any(repr(last) in line for line in lines(warnings)), "the last one is received")
        # A broker forwards a retained message to present subscribers like any other.
        decisions = [payload for payload, _ in commands if payload in (b"ON", b"OFF")]
        expected = decisions[-1] == b"ON" if decisions else before
        eventually(lambda: sink.switch.on is expected, "the last good one is applied")
        ignored = [line for line in lines(warnings) if line.startswith("ignored")]
        assert len(ignored) == 1 + len(commands) - len(decisions)

    try_any()
    assert sink.report.connections == 1


def test_a_message_of_megabytes_stays_with_the_broker(
    broker: Broker,
    start_subscriber: Callable[..., Subscriber],
    open_sink: Start,
    warnings: pytest.LogCaptureFixture,
) -> None:
    publisher = start_subscriber(broker.port, "nothing")
    publisher.publish(SET, b"O" * 20_000_000, retain=True)  # comes with every subscription
    sink = open_sink(broker.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    for topic in (SET, ANNOUNCEMENT):
        publisher.publish(topic, b"O" * 5_000_000)
    publisher.publish(SET, b"OFF")
    eventually(lambda: not sink.switch.on, "a command is applied")
    assert not [line for line in lines(warnings) if line.startswith("ignored")]
    assert sink.report.connections == 1


@examples(30)
@given(messages=st.lists(st.tuples(st.sampled_from([SET, ANNOUNCEMENT]) | st.text(), PAYLOADS, st.booleans())))
def test_anything_heard_at_any_rate(
    open_sink: Start, warnings: pytest.LogCaptureFixture, messages: list[tuple[str, bytes, bool]]
) -> None:
    warnings.clear()
    sink = open_sink(free_port())
    before = sink.switch.on
    for topic, payload, retained in messages:
        sink._node.on_message(topic, payload, retained)
    decisions = [
        payload == b"ON" for topic, payload, retained in messages if topic == SET and not retained and len(payload) < 4
        if payload in (b"ON", b"OFF")
    ]  # fmt: skip
    expected = decisions[-1] if decisions else before
    eventually(lambda: sink.switch.on is expected, "the last good one is applied")
    emit(sink, episode(1))  # it still works
    eventually(lambda: sink.report.stored == 1, "an episode is stored")
    lines(warnings)
    sink.close()


def test_episodes_are_stored_while_commands_pour_in(open_sink: Start) -> None:
    sink = open_sink(free_port())
    stop = threading.Event()

    def pour() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            sink._node.on_message(SET, b"OFF" if number % 2 else b"ON", False)
            sink._node.on_message(ANNOUNCEMENT, b"online", False)

    pouring = threading.Thread(target=pour)
    pouring.start()
    try:
        for number in range(8):
            emit(sink, episode(number))
            eventually(lambda number=number: sink.report.stored > number, "an episode is stored")
    finally:
        stop.set()
        pouring.join()


def test_many_announcements_get_few_answers(
    broker: Broker, start_subscriber: Callable[..., Subscriber], open_sink: Start
) -> None:
    subscriber = start_subscriber(broker.port, "homeassistant/device/#", f"edge-sser/{NODE}/desk/episode")
    sink = open_sink(broker.port)
    eventually(lambda: subscriber.received, "the first answer comes with the connection")
    for _ in range(1_000):
        sink._node.on_message(ANNOUNCEMENT, b"online", False)
    emit(sink, episode(1))
    eventually(subscriber.episodes, "the episode after the answers")
    assert 2 <= len(subscriber.received) - len(subscriber.episodes()) < 100


def test_a_flood_of_messages_is_a_few_lines_in_the_log_and_audio_goes_on(
    broker: Broker, start_subscriber: Callable[..., Subscriber], tmp_path: Path, speech: Path
) -> None:
    publisher = start_subscriber(broker.port, "nothing")
    model = write_model(tmp_path / "tiny.onnx")
    daemon = Daemon(
        *("--model", str(model), "--source", str(speech), "--log-level", "info"),
        *("--mqtt", f"mqtt://127.0.0.1:{broker.port}"),
        environment={"STATE_DIRECTORY": str(tmp_path / "state")},
    )
    try:
        daemon.await_readings(1)
        before = len(daemon.log)
        junk = [b"ON", b"OFF", b"\x1b[2J\nedge-sser: error: all is lost", b"off", b"x" * 1_000]
        for number in range(2_000):
            publisher.client.publish(SET, junk[number % len(junk)])
            publisher.client.publish(ANNOUNCEMENT, b"online")
        publisher.publish(SET, b"OFF")
        daemon.await_readings(2)
        assert daemon.stop() == 0
    finally:
        daemon.kill()
    said = daemon.log[before:]
    kinds = 3  # ignored, turned on or off, a recording goes on
    assert 3 <= len(said) <= kinds * LINES_A_MINUTE, said
    assert any("more such lines are left out" in line for line in said)
    for line in said:
        check_message(line)


# ---- a broker that is none


def packet(kind: int, body: bytes) -> bytes:
    """An MQTT packet of any kind."""
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (128 if size else 0))
        if not size:
            return bytes([kind]) + bytes(length) + body


def publish(topic: bytes, rest: bytes) -> bytes:
    return packet(0x30, struct.pack(">H", len(topic)) + topic + rest)


PACKETS = st.builds(packet, st.integers(0, 255), st.binary(max_size=40)) | st.builds(
    publish, st.sampled_from([SET.encode(), b"", b"\xff\xfe"]), st.binary(max_size=12)
)


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@examples(50)
@given(
    version=st.sampled_from([MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311]),
    packets=st.lists(PACKETS, max_size=5),
    tail=st.binary(max_size=10),
    accepts=st.booleans(),
)
def test_what_is_no_mqtt_ends_the_connection_and_nothing_else(
    listener: socket.socket, version: MQTTProtocolVersion, packets: list[bytes], tail: bytes, accepts: bool
) -> None:
    connection = Connection(
        address=BrokerAddress("127.0.0.1", listener.getsockname()[1], tls=False, username=None),
        client_id="fuzz",
        version=version,
        terms=Terms(keepalive_seconds=30),
        password=None,
        tls=None,
        will=Message(topic="will", payload=b"", qos=1, retain=True),
    )
    connection.open()
    peer, _ = listener.accept()
    welcome = b"\x20\x03\0\0\0" if version == MQTTProtocolVersion.MQTTv5 else b"\x20\x02\0\0"
    with peer:
        peer.sendall((welcome if accepts else b"") + b"".join(packets) + tail)
        peer.shutdown(socket.SHUT_WR)
        eventually(lambda: connection.step() or not connection.alive, "the end is noticed")
    check_message(connection.end_reason)
    connection.take_received()
    connection.take_answers()
    connection.close()


def test_a_parser_that_gives_way_is_a_lost_connection(
    broker: Broker, open_sink: Start, monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    """paho-mqtt 2.1 raises whatever error it runs into; here it does so once, whichever version there is."""
    sink = open_sink(broker.port)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    read = Client.loop_read
    broken: list[float] = []

    def loop_read(client: Client, *arguments: int) -> object:
        if not broken:
            broken.append(time.monotonic())
            raise struct.error("bad char in struct format")
        return read(client, *arguments)

    monkeypatch.setattr(Client, "loop_read", loop_read)
    with suppress(StopIteration):
        emit(sink, episode(1))  # the broker's answer wakes the link
    eventually(lambda: sink.report.connections == 2, "connects again")
    assert any("it sent what is no MQTT (error)" in line for line in lines(warnings))
    eventually(lambda: sink.report.outbox_depth == 0, "the episode arrives")
