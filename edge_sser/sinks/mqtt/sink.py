"""Events on an MQTT bus.

Readings show the present: QoS 0, the latest retained, dropped without a connection. Episodes and health must arrive:
QoS 1, numbered, through the outbox on disk, which removes them when the broker has acknowledged them. An event is safe
when the disk has it (`stored` in the report), milliseconds after `emit` on a healthy disk.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edge_sser.errors import SinkError
from edge_sser.events import BaselineCommand, Episode, Event, Health, Reading, Status, StatusState, timestamp, to_line
from edge_sser.files import state_directory
from edge_sser.settings.broker import parse_address
from edge_sser.settings.sinks import MqttSettings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.mqtt.client import Refusal
from edge_sser.sinks.mqtt.connection import Message, Tag
from edge_sser.sinks.mqtt.contract import Topics, birth_topic, discovery_message
from edge_sser.sinks.mqtt.diagnosis import LinkState, LinkStatus, MqttReport
from edge_sser.sinks.mqtt.link import BrokerLink
from edge_sser.sinks.mqtt.options import broker_password, broker_tls, link_options
from edge_sser.sinks.mqtt.outbox import Outbox, Record
from edge_sser.sinks.mqtt.outbox_destination import destination_text
from edge_sser.sinks.mqtt.worker import Delivery, OutboxWorker
from edge_sser.sinks.pause import PAUSE_FILE, PauseSwitch

log = logging.getLogger("edge_sser.mqtt")

CLOSE_SECONDS = 3.0  # for the last episodes to be acknowledged, and again for the last status
MAX_COMMANDS = 16  # queued at most, before the oldest go
REANNOUNCE_SECONDS = 1.0  # between answers to Home Assistant's messages that it has started, at least

__all__ = ["LinkState", "MqttReport", "MqttSink"]


class MqttSink(Sink):
    """Publishes events. Starts at once, with or without a broker.

    Args:
        settings: the broker and how to connect.
        node: this device's name in topics.
        status: status of the program, state online; its time is renewed whenever it is published again.
        sources: names of the sources, for Home Assistant.
        directory: for the outbox and the pause switch; `state_directory()` when not given.
        switch: turned by commands; that of `directory` when not given.
        on_change: called when a part of the report changed that a person should know of, from a thread of the sink.

    Raises:
        SettingsError: a certificate, key or password file cannot be used, or the node cannot be in a topic.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        node: str,
        status: Status,
        sources: Sequence[str],
        directory: Path | None = None,
        switch: PauseSwitch | None = None,
        on_change: Callable[[MqttReport], None] = lambda _report: None,
    ) -> None:
        broker_password(settings)
        address = parse_address(settings.url)
        broker_tls(settings, address)
        folder = state_directory() if directory is None else directory
        self._topics = topics = Topics(settings.base_topic, node)
        self._reading_topic = functools.cache(topics.reading)
        self._readings_dropped = 0
        self._closed = False
        self._link = BrokerLink(link_options(settings, topics))
        self._worker = OutboxWorker(
            lambda: Outbox(
                folder / "outbox.db",
                max_bytes=settings.outbox_bytes,
                destination=destination_text(address, node),
            ),
            Delivery(self._link, settings.retry_max_seconds),
            on_change=on_change,
        )
        self.switch = PauseSwitch(folder / PAUSE_FILE) if switch is None else switch
        self._node = MqttNode(
            settings,
            topics=topics,
            sources=sources,
            status=status,
            switch=self.switch,
            link=self._link,
            worker=self._worker,
        )
        self._worker.start()
        self._link.start(self._node)

    def announce_listening(self) -> None:
        """Publishes the state of the pause switch when another program has changed it."""
        self._node.announce_listening()

    def take_baseline_commands(self) -> list[tuple[str, BaselineCommand]]:
        """Returns the commands for baselines since the last call, each with the name of its source."""
        taken: list[tuple[str, BaselineCommand]] = []
        while self._node.baseline_commands:
            taken.append(self._node.baseline_commands.popleft())
        return taken

    @property
    def report(self) -> MqttReport:
        """The state a moment ago."""
        return replace(self._worker.report, readings_dropped=self._readings_dropped)

    @property
    def trouble(self) -> str:
        """Faults that endanger events. An absent broker is none: events wait on disk."""
        return self._worker.report.storage_trouble

    def emit(self, event: Event, line: bytes) -> None:
        """Publishes or queues an event; never waits.

        Raises:
            SinkError: the sink is closed, or has failed for good.
        """
        failure = self._node.failure or self._worker.failure
        if failure is not None:
            raise SinkError(f"the MQTT sink has failed: {failure!r}")
        if self._closed:
            raise SinkError("the MQTT sink is closed")
        if isinstance(event, Reading):
            if not self._link.offer(self._reading_topic(event.source), line):
                self._readings_dropped += 1
        elif isinstance(event, Episode):
            self._worker.store(Record(self._topics.episode(event.source), line, retain=False))
        elif isinstance(event, Health):
            self._worker.store(Record(self._topics.health(event.source), line, retain=True))
        else:
            before, self._node.status = self._node.status, event
            # Each connection begins with the status, and `close` ends it with stopped: neither is said twice.
            if event.state is not StatusState.STOPPED and replace(event, ts=before.ts) != before:
                self._link.send(Message(topic=self._topics.status, payload=line, qos=1, retain=True))

    def close(self) -> None:
        """Stores queued events, waits a little for acknowledgements, and disconnects. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._worker.close(CLOSE_SECONDS)
            self._link.close([self._node.status_message(StatusState.STOPPED)], CLOSE_SECONDS)


class MqttNode:
    """The node as subscribers see it: status, discovery, the pause switch. A `LinkListener`.

    Args:
        worker: gets the callbacks that concern the outbox, and applies commands.
        switch: turned by commands in the worker's thread.

    Attributes:
        baseline_commands: commands for baselines that nobody has taken yet, the oldest first.
        failure: the error that ended the link's thread, a fault in this program; None without one.
    """

    def __init__(
        self,
        settings: MqttSettings,
        *,
        topics: Topics,
        sources: Sequence[str],
        status: Status,
        switch: PauseSwitch,
        link: BrokerLink,
        worker: OutboxWorker[Delivery],
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._sources = tuple(sources)
        self.status = status
        self._switch = switch
        self._link = link
        self._worker = worker
        self._commands: deque[bool] = deque(maxlen=MAX_COMMANDS)  # True to listen; not applied yet
        self.baseline_commands: deque[tuple[str, BaselineCommand]] = deque(maxlen=MAX_COMMANDS)  # not taken yet
        self._commands_lock = threading.Lock()
        self._announced = switch.on  # the state that was published last, or will be when the link connects
        self._reannounce_at = 0.0  # monotonic seconds
        self.failure: Exception | None = None

    def status_message(self, state: StatusState) -> Message:
        """Returns the status in a state, with the time of now."""
        status = replace(self.status, state=state, ts=timestamp(time.time()))
        return Message(topic=self._topics.status, payload=to_line(status), qos=1, retain=True)

    def announce_listening(self) -> None:
        """Lets the worker publish the state of the switch, unless it did so already."""
        self._worker.submit(self._announce_change)

    # ---- LinkListener, in the link's thread

    def last_will(self) -> Message:
        """Returns the status offline."""
        return self.status_message(StatusState.OFFLINE)

    def first_messages(self) -> list[Message]:
        """Returns the status, the state of the pause switch, and the description for Home Assistant."""
        messages = [self.status_message(self.status.state), self._listen_message()]
        if self._settings.discovery:
            prefix = self._settings.discovery_prefix
            messages.append(discovery_message(self._topics, self._sources, self.status, prefix=prefix))
        return messages

    def on_connect(self, generation: int) -> None:
        """Lets the worker send."""
        self._worker.submit(self._worker.delivery.connect, generation)

    def on_disconnect(self) -> None:
        """Stops the worker from sending."""
        self._worker.submit(self._worker.delivery.disconnect)

    def on_answer(self, topic: str, tag: Tag, refusal: Refusal | None) -> None:
        """Passes an answer to the worker."""
        self._worker.submit(self._worker.delivery.answer, topic, tag, refusal)

    def on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        """Queues a command, or publishes the first messages again when Home Assistant has started."""
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
                    self._worker.submit(self._apply_commands)  # writes a file, which may take time
        elif topic == self._topics.baseline_set:
            self._take_baseline_command(payload, retained)
        elif (
            topic == birth_topic(self._settings.discovery_prefix)
            and payload == b"online"
            and time.monotonic() >= self._reannounce_at
        ):
            self._reannounce_at = time.monotonic() + REANNOUNCE_SECONDS
            for message in self.first_messages():
                self._link.send(message)

    def _take_baseline_command(self, payload: bytes, retained: bool) -> None:
        topic = self._topics.baseline_set
        command, _, source = payload[:200].decode(errors="replace").partition(" ")
        if retained:
            log.warning("ignored a retained command on %s: send it without retain", topic)
        elif command not in [each.value for each in BaselineCommand] or source not in self._sources:
            names = ", ".join(self._sources)
            log.warning("ignored %r on %s: learn or reset is expected, and one of %s", payload[:40], topic, names)
        else:
            self.baseline_commands.append((source, BaselineCommand(command)))

    def on_status(self, status: LinkStatus) -> None:
        """Takes the link's status into the report."""
        self._worker.submit(self._worker.set_status, status)

    def on_failure(self, error: Exception) -> None:
        """Keeps the error for the next `emit`."""
        self.failure = error

    # ---- in the worker's thread

    def _apply_commands(self) -> None:
        with self._commands_lock:
            commands = list(self._commands)
            self._commands.clear()
        for on in commands:
            if on is not self._switch.on:
                log.info("listening turned %s by a command", "ON" if on else "OFF")
            self._switch.turn(on)
            self._link.send(self._listen_message())

    def _announce_change(self) -> None:
        if self._announced is not self._switch.on:
            self._link.send(self._listen_message())

    def _listen_message(self) -> Message:
        self._announced = on = self._switch.on
        payload = b"ON" if on else b"OFF"
        return Message(topic=self._topics.listen_state, payload=payload, qos=1, retain=True)
