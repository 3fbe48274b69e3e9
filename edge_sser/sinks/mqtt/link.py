"""A link to an MQTT broker that comes back by itself.

One thread owns the MQTT client: it connects, waits on the socket, publishes and hears. Nothing else touches the client,
so that a name server, a TLS handshake or a full socket that takes its time delays nobody but this thread. paho-mqtt
serves as the protocol engine (its loop_read, loop_write and loop_misc). Every connection gets a new client and nothing
is carried over: what must survive is in the outbox, and comes again from there.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from paho.mqtt.enums import MQTTProtocolVersion

from edge_sser.errors import EdgeSserError
from edge_sser.settings.schema import BrokerAddress
from edge_sser.sinks.mqtt.backoff import STABLE_SECONDS, Backoff
from edge_sser.sinks.mqtt.connection import Connection, Message, Tag
from edge_sser.sinks.mqtt.diagnosis import (
    UNSUPPORTED_VERSION,
    LinkState,
    LinkStatus,
    after_connection,
    after_error,
)

log = logging.getLogger("edge_sser.mqtt")

BRIEF_CONNECTIONS = 3  # so many in a row that did not hold are no accident
CONNACK_SECONDS = 10.0  # for the broker to answer the first packet
ACK_SECONDS = 60.0  # for the broker to acknowledge a message, before the connection is given up
TICK_SECONDS = 1.0  # how often the keepalive is looked at


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """Where to connect, and as what.

    Attributes:
        password: called for every connection, since it may have changed.
        tls: likewise; None for a connection without TLS.
        subscriptions: topics and their QoS.
    """

    address: BrokerAddress
    client_id: str
    keepalive_seconds: int
    retry_min_seconds: float
    retry_max_seconds: float
    password: Callable[[], str | None]
    tls: Callable[[], ssl.SSLContext | None]
    subscriptions: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkHooks:
    """What the link calls, in its own thread. None of them may wait.

    Attributes:
        will: the last will of a connection about to be made; None for none.
        greeting: what to publish first on every connection.
        up: a connection stands; its number goes into `send`.
        down: it is gone, and everything not acknowledged with it.
        answered: the broker took the message with this topic and tag, or refused it for a reason.
        heard: topic, payload, whether it is a retained one from before.
        changed: how it stands now.
        died: the thread has ended because of a fault in this program.
    """

    will: Callable[[], Message | None]
    greeting: Callable[[], Sequence[Message]]
    up: Callable[[int], None]
    down: Callable[[], None]
    answered: Callable[[str, Tag, str | None], None]
    heard: Callable[[str, bytes, bool], None]
    changed: Callable[[LinkStatus], None]
    died: Callable[[Exception], None]


@dataclass(frozen=True, slots=True)
class _End:
    """How an attempt or a connection ended."""

    standing: LinkStatus
    held_seconds: float = 0.0  # how long the connection stood
    older_version: bool = False  # the broker does not know MQTT 5


class BrokerLink:
    """Keeps a connection to a broker, for ever."""

    def __init__(self, options: LinkOptions, hooks: LinkHooks) -> None:
        self._options = options
        self._hooks = hooks
        self._outgoing: deque[tuple[int | None, Message, Tag]] = deque()
        self._latest: dict[str, Message] = {}
        self._latest_lock = threading.Lock()
        self._generation = 0
        self._connected = False
        self._standing = LinkStatus(LinkState.CONNECTING, "")
        self._said: set[LinkStatus] = set()  # since the last connection
        self._stop = threading.Event()
        self._farewell: Sequence[Message] = ()
        self._farewell_until = 0.0
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="edge-sser-mqtt", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us."""
        return self._connected

    def start(self) -> None:
        """Begins to connect. Returns at once."""
        self._thread.start()

    def send(self, message: Message, tag: Tag = None, generation: int | None = None) -> None:
        """Publishes on the present connection. From any thread; never waits.

        Args:
            message: what.
            tag: comes back in `answered`.
            generation: the connection this is for; on any other the message is dropped without an answer.
        """
        self._outgoing.append((generation, message, tag))
        self._wake()

    def offer(self, message: Message) -> bool:
        """Publishes as soon as the socket has room; until then a newer message for the topic takes its place.

        Returns:
            Whether nothing was dropped: there is a connection, and no older message was replaced.
        """
        with self._latest_lock:
            if not self._connected:
                return False
            replaced = message.topic in self._latest
            self._latest[message.topic] = message
        self._wake()
        return not replaced

    def close(self, farewell: Sequence[Message], timeout: float) -> None:
        """Publishes the last messages if there is a connection, takes leave and ends the thread."""
        self._farewell = farewell
        self._farewell_until = time.monotonic() + timeout
        self._stop.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout + 1.0)

    def _wake(self) -> None:
        with suppress(OSError):  # full: it is awake already; closed: it is gone
            self._wake_w.send(b"\0")

    # ---- the thread

    def _run(self) -> None:
        try:
            self._keep_connected()
        except Exception as error:
            log.exception("the MQTT thread has failed")
            self._hooks.died(error)
        finally:
            self._connected = False
            self._wake_r.close()
            self._wake_w.close()

    def _keep_connected(self) -> None:
        brief, version = 0, MQTTProtocolVersion.MQTTv5
        backoff = Backoff(self._options.retry_min_seconds, self._options.retry_max_seconds)
        while not self._stop.is_set():
            end = self._connect_and_serve(version)
            if self._stop.is_set():
                break
            if end.older_version and version == MQTTProtocolVersion.MQTTv5:
                version = MQTTProtocolVersion.MQTTv311
                continue
            version = MQTTProtocolVersion.MQTTv5
            brief = brief + 1 if 0.0 < end.held_seconds < STABLE_SECONDS else 0
            hint = f"does another client use the id {self._options.client_id}?" if brief >= BRIEF_CONNECTIONS else ""
            self._change(replace(end.standing, remedy=hint) if hint else end.standing)
            self._stop.wait(backoff.wait_seconds(end.held_seconds))
        self._change(LinkStatus(LinkState.CLOSED, ""))

    def _connect_and_serve(self, version: MQTTProtocolVersion) -> _End:
        options = self._options
        try:
            connection = Connection(
                address=options.address,
                client_id=options.client_id,
                version=version,
                keepalive_seconds=options.keepalive_seconds,
                password=options.password(),
                tls=options.tls(),
                will=self._hooks.will(),
            )
            connection.open()
        except (EdgeSserError, OSError, UnicodeError) as error:
            return _End(after_error(error, options.address))
        try:
            return self._serve(connection)
        finally:
            connection.close()

    def _serve(self, connection: Connection) -> _End:
        opened = time.monotonic()
        accepted_at: float | None = None
        try:
            while connection.alive:
                self._wait(connection)
                connection.step()
                now = time.monotonic()
                if accepted_at is None:
                    if connection.accepted:
                        accepted_at = now
                        self._come_up(connection)
                    elif self._stop.is_set():
                        connection.give_up("stopping")
                    elif now - opened > CONNACK_SECONDS:
                        connection.give_up("no answer to the first packet")
                if accepted_at is not None:
                    self._exchange(connection, now)
        finally:
            self._come_down(accepted_at is not None)
        return self._explain(connection, accepted_at)

    def _wait(self, connection: Connection) -> None:
        poller = select.poll()
        poller.register(self._wake_r, select.POLLIN)
        connection.register(poller)
        poller.poll(0 if connection.has_buffered_input else int(TICK_SECONDS * 1000))
        with suppress(BlockingIOError):
            while self._wake_r.recv(4096):
                pass

    def _come_up(self, connection: Connection) -> None:
        self._generation += 1
        connection.subscribe(self._options.subscriptions)  # first: who sees the greeting can send a command
        for message in self._hooks.greeting():
            connection.publish(message, None)
        self._change(LinkStatus(LinkState.CONNECTED, f"MQTT {connection.version_name}"))
        with self._latest_lock:
            self._connected = True
        self._hooks.up(self._generation)

    def _come_down(self, was_up: bool) -> None:
        with self._latest_lock:
            self._connected = False
            self._latest.clear()
        self._outgoing.clear()
        if was_up:
            self._hooks.down()

    def _exchange(self, connection: Connection, now: float) -> None:
        for topic, tag, refusal in connection.take_answers():
            self._hooks.answered(topic, tag, refusal)
        for topic, payload, retained in connection.take_heard():
            self._hooks.heard(topic, payload, retained)
        while self._outgoing:
            generation, message, tag = self._outgoing.popleft()
            if generation is None or generation == self._generation:
                connection.publish(message, tag)
        while not connection.backlogged:
            with self._latest_lock:
                if not self._latest:
                    break
                message = self._latest.pop(next(iter(self._latest)))
            connection.publish(message, None)
        if connection.longest_wait(now) > ACK_SECONDS:
            connection.give_up("it does not acknowledge messages")
        if self._stop.is_set():
            for message in self._farewell:
                connection.publish(message, None)
            self._farewell = ()
            if connection.idle or now > self._farewell_until:
                connection.take_leave()

    # ---- saying what happened

    def _explain(self, connection: Connection, accepted_at: float | None) -> _End:
        if accepted_at is not None:
            lost = LinkStatus(LinkState.UNREACHABLE, f"connection lost: {connection.ended_because}")
            return _End(lost, held_seconds=time.monotonic() - accepted_at)
        older = connection.refusal is not None and connection.refusal[0] == UNSUPPORTED_VERSION
        return _End(after_connection(connection, self._options.address), older_version=older)

    def _change(self, standing: LinkStatus) -> None:
        """Says how it stands, but nothing twice between two connections: one fault may show in several ways."""
        known = standing in self._said
        if known and standing.state is self._standing.state:
            return
        self._standing = standing
        where = f"MQTT broker {self._options.address}"
        if standing.state is LinkState.CONNECTED:
            self._said.clear()
            log.info("%s: connected (%s)", where, standing)
        elif standing.state is not LinkState.CLOSED and not known:
            self._said.add(standing)
            log.warning("%s: %s; trying again", where, standing)
        self._hooks.changed(standing)
