"""One MQTT connection, from the TCP handshake to its end: paho-mqtt without its threads, queues and callbacks."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge_sser.settings.broker import BrokerAddress
from edge_sser.sinks.mqtt.client import (
    MAX_RECEIVED_BYTES,
    PACKET_TOO_LARGE,
    UNSPECIFIED_ERROR,
    Refusal,
    TolerantClient,
    reason_name,
)
from edge_sser.sinks.mqtt.terms import Terms

OPEN_SECONDS = 10.0  # timeout of the TCP handshake, and again of the TLS handshake
PACKET_OVERHEAD_BYTES = 64  # of a PUBLISH beside topic, payload and properties, at most

Tag = object


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to publish.

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
        """Size of the packet, at most."""
        extra = sum(len(name.encode()) + len(value.encode()) + 5 for name, value in self.properties)
        return len(self.topic.encode()) + len(self.payload) + extra + PACKET_OVERHEAD_BYTES


class Connection:
    """A connection that is opened once, stepped until it is no longer alive, and closed. Belongs to one thread.

    Attributes:
        terms: as given, and from the broker's acceptance on also as the broker names them.
        accepted: True when the broker has accepted the connection.
        refusal: code and name of the reason when the broker has refused it.
        disconnect_code: reason code of the broker's DISCONNECT; None without one.
        end_reason: why the connection is no longer alive, for a person.
    """

    def __init__(
        self,
        *,
        address: BrokerAddress,
        client_id: str,
        version: MQTTProtocolVersion,
        terms: Terms,
        password: str | None,
        tls: ssl.SSLContext | None,
        will: Message | None,
    ) -> None:
        self._address = address
        self._version = version
        self.terms = terms
        self._waiting: deque[tuple[Message, Tag]] = deque()  # for an acknowledgement of one before
        self._unconfirmed: list[tuple[str, Tag]] = []  # sent with QoS 0, to be done when the socket has taken them
        self._in_flight: dict[int, tuple[str, Tag, float]] = {}
        self._answers: list[tuple[str, Tag, Refusal | None]] = []
        self._received: list[tuple[str, bytes, bool]] = []
        self._subscriptions: dict[int, tuple[str, ...]] = {}
        self._aborted = False
        self.accepted = False
        self.refusal: tuple[int, str] | None = None
        self.disconnect_code: int | None = None
        self.end_reason = ""
        client = TolerantClient(CallbackAPIVersion.VERSION2, client_id, protocol=version, reconnect_on_failure=False)
        client.connect_timeout = OPEN_SECONDS
        client.max_inflight_messages_set(0)  # no queue of paho's: the broker may allow fewer
        if address.username is not None:
            client.username_pw_set(address.username, password)
        if tls is not None:
            client.tls_set_context(tls)
        if will is not None and terms.will:
            client.will_set(will.topic, will.payload, min(will.qos, terms.max_qos), will.retain and terms.retain)
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
            UnicodeError: the host is no valid DNS name.
        """
        properties = None
        if self._version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = MAX_RECEIVED_BYTES  # the broker keeps larger packets
        self._client.connect(
            self._address.host, self._address.port, self.terms.keepalive_seconds, properties=properties
        )
        sock = self._client.socket()
        if isinstance(sock, socket.socket):  # else a message waits up to 40 ms for an ACK of the one before
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def alive(self) -> bool:
        """True while there is a socket to step."""
        return not self._aborted and self._client.socket() is not None

    @property
    def version_name(self) -> str:
        """Version of the protocol: 5 or 3.1.1."""
        return "5" if self._version == MQTTProtocolVersion.MQTTv5 else "3.1.1"

    @property
    def backlogged(self) -> bool:
        """True while the socket does not take everything, so that bytes wait in memory."""
        return not self.alive or self._client.want_write()

    @property
    def idle(self) -> bool:
        """True when everything was sent and acknowledged."""
        return not self._in_flight and not self._waiting and not self._client.want_write()

    @property
    def has_buffered_input(self) -> bool:
        """True while TLS holds bytes that poll() cannot see."""
        sock = self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    @property
    def has_answers(self) -> bool:
        """True when `take_answers` would return some."""
        return bool(self._answers or (self._unconfirmed and not self.backlogged))

    def register(self, poller: select.poll) -> None:
        """Registers the socket with a poller."""
        sock = self._client.socket()
        if sock is not None:
            poller.register(sock, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))

    def step(self) -> None:
        """Reads and writes without waiting, and sends keepalive pings when they are due."""
        try:
            while self.alive and self._client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS and self.has_buffered_input:
                pass
        except Exception as error:  # of any class: paho-mqtt 2.1 parses invalid packets until something fails
            self.abort(f"it sent what is no MQTT ({type(error).__name__})")
        while self._waiting and self.alive and len(self._in_flight) < self.terms.receive_maximum:
            self._send(*self._waiting.popleft())
        if self.alive and self._client.want_write():
            self._client.loop_write()
        if self.alive:
            self._client.loop_misc()

    def publish(self, message: Message, tag: Tag) -> None:
        """Sends a message as the broker takes it, or when it takes it. The answer comes from `take_answers`.

        A message of QoS 0 gets none. One that may be sent with QoS 0 only is taken for delivered when it is written.
        """
        if not self.alive:
            return
        limit = self.terms.max_packet_bytes
        if message.packet_bytes > limit:
            refusal = Refusal(PACKET_TOO_LARGE, f"the broker takes at most {limit} bytes")
            self._answers.append((message.topic, tag, refusal))
        elif message.qos and self.terms.max_qos and len(self._in_flight) >= self.terms.receive_maximum:
            self._waiting.append((message, tag))
        else:
            self._send(message, tag)

    def _send(self, message: Message, tag: Tag) -> None:
        properties = None
        if message.properties and self._version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = list(message.properties)
        qos = min(message.qos, self.terms.max_qos)
        retain = message.retain and self.terms.retain
        info = self._client.publish(message.topic, message.payload, qos, retain, properties)
        if message.qos == 0:
            return
        if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
            self.abort("message numbers have run out")
        elif qos == 0:
            self._unconfirmed.append((message.topic, tag))
        else:
            self._in_flight[info.mid] = (message.topic, tag, time.monotonic())

    def subscribe(self, topics: Sequence[tuple[str, int]]) -> None:
        """Subscribes to topics, each with a QoS. Refusals come from `take_answers`, without a tag."""
        if topics and self.alive:
            _, mid = self._client.subscribe(list(topics))
            if mid is not None:
                self._subscriptions[mid] = tuple(topic for topic, _ in topics)

    def take_answers(self) -> list[tuple[str, Tag, Refusal | None]]:
        """Returns topic, tag, and the refusal or None, for every answer since the last call."""
        if not self.backlogged:
            self._answers += [(topic, tag, None) for topic, tag in self._unconfirmed]
            self._unconfirmed = []
        answers, self._answers = self._answers, []
        return answers

    def take_received(self) -> list[tuple[str, bytes, bool]]:
        """Returns topic, payload and the retained flag of the messages received since the last call."""
        received, self._received = self._received, []
        return received

    def unacknowledged_seconds(self, now: float) -> float:
        """Returns the seconds since the oldest message without an acknowledgement was sent; 0 without one."""
        return max((now - sent for _, _, sent in self._in_flight.values()), default=0.0)

    def abort(self, reason: str) -> None:
        """Ends the connection without DISCONNECT, so that the broker publishes the last will."""
        self.end_reason = reason
        self._aborted = True

    def disconnect(self) -> None:
        """Sends DISCONNECT: the broker then discards the last will."""
        self._client.disconnect()
        deadline = time.monotonic() + 1.0
        while self.alive and self._client.want_write() and time.monotonic() < deadline:
            self._client.loop_write()
            time.sleep(0.01)
        self.abort("closed")

    def close(self) -> None:
        """Closes the socket."""
        sock = self._client.socket()
        if sock is not None:
            with suppress(OSError):
                sock.close()
        client = self._client  # its callbacks refer to this object: break the reference cycle
        client.on_connect = client.on_disconnect = client.on_publish = None
        client.on_subscribe = client.on_message = client.on_log = None

    # ---- callbacks of paho, called by `step`

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            code, name = reason.value, str(reason)
            if self._client.reason_codes not in ((), (code,)):  # a code that paho does not know in this packet
                code = self._client.reason_codes[0]
                name = reason_name(code)
            self.refusal = (code, name)
            return
        self.accepted = True
        self._client.limit_keepalive(getattr(properties, "ServerKeepAlive", 0))
        terms = self.terms
        self.terms = replace(
            terms,
            retain=terms.retain and bool(getattr(properties, "RetainAvailable", 1)),
            max_qos=min(terms.max_qos, getattr(properties, "MaximumQoS", 2)),
            receive_maximum=getattr(properties, "ReceiveMaximum", terms.receive_maximum),
            max_packet_bytes=getattr(properties, "MaximumPacketSize", terms.max_packet_bytes),
        )

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if not flags.is_disconnect_packet_from_server:
            self.end_reason = self.end_reason or "the broker hung up"
            return
        (self.disconnect_code,) = self._client.reason_codes or (reason.value,)
        self.end_reason = self.end_reason or f"the broker says {reason_name(self.disconnect_code)}"

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        sent = self._in_flight.pop(mid, None)
        if sent is not None:  # paho calls this for QoS 0 as well
            topic, tag, _ = sent
            self._answers.append((topic, tag, _refusal((*self._client.reason_codes, reason.value)[0])))

    def _on_subscribe(self, _client: Any, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        codes = self._client.reason_codes or [reason.value for reason in reasons]
        for topic, code in zip(self._subscriptions.pop(mid, ()), codes, strict=False):
            self._answers.append((topic, None, _refusal(code)))

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):  # a topic that is not text was not subscribed to
            self._received.append((message.topic, bytes(message.payload), message.retain))

    def _on_log(self, _client: Any, _data: Any, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR:  # the one place where paho says why a socket failed
            self.end_reason = text.removeprefix("failed to receive on socket: ")


def _refusal(code: int) -> Refusal | None:
    return Refusal(code, reason_name(code)) if code >= UNSPECIFIED_ERROR else None
