"""One MQTT connection, from the TCP handshake to its end: paho-mqtt without its threads, queues and callbacks."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_sser.settings.schema import BrokerAddress

OPEN_SECONDS = 10.0  # for TCP, and again for TLS, to come about
PACKET_BYTES = 64  # what a PUBLISH takes beyond topic, payload and properties, at most
HEARD_BYTES = 65_536  # of a packet that the broker sends us, at most: a command is three bytes, and memory is small

Tag = object


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something to publish.

    Attributes:
        properties: user properties, which only MQTT 5 carries.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: tuple[tuple[str, str], ...] = ()

    @property
    def packet_bytes(self) -> int:
        """Size of its packet, at most."""
        extra = sum(len(name.encode()) + len(value.encode()) + 5 for name, value in self.properties)
        return len(self.topic.encode()) + len(self.payload) + extra + PACKET_BYTES


class Connection:
    """A connection that is opened once, stepped until it is no longer alive, and closed. Belongs to one thread.

    Attributes:
        accepted: whether the broker has let us in.
        refusal: code and name of the reason when it has not.
        ended_because: why it is no longer alive, for a person.
    """

    def __init__(
        self,
        *,
        address: BrokerAddress,
        client_id: str,
        version: MQTTProtocolVersion,
        keepalive_seconds: int,
        password: str | None,
        tls: ssl.SSLContext | None,
        will: Message | None,
    ) -> None:
        self._address = address
        self._version = version
        self._keepalive_seconds = keepalive_seconds
        self._in_flight: dict[int, tuple[str, Tag, float]] = {}
        self._answers: list[tuple[str, Tag, str | None]] = []
        self._heard: list[tuple[str, bytes, bool]] = []
        self._subscriptions: dict[int, tuple[str, ...]] = {}
        self._max_packet_bytes = 2**28
        self._given_up = False
        self.accepted = False
        self.refusal: tuple[int, str] | None = None
        self.ended_because = ""
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=version, reconnect_on_failure=False)
        client.connect_timeout = OPEN_SECONDS
        if address.username is not None:
            client.username_pw_set(address.username, password)
        if tls is not None:
            client.tls_set_context(tls)
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_log = self._on_log
        self._client = client

    def open(self) -> None:
        """Connects and sends the first packet. Waits for TCP and TLS.

        Raises:
            OSError: the broker cannot be reached or, as ssl.SSLError, not be trusted.
            UnicodeError: the host cannot be a name in DNS.
        """
        properties = None
        if self._version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = HEARD_BYTES  # what is larger stays with the broker
        self._client.connect(self._address.host, self._address.port, self._keepalive_seconds, properties=properties)
        sock = self._client.socket()
        if isinstance(sock, socket.socket):  # else a message waits up to 40 ms for TCP to confirm the one before
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def alive(self) -> bool:
        """Whether there is a socket to step."""
        return not self._given_up and self._client.socket() is not None

    @property
    def version_name(self) -> str:
        """5 or 3.1.1."""
        return "5" if self._version == MQTTProtocolVersion.MQTTv5 else "3.1.1"

    @property
    def backlogged(self) -> bool:
        """Whether the socket would not take everything, so that bytes wait in memory."""
        return not self.alive or self._client.want_write()

    @property
    def idle(self) -> bool:
        """Whether everything was sent and acknowledged."""
        return not self._in_flight and not self._client.want_write()

    @property
    def has_buffered_input(self) -> bool:
        """Whether TLS holds bytes that poll() cannot see."""
        sock = self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def register(self, poller: select.poll) -> None:
        """Adds the socket to what is waited for."""
        sock = self._client.socket()
        if sock is not None:
            poller.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))

    def step(self) -> None:
        """Reads and writes what can be read and written now, and looks after the keepalive."""
        try:
            while self.alive and self._client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS and self.has_buffered_input:
                pass
        except Exception as error:  # of any class: paho-mqtt 2.1 parses what is no MQTT until something gives way
            self.give_up(f"it sent what is no MQTT ({type(error).__name__})")
        if self.alive and self._client.want_write():
            self._client.loop_write()
        if self.alive:
            self._client.loop_misc()

    def publish(self, message: Message, tag: Tag) -> None:
        """Sends a message. For QoS 1 its answer comes from `take_answers`."""
        if not self.alive:
            return
        if message.packet_bytes > self._max_packet_bytes:
            self._answers.append((message.topic, tag, f"the broker takes at most {self._max_packet_bytes} bytes"))
            return
        properties = None
        if message.properties and self._version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = list(message.properties)
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        if message.qos == 0:
            return
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self.give_up("message numbers have run out")
        else:
            self._in_flight[info.mid] = (message.topic, tag, time.monotonic())

    def subscribe(self, topics: Sequence[tuple[str, int]]) -> None:
        """Asks for topics, each with a QoS. Refusals come from `take_answers`, without a tag."""
        if topics and self.alive:
            _, mid = self._client.subscribe(list(topics))
            if mid is not None:
                self._subscriptions[mid] = tuple(topic for topic, _ in topics)

    def take_answers(self) -> list[tuple[str, Tag, str | None]]:
        """Topic, tag and reason for a refusal, or None, of what was answered since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def take_heard(self) -> list[tuple[str, bytes, bool]]:
        """Topic, payload and whether retained, of what arrived since the last call."""
        heard, self._heard = self._heard, []
        return heard

    def longest_wait(self, now: float) -> float:
        """Seconds since the oldest message that is not acknowledged was sent."""
        return max((now - sent for _, _, sent in self._in_flight.values()), default=0.0)

    def give_up(self, reason: str) -> None:
        """Ends the connection without a goodbye, so that the broker publishes the last will."""
        self.ended_because = reason
        self._given_up = True

    def take_leave(self) -> None:
        """Says goodbye: the broker then forgets the last will."""
        self._client.disconnect()
        deadline = time.monotonic() + 1.0
        while self.alive and self._client.want_write() and time.monotonic() < deadline:
            self._client.loop_write()
            time.sleep(0.01)
        self.give_up("closed")

    def close(self) -> None:
        """Closes the socket."""
        sock = self._client.socket()
        if sock is not None:
            with suppress(OSError):
                sock.close()
        client = self._client  # its callbacks refer back to this object: cut the circle, so that both go at once
        client.on_connect = client.on_disconnect = client.on_publish = None
        client.on_subscribe = client.on_message = client.on_log = None

    # ---- callbacks of paho, from within `step`

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            self.refusal = (reason.value, str(reason))
            return
        self.accepted = True
        receive_maximum = getattr(properties, "ReceiveMaximum", None)
        if receive_maximum is not None and receive_maximum < self._client.max_inflight_messages:
            self._client.max_inflight_messages_set(receive_maximum)
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", None) or self._max_packet_bytes

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        told = flags.is_disconnect_packet_from_server
        self.ended_because = self.ended_because or (f"the broker says {reason}" if told else "the broker hung up")

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        sent = self._in_flight.pop(mid, None)
        if sent is not None:  # paho calls this for QoS 0 as well
            topic, tag, _ = sent
            self._answers.append((topic, tag, str(reason) if reason.is_failure else None))

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        for topic, reason in zip(self._subscriptions.pop(mid, ()), reasons, strict=False):
            self._answers.append((topic, None, str(reason) if reason.is_failure else None))

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):  # a topic that is not text is none of ours
            self._heard.append((message.topic, bytes(message.payload), message.retain))

    def _on_log(self, _client: Any, _data: Any, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR:  # the one place where paho says why a socket failed
            self.ended_because = text.removeprefix("failed to receive on socket: ")
