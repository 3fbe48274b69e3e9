"""Subscriber to the whole fleet, in a process of its own, which logs messages with their times.

Payloads are parsed only after the run, so that parsing adds no latency.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from typing import Any

import paho.mqtt.client as paho
from fleet_plan import SubscriberLog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

RETRY_SECONDS = 0.05  # so short that the subscriber is back before the first node
STEP_SECONDS = 0.05
QUIET_SECONDS = 0.5  # less than the second between two counters of the broker
BROKER_TOPICS = "$SYS/broker/"  # counters of the broker


def run_subscriber(port: int, base_topic: str, pipe: Pipe) -> None:
    """Receives messages until the pipe has one and no more come, then sends a SubscriberLog.

    Before that, it sends the time, monotonic seconds, whenever it has subscribed.
    """
    gc.disable()  # scans of all received messages by the garbage collector would count as latency
    received: list[tuple[float, str, bytes, bool, Any]] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, "fleet-subscriber", protocol=MQTTProtocolVersion.MQTTv5)

    def on_message(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        received.append((time.monotonic(), message.topic, bytes(message.payload), message.retain, message.properties))

    def on_connect(*_: Any) -> None:
        client.subscribe([(f"{base_topic}/#", 1), (f"{BROKER_TOPICS}#", 0)])

    client.on_message = on_message
    client.on_connect = on_connect
    client.on_subscribe = lambda *_: pipe.send(time.monotonic())
    client.connect("127.0.0.1", port)
    while not pipe.poll() or (received and time.monotonic() - received[-1][0] < QUIET_SECONDS):
        if client.loop(STEP_SECONDS) != paho.MQTT_ERR_SUCCESS:
            time.sleep(RETRY_SECONDS)
            with suppress(OSError):
                client.reconnect()
    cpu_seconds = time.process_time()
    log = parse_messages(received)
    log.cpu_seconds = cpu_seconds
    pipe.send(log)


def parse_messages(received: Iterable[tuple[float, str, bytes, bool, Any]]) -> SubscriberLog:
    """Parses messages in the order of their arrival."""
    log = SubscriberLog()
    for when, topic, payload, retained, properties in received:
        if topic.startswith(BROKER_TOPICS):
            with suppress(ValueError):
                log.broker.append((topic.removeprefix(BROKER_TOPICS), when, float(payload)))
            continue
        if retained:
            continue
        kind = topic.rpartition("/")[2]
        if kind == "reading":
            event = json.loads(payload)
            log.readings.append(((event["node"], int(event["id"].rpartition("/")[2])), when))
        elif kind in ("episode", "health"):
            log.kept.append(((topic, int(dict(properties.UserProperty)["seq"])), when))
    return log
