"""A link to an MQTT broker that reconnects by itself.

One thread owns the MQTT client: it connects, waits on the socket, publishes and receives. No other thread touches the
client, so that a slow name server, TLS handshake or full socket delays this thread only. paho-mqtt serves as the
protocol engine (its loop_read, loop_write and loop_misc). Every connection gets a new client, and nothing is carried
over: messages that must survive are in the outbox, which sends them again.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from edge_sser.errors import EdgeSserError
from edge_sser.sinks.mqtt.backoff import STABLE_SECONDS, Backoff
from edge_sser.sinks.mqtt.client import Refusal
from edge_sser.sinks.mqtt.connection import Connection, Message, Tag
from edge_sser.sinks.mqtt.diagnosis import LinkState, LinkStatus, status_of_end, status_of_error
from edge_sser.sinks.mqtt.negotiation import Negotiation
from edge_sser.sinks.mqtt.options import LinkOptions
from edge_sser.sinks.mqtt.terms import losses

log = logging.getLogger("edge_sser.mqtt")

BRIEF_CONNECTIONS = 3  # so many short connections in a row are no coincidence
CONNACK_SECONDS = 10.0  # timeout of the broker's answer to the first packet
ACK_SECONDS = 60.0  # timeout of an acknowledgement, after which the connection is aborted
TICK_SECONDS = 1.0  # between two checks of the keepalive


class LinkListener(Protocol):
    """Callbacks of a link, called in its thread. None of them may block. Those that return None here are optional."""

    def last_will(self) -> Message | None:
        """Returns the last will of the next connection; None for none."""
        return None

    def first_messages(self) -> Sequence[Message]:
        """Returns the messages that are published first on every connection."""

    def on_connect(self, generation: int) -> None:
        """Handles a new connection; its number goes into `BrokerLink.send`."""
        return None

    def on_disconnect(self) -> None:
        """Handles the end of the connection; messages without an answer get none any more."""
        return None

    def on_answer(self, topic: str, tag: Tag, refusal: Refusal | None) -> None:
        """Handles the acknowledgement of a message or subscription, or the broker's refusal."""

    def on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        """Handles a message from the broker."""
        return None

    def on_status(self, status: LinkStatus) -> None:
        """Handles a change of the link's status."""

    def on_failure(self, error: Exception) -> None:
        """Handles the end of the thread because of a fault in this program."""


class BrokerLink:
    """Keeps a connection to a broker until it is closed."""

    def __init__(self, options: LinkOptions) -> None:
        self._options = options
        self._listener: LinkListener  # from `start` on
        self._outgoing: deque[tuple[int | None, Message, Tag]] = deque()
        self._latest: dict[str, bytes] | None = None  # payloads by topic; None without a connection
        self._latest_lock = threading.Lock()
        self._generation = 0
        self._status = LinkStatus(LinkState.CONNECTING, "")
        self._logged: set[LinkStatus] = set()  # since the last connection
        self._losses: tuple[str, ...] = ()  # logged last
        self._negotiation = Negotiation(options.version, options.keepalive_seconds, hang_ups=options.hang_ups)
        self._stop = threading.Event()
        self._last_messages: Sequence[Message] = ()
        self._close_by = 0.0  # monotonic seconds
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="edge-sser-mqtt", daemon=True)

    def start(self, listener: LinkListener) -> None:
        """Starts to connect. Returns at once."""
        self._listener = listener
        self._thread.start()

    def send(self, message: Message, tag: Tag = None, generation: int | None = None) -> None:
        """Publishes on the current connection. From any thread; never waits.

        Args:
            message: the message.
            tag: passed to `LinkListener.on_answer`.
            generation: number of the connection; on any other the message is dropped without an answer.
        """
        self._outgoing.append((generation, message, tag))
        self._wake()

    def offer(self, topic: str, payload: bytes) -> bool:
        """Publishes with QoS 0, retained, when the socket has room; until then a newer payload replaces this one.

        Returns:
            True when nothing was dropped: there is a connection, and no older payload was replaced.
        """
        with self._latest_lock:
            if self._latest is None:
                return False
            replaced = topic in self._latest
            self._latest[topic] = payload
        self._wake()
        return not replaced

    def close(self, last_messages: Sequence[Message], timeout: float) -> None:
        """Publishes the last messages if there is a connection, disconnects, and ends the thread."""
        self._last_messages = last_messages
        self._close_by = time.monotonic() + timeout
        self._stop.set()
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout + 1.0)

    def _wake(self) -> None:
        try:  # noqa: SIM105 - `suppress` would cost three Python calls a reading
            self._wake_w.send(b"\0")
        except OSError:  # full: the thread is awake; closed: it has ended
            pass

    # ---- in the link's thread

    def _run(self) -> None:
        try:
            self._keep_connected()
        except Exception as error:
            log.exception("the MQTT thread has failed")
            self._listener.on_failure(error)
        finally:
            self._wake_r.close()
            self._wake_w.close()

    def _keep_connected(self) -> None:
        brief = 0
        backoff = Backoff(self._options.retry_min_seconds, self._options.retry_max_seconds)
        while not self._stop.is_set():
            status, connected_seconds = self._connect_and_serve()
            if self._stop.is_set():
                break
            brief = brief + 1 if 0.0 < connected_seconds < STABLE_SECONDS else 0
            if brief >= BRIEF_CONNECTIONS:
                status = replace(status, remedy=f"does another client use the id {self._options.client_id}?")
            self._set_status(status)
            self._stop.wait(backoff.wait_seconds(connected_seconds))
        self._set_status(LinkStatus(LinkState.CLOSED, ""))

    def _connect_and_serve(self) -> tuple[LinkStatus, float]:
        """Returns the status after the end of the connection, and the seconds that it lasted."""
        while True:
            try:
                connection = self._open()
            except (EdgeSserError, OSError, UnicodeError) as error:
                return status_of_error(error, self._options.address), 0.0
            try:
                connected_seconds = self._serve(connection)
            finally:
                connection.close()
            if self._stop.is_set() or not self._negotiation.learn(connection):
                return status_of_end(connection, self._options.address), connected_seconds

    def _open(self) -> Connection:
        connection = Connection(
            address=self._options.address,
            client_id=self._options.client_id,
            version=self._negotiation.version,
            terms=self._negotiation.terms,
            password=self._options.password(),
            tls=self._options.tls(),
            will=self._listener.last_will(),
        )
        connection.open()
        return connection

    def _serve(self, connection: Connection) -> float:
        """Steps a connection to its end. Returns the seconds since the broker accepted it; 0 when it never did."""
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
                        self._begin(connection)
                    elif self._stop.is_set():
                        connection.abort("stopping")
                    elif now - opened > CONNACK_SECONDS:
                        connection.abort("no answer to the first packet")
                if accepted_at is not None:
                    self._exchange(connection, now)
        finally:
            with self._latest_lock:
                self._latest = None
            self._outgoing.clear()
            if accepted_at is not None:
                self._listener.on_disconnect()
        return 0.0 if accepted_at is None else time.monotonic() - accepted_at

    def _wait(self, connection: Connection) -> None:
        poller = select.poll()
        poller.register(self._wake_r, select.POLLIN)
        connection.register(poller)
        poller.poll(0 if connection.has_buffered_input or connection.has_answers else int(TICK_SECONDS * 1000))
        with suppress(BlockingIOError):
            while self._wake_r.recv(4096):
                pass

    def _begin(self, connection: Connection) -> None:
        self._generation += 1
        connection.subscribe(self._options.subscriptions)  # first: a reader of the first messages can send a command
        for message in self._listener.first_messages():
            connection.publish(message, None)
        found = losses(connection.terms)
        self._set_status(LinkStatus(LinkState.CONNECTED, f"MQTT {connection.version_name}", losses=found))
        for loss in found if found != self._losses else ():
            log.warning("MQTT broker %s %s", self._options.address, loss)
        self._losses = found
        with self._latest_lock:
            self._latest = {}
        self._listener.on_connect(self._generation)

    def _exchange(self, connection: Connection, now: float) -> None:
        for topic, tag, refusal in connection.take_answers():
            self._listener.on_answer(topic, tag, refusal)
        for topic, payload, retained in connection.take_received():
            self._listener.on_message(topic, payload, retained)
        while self._outgoing:
            generation, message, tag = self._outgoing.popleft()
            if generation is None or generation == self._generation:
                connection.publish(message, tag)
        while not connection.backlogged:
            with self._latest_lock:
                if not self._latest:
                    break
                topic = next(iter(self._latest))
                payload = self._latest.pop(topic)
            connection.publish(Message(topic=topic, payload=payload, qos=0, retain=True), None)
        if connection.unacknowledged_seconds(now) > ACK_SECONDS:
            connection.abort("it does not acknowledge messages")
        if self._stop.is_set():
            for message in self._last_messages:
                connection.publish(message, None)
            self._last_messages = ()
            if connection.idle or now > self._close_by:
                connection.disconnect()

    def _set_status(self, status: LinkStatus) -> None:
        """Logs a status, but none twice between two connections: one fault may show in several ways."""
        known = status in self._logged
        if known and status.state is self._status.state:
            return
        self._status = status
        if status.state is LinkState.CONNECTED:
            level = logging.WARNING if self._logged else logging.INFO  # whoever read of the fault reads of its end
            self._logged.clear()
            log.log(level, "MQTT broker %s: connected (%s)", self._options.address, status)
        elif status.state is not LinkState.CLOSED and not known:
            self._logged.add(status)
            log.warning("MQTT broker %s: %s; trying again", self._options.address, status)
        self._listener.on_status(status)
