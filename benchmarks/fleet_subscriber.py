"""Who listens to the whole fleet, in a process of its own, and writes down what came when.

Payloads are looked at only after the run, so that looking does not slow the listening.
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
from fleet_plan import HeardLog
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

RETRY_SECONDS = 0.05  # it is back before the first node is
STEP_SECONDS = 0.05
QUIET_SECONDS = 0.5  # less than the second between two messages of the broker about itself
OWN = "$SYS/broker/"  # what a broker says of itself


def run_subscriber(port: int, base_topic: str, pipe: Pipe) -> None:
    """Listens until the pipe says something and nothing more comes, then answers with a HeardLog.

    Before that it sends the time, in monotonic seconds, whenever it has subscribed.
    """
    gc.disable()  # looking through all that was heard, again and again, would be measured as latency
    heard: list[tuple[float, str, bytes, bool, Any]] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, "fleet-subscriber", protocol=MQTTProtocolVersion.MQTTv5)

    def on_message(_client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        heard.append((time.monotonic(), message.topic, bytes(message.payload), message.retain, message.properties))

    def on_connect(*_: Any) -> None:
        client.subscribe([(f"{base_topic}/#", 1), (f"{OWN}#", 0)])

    client.on_message = on_message
    client.on_connect = on_connect
    client.on_subscribe = lambda *_: pipe.send(time.monotonic())
    client.connect("127.0.0.1", port)
    while not pipe.poll() or (heard and time.monotonic() - heard[-1][0] < QUIET_SECONDS):
        if client.loop(STEP_SECONDS) != paho.MQTT_ERR_SUCCESS:
            time.sleep(RETRY_SECONDS)
            with suppress(OSError):
                client.reconnect()
    cpu_seconds = time.process_time()
    log = sort_out(heard)
    log.cpu_seconds = cpu_seconds
    pipe.send(log)


def sort_out(heard: Iterable[tuple[float, str, bytes, bool, Any]]) -> HeardLog:
    """What the messages say, in the order in which they came."""
    log = HeardLog()
    for when, topic, payload, retained, properties in heard:
        if topic.startswith(OWN):
            with suppress(ValueError):
                log.broker.append((topic.removeprefix(OWN), when, float(payload)))
            continue
        if retained:
            continue
        log.payload_bytes += len(payload)
        kind = topic.rpartition("/")[2]
        if kind == "reading":
            event = json.loads(payload)
            log.readings.append(((event["node"], int(event["id"].rpartition("/")[2])), when))
        elif kind in ("episode", "health"):
            log.kept.append(((topic, int(dict(properties.UserProperty)["seq"])), when))
        elif kind == "status":
            log.statuses.append((when, json.loads(payload)["state"]))
    return log
