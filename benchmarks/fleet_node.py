"""A simulated node: a real MQTT connection that publishes what a device does.

What the broker sees is the project's own: the connection, its last will, the greeting, the topics, the events, the
numbers of episodes, the window of messages in flight, and when it is tried again. Only the sound is made up, and what
the broker has not acknowledged waits in memory instead of on disk.
"""

from __future__ import annotations

import random
import time
from collections import deque

from fleet_plan import FleetLog, FleetPlan
from paho.mqtt.enums import MQTTProtocolVersion

from edge_sser.events import (
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
from edge_sser.settings.schema import MqttSettings, parse_address
from edge_sser.sinks.mqtt.access import tls_context
from edge_sser.sinks.mqtt.connection import Connection, Message
from edge_sser.sinks.mqtt.contract import Topics, discovery_message
from edge_sser.sinks.mqtt.link import CONNACK_SECONDS, Backoff
from edge_sser.sinks.mqtt.worker import WINDOW

SOURCE = "desk"
MODEL = "sser-cnn@d0270237"
WINDOW_SECONDS = 3.0


def node_name(number: int) -> str:
    """What node `number` is called."""
    return f"node-{number:05d}"


class Node:
    """One device.

    Args:
        number: which.
        plan: what it does.
        log: where it writes down what it did.
    """

    def __init__(self, number: int, plan: FleetPlan, log: FleetLog) -> None:
        name = node_name(number)
        self._chance = random.Random(plan.seed * 1_000_003 + number)
        scheme = "mqtt" if plan.ca_file is None else "mqtts"
        self._settings = MqttSettings(url=f"{scheme}://127.0.0.1:{plan.port}", ca_file=plan.ca_file)
        self._topics = Topics(self._settings.base_topic, name)
        self._backoff = Backoff(self._settings.retry_min_seconds, self._settings.retry_max_seconds, self._chance)
        self._log = log
        self._counter = 0
        self._stress = self._chance.random()
        self._seq: dict[str, int] = {}
        self._stream = f"{self._chance.getrandbits(32):08x}"
        self._waiting: deque[tuple[tuple[str, int], Message]] = deque()
        self._in_flight: dict[tuple[str, int], Message] = {}
        self._greeted = False
        self._opened_at = 0.0
        self._accepted_at: float | None = None
        self._episode: tuple[str, float] = ("", 0.0)
        self._healthy = False
        self.number = number
        self.connection: Connection | None = None

    # ---- the connection

    def open(self) -> Connection:
        """Makes a connection. Waits for TCP, so another thread does this.

        Raises:
            OSError: there is no broker.
        """
        settings = self._settings
        address = parse_address(settings.url)
        connection = Connection(
            address=address,
            client_id=f"edge-sser-{self._topics.node}",
            version=MQTTProtocolVersion.MQTTv5,
            keepalive_seconds=settings.keepalive_seconds,
            password=None,
            tls=tls_context(settings) if address.tls else None,
            will=self._status(StatusState.OFFLINE),
        )
        connection.open()
        return connection

    def take(self, connection: Connection, now: float) -> None:
        """Begins to use a connection that has been opened."""
        self.connection = connection
        self._opened_at = now

    def step(self, now: float) -> float | None:
        """Reads, writes and answers.

        Returns:
            None while the connection lives, else how long it held, in seconds.
        """
        connection = self.connection
        if connection is None:
            return None
        connection.step()
        if self._accepted_at is None:
            if connection.accepted:
                self._come_up(connection, now)
            elif now - self._opened_at > CONNACK_SECONDS:
                connection.abort("no answer to the first packet")
        for topic, tag, refusal in connection.take_answers():
            if refusal is not None:
                self._log.refusals.append(f"{topic}: {refusal}")
            elif isinstance(tag, tuple):
                del self._in_flight[tag]
                self._log.waiting -= 1
        connection.take_received()
        if connection.alive:
            self._hand_on(connection)
            return None
        held = now - self._accepted_at if self._accepted_at is not None else 0.0
        self.close()
        return held

    @property
    def up(self) -> bool:
        """Whether the broker has let it in."""
        return self._accepted_at is not None

    def wait_seconds(self, held_seconds: float) -> float:
        """How long until the next attempt."""
        return self._backoff.wait_seconds(held_seconds)

    def close(self) -> None:
        """Ends the connection without a goodbye."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        self._accepted_at = None
        self._waiting.extendleft(reversed(self._in_flight.items()))
        self._in_flight.clear()

    def _come_up(self, connection: Connection, now: float) -> None:
        self._accepted_at = now
        self._log.accepted.append(now)
        prefix, status = self._settings.discovery_prefix, self._status_event(StatusState.ONLINE)
        connection.subscribe([(self._topics.listen_set, 1), (f"{prefix}/status", 0)])
        connection.publish(self._status(StatusState.ONLINE), None)
        connection.publish(Message(topic=self._topics.listen_state, payload=b"ON", qos=1, retain=True), None)
        connection.publish(discovery_message(self._topics, [SOURCE], status, prefix=prefix), None)
        if not self._greeted:
            self._greeted = True
            self.change_health()

    def _hand_on(self, connection: Connection) -> None:
        while self._accepted_at is not None and self._waiting and len(self._in_flight) < WINDOW:
            key, message = self._waiting.popleft()
            self._in_flight[key] = message
            connection.publish(message, key)

    # ---- what it has to say

    def read(self) -> None:
        """Publishes a reading, unless there is no connection."""
        self._counter += 1
        self._stress = min(max(self._stress + self._chance.gauss(0.0, 0.05), 0.0), 1.0)
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
            speech_ratio=round(self._chance.random(), 2),
            stress=round(self._chance.random(), 4),
            stress_rolling=round(self._stress, 4),
            level=Level.HIGH if self._stress > 0.7 else Level.ELEVATED if self._stress > 0.5 else Level.LOW,
            confidence=round(self._chance.random(), 4),
            dbfs=round(self._chance.uniform(-60.0, -10.0), 1),
            clipped=False,
            latency_ms=round(self._chance.uniform(2.0, 6.0), 1),
            dropped_s=0.0,
            model=MODEL,
        )
        payload = to_json(reading).encode()
        self._log.readings.append(((self._topics.node, self._counter), time.monotonic()))
        self.connection.publish(Message(topic=self._topics.reading(SOURCE), payload=payload, qos=0, retain=True), None)

    def tell_episode(self, phase: Phase, offset_s: float) -> None:
        """Publishes one of the messages of an episode, as soon as there is a connection."""
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
            model=MODEL,
        )
        self._keep(self._topics.episode(SOURCE), to_json(episode), retain=False)

    def change_health(self) -> None:
        """Publishes that the microphone fell silent, or that it is well (which is what it says first), likewise."""
        self._healthy = not self._healthy
        heard_s = self._counter / 2
        health = Health(
            node=self._topics.node,
            source=SOURCE,
            ts=timestamp(time.time()),
            state=HealthState.OK if self._healthy else HealthState.SILENT,
            detail="" if self._healthy else "nothing but silence for 60 s: is the microphone muted or unplugged?",
            read_s=heard_s,
            processed_s=heard_s,
            dropped_s=0.0,
            overruns=0,
        )
        self._keep(self._topics.health(SOURCE), to_json(health), retain=True)

    def _keep(self, topic: str, payload: str, *, retain: bool) -> None:
        seq = self._seq[topic] = self._seq.get(topic, 0) + 1
        numbers = (("seq", str(seq)), ("stream", self._stream))
        message = Message(topic=topic, payload=payload.encode(), qos=1, retain=retain, properties=numbers)
        self._waiting.append(((topic, seq), message))
        self._log.waiting += 1
        self._log.kept.append(((topic, seq), time.monotonic()))
        if self.connection is not None:
            self._hand_on(self.connection)

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
