"""Simulated node: a real MQTT connection with the messages of a device.

The connection, last will, first messages, topics, events, sequence numbers, window of messages in flight and backoff
are those of edge-sser. Only the sound is made up, and messages without an acknowledgement wait in memory, not on disk.
"""

from __future__ import annotations

import random
import time
from collections import deque

from fleet_plan import FleetLog, FleetPlan
from paho.mqtt.enums import MQTTProtocolVersion

from edge_sser.events import (
    BaselineState,
    Episode,
    Health,
    HealthState,
    Level,
    Phase,
    Reading,
    Status,
    StatusState,
    timestamp,
    to_json,
)
from edge_sser.settings.broker import parse_address
from edge_sser.settings.sinks import MqttSettings
from edge_sser.sinks.mqtt.connection import Connection, Message
from edge_sser.sinks.mqtt.contract import Topics, discovery_message
from edge_sser.sinks.mqtt.link import CONNACK_SECONDS, Backoff
from edge_sser.sinks.mqtt.options import broker_tls
from edge_sser.sinks.mqtt.terms import Terms
from edge_sser.sinks.mqtt.worker import WINDOW

SOURCE = "desk"
MODEL = "sser-cnn@d0270237"
WINDOW_SECONDS = 3.0


class Node:
    """One device."""

    def __init__(self, number: int, plan: FleetPlan, log: FleetLog) -> None:
        name = f"node-{number:05d}"
        self._random = random.Random(plan.seed * 1_000_003 + number)
        scheme = "mqtt" if plan.ca_file is None else "mqtts"
        self._settings = MqttSettings(url=f"{scheme}://127.0.0.1:{plan.port}", ca_file=plan.ca_file)
        self._topics = Topics(self._settings.base_topic, name)
        self._backoff = Backoff(self._settings.retry_min_seconds, self._settings.retry_max_seconds, self._random)
        self._log = log
        self._counter = 0
        self._stress = self._random.random()
        self._seq: dict[str, int] = {}
        self._stream = f"{self._random.getrandbits(32):08x}"
        self._waiting: deque[tuple[tuple[str, int], Message]] = deque()
        self._in_flight: dict[tuple[str, int], Message] = {}
        self._has_greeted = False
        self._opened_at = 0.0
        self._accepted_at: float | None = None
        self._episode: tuple[str, float] = ("", 0.0)
        self._healthy = False
        self.number = number
        self.connection: Connection | None = None

    # ---- the connection

    def open(self) -> Connection:
        """Opens a connection. Blocks until TCP is open, so it runs in another thread.

        Raises:
            OSError: there is no broker.
        """
        settings = self._settings
        address = parse_address(settings.url)
        connection = Connection(
            address=address,
            client_id=f"edge-sser-{self._topics.node}",
            version=MQTTProtocolVersion.MQTTv5,
            terms=Terms(keepalive_seconds=settings.keepalive_seconds),
            password=None,
            tls=broker_tls(settings, address),
            will=self._status(StatusState.OFFLINE),
        )
        connection.open()
        return connection

    def attach(self, connection: Connection, now: float) -> None:
        """Takes over an open connection."""
        self.connection = connection
        self._opened_at = now

    def step(self, now: float) -> float | None:
        """Reads, writes and handles answers.

        Returns:
            None while the connection is open, otherwise its duration, seconds.
        """
        connection = self.connection
        if connection is None:
            return None
        connection.step()
        if self._accepted_at is None:
            if connection.accepted:
                self._on_connect(connection, now)
            elif now - self._opened_at > CONNACK_SECONDS:
                connection.abort("no answer to the first packet")
        for topic, tag, refusal in connection.take_answers():
            if refusal is not None:
                self._log.refusals.append(f"{topic}: {refusal.reason}")
            elif isinstance(tag, tuple):
                del self._in_flight[tag]
                self._log.waiting -= 1
        connection.take_received()
        if connection.alive:
            self._send_waiting(connection)
            return None
        duration = now - self._accepted_at if self._accepted_at is not None else 0.0
        self.close()
        return duration

    @property
    def connected(self) -> bool:
        """True when the broker has accepted the connection."""
        return self._accepted_at is not None

    def wait_seconds(self, connected_seconds: float) -> float:
        """Returns the seconds until the next attempt."""
        return self._backoff.wait_seconds(connected_seconds)

    def close(self) -> None:
        """Closes the connection without a DISCONNECT packet."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        self._accepted_at = None
        self._waiting.extendleft(reversed(self._in_flight.items()))
        self._in_flight.clear()

    def _on_connect(self, connection: Connection, now: float) -> None:
        self._accepted_at = now
        self._log.accepted.append(now)
        prefix, status = self._settings.discovery_prefix, self._status_event(StatusState.ONLINE)
        connection.subscribe([(self._topics.listen_set, 1), (f"{prefix}/status", 0)])
        connection.publish(self._status(StatusState.ONLINE), None)
        connection.publish(Message(topic=self._topics.listen_state, payload=b"ON", qos=1, retain=True), None)
        connection.publish(discovery_message(self._topics, [SOURCE], status, prefix=prefix), None)
        if not self._has_greeted:
            self._has_greeted = True
            self.toggle_health()

    def _send_waiting(self, connection: Connection) -> None:
        while self._accepted_at is not None and self._waiting and len(self._in_flight) < WINDOW:
            key, message = self._waiting.popleft()
            self._in_flight[key] = message
            connection.publish(message, key)

    # ---- the messages

    def publish_reading(self) -> None:
        """Publishes a reading if there is a connection."""
        self._counter += 1
        self._stress = min(max(self._stress + self._random.gauss(0.0, 0.05), 0.0), 1.0)
        if self.connection is None or self._accepted_at is None:
            self._log.readings_dropped += 1
            return
        end_s = WINDOW_SECONDS + self._counter / 2
        reading = Reading(
            id=f"{self._topics.node}/{SOURCE}/{self._counter:06d}",
            node=self._topics.node,
            source=SOURCE,
            ts=timestamp(time.time()),
            start_s=end_s - WINDOW_SECONDS,
            end_s=end_s,
            speech_ratio=round(self._random.random(), 2),
            stress=round(self._random.random(), 4),
            stress_rolling=round(self._stress, 4),
            level=Level.HIGH if self._stress > 0.7 else Level.ELEVATED if self._stress > 0.5 else Level.LOW,
            confidence=round(self._random.random(), 4),
            dbfs=round(self._random.uniform(-60.0, -10.0), 1),
            clipped=False,
            latency_ms=round(self._random.uniform(2.0, 6.0), 1),
            dropped_s=0.0,
            baseline=BaselineState.READY,
            baseline_shift=0.1,
            model=MODEL,
        )
        payload = to_json(reading).encode()
        self._log.readings.append(((self._topics.node, self._counter), time.monotonic()))
        self.connection.publish(Message(topic=self._topics.reading(SOURCE), payload=payload, qos=0, retain=True), None)

    def publish_episode(self, phase: Phase, offset_s: float) -> None:
        """Publishes one of the messages of an episode, once there is a connection."""
        if phase is Phase.START:
            self._episode = (f"{self._topics.node}/{SOURCE}/{timestamp(time.time())}", self._counter / 2)
        episode_id, start_s = self._episode
        episode = Episode(
            phase=phase,
            id=episode_id,
            node=self._topics.node,
            source=SOURCE,
            ts=timestamp(time.time()),
            level=Level.HIGH,
            start_s=start_s,
            end_s=start_s + offset_s,
            duration_s=offset_s,
            peak=0.9132,
            mean=0.7811,
            evidence_s=start_s,
            declared_s=start_s,
            model=MODEL,
        )
        self._queue(self._topics.episode(SOURCE), to_json(episode), retain=False)

    def toggle_health(self) -> None:
        """Publishes the other state of the microphone, ok (the first) or silent, once there is a connection."""
        self._healthy = not self._healthy
        position_s = self._counter / 2
        health = Health(
            node=self._topics.node,
            source=SOURCE,
            ts=timestamp(time.time()),
            state=HealthState.OK if self._healthy else HealthState.SILENT,
            detail="" if self._healthy else "nothing but silence for 60 s: is the microphone muted or unplugged?",
            read_s=position_s,
            processed_s=position_s,
            dropped_s=0.0,
            overruns=0,
        )
        self._queue(self._topics.health(SOURCE), to_json(health), retain=True)

    def _queue(self, topic: str, payload: str, *, retain: bool) -> None:
        seq = self._seq[topic] = self._seq.get(topic, 0) + 1
        numbers = (("seq", str(seq)), ("stream", self._stream))
        message = Message(topic=topic, payload=payload.encode(), qos=1, retain=retain, properties=numbers)
        self._waiting.append(((topic, seq), message))
        self._log.waiting += 1
        self._log.kept.append(((topic, seq), time.monotonic()))
        if self.connection is not None:
            self._send_waiting(self.connection)

    def _status_event(self, state: StatusState) -> Status:
        return Status(
            node=self._topics.node,
            ts=timestamp(time.time()),
            state=state,
            version="0.1.0",
            model=MODEL,
            provider="CPUExecutionProvider",
            host=self._topics.node,
        )

    def _status(self, state: StatusState) -> Message:
        payload = to_json(self._status_event(state)).encode()
        return Message(topic=self._topics.status, payload=payload, qos=1, retain=True)
