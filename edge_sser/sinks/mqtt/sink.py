"""Events on an MQTT bus.

Readings are for now: QoS 0, the latest retained, dropped while there is no broker. Episodes and health are for keeps:
QoS 1, numbered, through the outbox on disk, from which they go only when the broker has acknowledged them. The promise
that none is lost begins when the disk has it (`stored` in the report), milliseconds after `emit` on a healthy one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edge_sser.errors import SinkError
from edge_sser.events import (
    Episode,
    Event,
    Health,
    Reading,
    Status,
    StatusState,
    timestamp,
    to_line,
)
from edge_sser.files import state_directory
from edge_sser.settings.schema import MqttSettings, parse_address
from edge_sser.sinks.base import Sink
from edge_sser.sinks.mqtt.access import read_password, tls_context
from edge_sser.sinks.mqtt.connection import Message
from edge_sser.sinks.mqtt.contract import Topics
from edge_sser.sinks.mqtt.diagnosis import LinkState
from edge_sser.sinks.mqtt.discovery import discovery_message
from edge_sser.sinks.mqtt.link import BrokerLink, LinkHooks, LinkOptions
from edge_sser.sinks.mqtt.outbox import Record
from edge_sser.sinks.mqtt.switch import Switch
from edge_sser.sinks.mqtt.worker import MqttReport, OutboxWorker

log = logging.getLogger("edge_sser.mqtt")

CLOSE_SECONDS = 3.0  # for the last episodes to be acknowledged, and again for the last status
COMMANDS = 16  # that wait to be obeyed, at most: of more the newest count
GREETING_SECONDS = 1.0  # between answers to Home Assistant, however often it says that it has started

__all__ = ["LinkState", "MqttReport", "MqttSink", "open_mqtt"]


def open_mqtt(
    settings: MqttSettings,
    *,
    node: str,
    status: Status,
    sources: Sequence[str],
    directory: Path | None = None,
    on_listen: Callable[[bool], None] = lambda _on: None,
    on_change: Callable[[MqttReport], None] = lambda _report: None,
) -> MqttSink:
    """Starts publishing. Returns at once, whether or not there is a broker.

    Args:
        settings: where and as what.
        node: this device's name in topics.
        status: what runs here, state online; its time is renewed whenever it is published again.
        sources: the names of the sources, for Home Assistant.
        directory: for the outbox and the switch; `state_directory()` when not given.
        on_listen: called when a command turns listening on or off, from a thread of the sink.
        on_change: called when something in the report changed that a person should know of, likewise.

    Raises:
        SettingsError: a certificate, key or password file cannot be used, or the node cannot be in a topic.
    """
    read_password(settings)
    if parse_address(settings.url).tls:
        tls_context(settings)
    return MqttSink(
        settings,
        node=node,
        status=status,
        sources=sources,
        directory=state_directory() if directory is None else directory,
        on_listen=on_listen,
        on_change=on_change,
    )


class MqttSink(Sink):
    """See `open_mqtt`."""

    def __init__(
        self,
        settings: MqttSettings,
        *,
        node: str,
        status: Status,
        sources: Sequence[str],
        directory: Path,
        on_listen: Callable[[bool], None],
        on_change: Callable[[MqttReport], None],
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings.base_topic, node)
        self._status = status
        self._sources = tuple(sources)
        self._switch = Switch(directory / "paused")
        self._on_listen = on_listen
        self._commands: deque[bool] = deque(maxlen=COMMANDS)  # whether to listen, not obeyed yet
        self._commands_lock = threading.Lock()
        self._greet_again_at = 0.0  # monotonic seconds
        self._readings_dropped = 0
        self._failure: Exception | None = None
        self._closed = False
        self._announcement = f"{settings.discovery_prefix}/status"  # where Home Assistant says that it has started
        self._link = BrokerLink(self._link_options(node), self._link_hooks())
        self._courier = OutboxWorker(
            directory / "outbox.db",
            max_bytes=settings.outbox_bytes,
            retry_refused_seconds=settings.retry_max_seconds,
            link=self._link,
            on_change=on_change,
            on_failure=self._fail,
        )
        self._courier.start()
        self._link.start()

    @property
    def listening(self) -> bool:
        """Whether to listen: what the last command said, across restarts."""
        return self._switch.on

    @property
    def report(self) -> MqttReport:
        """How it is doing, a moment ago."""
        return replace(self._courier.report, readings_dropped=self._readings_dropped)

    def emit(self, event: Event, line: bytes) -> None:
        """Hands an event on; never waits.

        Raises:
            SinkError: the sink is closed, or has failed for good.
        """
        if self._failure is not None:
            raise SinkError(f"the MQTT sink has failed: {self._failure!r}")
        if self._closed:
            raise SinkError("the MQTT sink is closed")
        if isinstance(event, Reading):
            message = Message(topic=self._topics.reading(event.source), payload=line, qos=0, retain=True)
            self._readings_dropped += not self._link.offer(message)
        elif isinstance(event, Episode):
            self._courier.keep(Record(self._topics.episode(event.source), line, retain=False))
        elif isinstance(event, Health):
            self._courier.keep(Record(self._topics.health(event.source), line, retain=True))
        else:
            self._status = event
            self._link.send(Message(topic=self._topics.status, payload=line, qos=1, retain=True))

    def close(self) -> None:
        """Writes what is left to disk, waits a little for acknowledgements, says goodbye. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._courier.close(CLOSE_SECONDS)
            self._link.close([self._status_message(StatusState.STOPPED)], CLOSE_SECONDS)

    # ---- the link

    def _link_options(self, node: str) -> LinkOptions:
        settings = self._settings
        address = parse_address(settings.url)
        subscriptions = [(self._topics.listen_set, 1)]
        if settings.discovery:
            subscriptions.append((self._announcement, 0))
        return LinkOptions(
            address=address,
            client_id=settings.client_id or f"edge-sser-{node}",
            keepalive_seconds=settings.keepalive_seconds,
            retry_min_seconds=settings.retry_min_seconds,
            retry_max_seconds=settings.retry_max_seconds,
            password=lambda: read_password(settings),
            tls=lambda: tls_context(settings) if address.tls else None,
            subscriptions=tuple(subscriptions),
        )

    def _link_hooks(self) -> LinkHooks:
        return LinkHooks(
            will=lambda: self._status_message(StatusState.OFFLINE),
            greeting=self._greeting,
            up=lambda generation: self._courier.link_up(generation),
            down=lambda: self._courier.link_down(),
            answered=lambda topic, tag, refusal: self._courier.link_answered(topic, tag, refusal),
            heard=self._heard,
            changed=lambda standing: self._courier.link_changed(standing.state, str(standing)),
            died=self._fail,
        )

    def _greeting(self) -> list[Message]:
        messages = [self._status_message(self._status.state), self._listen_message()]
        if self._settings.discovery:
            prefix = self._settings.discovery_prefix
            messages.append(discovery_message(self._topics, self._sources, self._status, prefix=prefix))
        return messages

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:
        if topic == self._topics.listen_set:
            if retained:
                log.warning("ignored a retained command on %s: the switch keeps its own state", topic)
            elif payload not in (b"ON", b"OFF"):
                log.warning("ignored %r on %s: ON or OFF is expected", payload[:40], topic)
            else:
                with self._commands_lock:
                    first = not self._commands
                    self._commands.append(payload == b"ON")
                if first:
                    self._courier.do(self._obey)  # it writes a file, which may take its time
        elif topic == self._announcement and payload == b"online" and time.monotonic() >= self._greet_again_at:
            self._greet_again_at = time.monotonic() + GREETING_SECONDS
            for message in self._greeting():
                self._link.send(message)

    def _obey(self) -> None:
        with self._commands_lock:
            commands = list(self._commands)
            self._commands.clear()
        for on in commands:
            if on is not self._switch.on:
                log.info("listening turned %s by a command", "ON" if on else "OFF")
            self._switch.turn(on)
            self._on_listen(on)
            self._link.send(self._listen_message())

    def _fail(self, error: Exception) -> None:
        self._failure = error

    # ---- messages that are made anew

    def _status_message(self, state: StatusState) -> Message:
        status = replace(self._status, state=state, ts=timestamp(time.time()))
        return Message(topic=self._topics.status, payload=to_line(status), qos=1, retain=True)

    def _listen_message(self) -> Message:
        payload = b"ON" if self._switch.on else b"OFF"
        return Message(topic=self._topics.listen_state, payload=payload, qos=1, retain=True)
