"""Checks of the MQTT broker, with one connection like that of the service.

The connection has a client id of its own, so that the broker does not disconnect the running service. A broker may
take the user's name for the id: with a user or a certificate nothing is tried while the service is connected. Only
publishing shows if the access rules allow it and the broker takes the size. So two messages, not kept, go to the unused
topic `BASE/NODE/doctor`: one empty, one of blanks. Topics in use get none, since subscribers expect events there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from edge_sser import __version__
from edge_sser.commands.doctor.finding import (
    CheckContext,
    Finding,
    State,
    credential,
    credential_environ,
    not_tried,
    secret_file,
)
from edge_sser.commands.doctor.service_link import connected_service
from edge_sser.credentials import readable_by_all
from edge_sser.events import Status, StatusState
from edge_sser.settings.broker import CREDENTIAL, BrokerAddress, parse_address
from edge_sser.settings.names import node_name, source_name
from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import MqttSettings
from edge_sser.settings.web import CREDENTIAL as WEB_CREDENTIAL
from edge_sser.sinks.mqtt.client import Refusal
from edge_sser.sinks.mqtt.connection import Message, Tag
from edge_sser.sinks.mqtt.contract import Topics, discovery_message
from edge_sser.sinks.mqtt.diagnosis import LinkState, LinkStatus
from edge_sser.sinks.mqtt.link import BrokerLink, LinkListener
from edge_sser.sinks.mqtt.options import broker_password, broker_tls, link_options
from edge_sser.sinks.mqtt.terms import LARGEST_EVENT_BYTES

LARGE = "large"  # tag of the second message
ANSWER_SECONDS = 5.0  # timeout of the connection, and again of the acknowledgement of a message
CLOSE_SECONDS = 1.0
RETRY_SECONDS = 3600.0  # longer than the check lasts: one attempt is enough

T = TypeVar("T")


def check_secrets(context: CheckContext) -> Finding:
    """Checks that other users cannot read a password, token or key."""
    mqtt, metrics, web = context.settings.mqtt, context.settings.metrics, context.settings.web
    files: list[Path | None] = []
    if mqtt is not None:
        files += [mqtt.password_file or credential(context, CREDENTIAL), mqtt.key_file]
    if metrics is not None:
        files += [metrics.token_file and secret_file(context, metrics.token_file), metrics.key_file]
    if web is not None:
        files += [web.password_file or credential(context, WEB_CREDENTIAL), web.key_file]
    secrets = [path for path in files if path is not None]
    for path in secrets:
        if readable_by_all(path):
            return Finding(State.WARNING, f"every user may read {path}", f"chmod o-rwx {path}")
    return Finding(State.FINE, ", ".join(map(str, secrets)) or "neither a password, a token nor a key")


def check_broker(context: CheckContext) -> Finding:
    """Checks that the broker accepts the connection, takes messages and would send commands.

    Raises:
        SettingsError: the password, a certificate or a key cannot be used.
    """
    settings = context.settings.mqtt
    if settings is None:
        return Finding(State.FINE, "no [mqtt] in the settings")
    file = None if settings.password_file else credential(context, CREDENTIAL)
    closed = file and not_tried(context, "password", file)
    if closed:
        return closed
    broker = parse_address(settings.url)
    password = broker_password(settings, credential_environ(file))
    broker_tls(settings, broker)
    service = connected_service(broker) if broker.username or settings.cert_file else None
    who = f" as {broker.username}" if broker.username else ""
    if service is not None:
        return Finding(
            State.FINE,
            f"{broker}: the service (process {service}) is connected{who}; not tried a second time, since a broker "
            "that takes the user's name for the client id would throw it out. Its health says what the broker refuses",
        )
    probe = _Probe(context.settings, settings, password)
    status = probe.connect()
    if status is None:
        return Finding(
            State.PROBLEM,
            f"{broker} does not answer within {ANSWER_SECONDS:.0f} s",
            "is that an MQTT broker's host and port (mqtt.url), and does no firewall stand between?",
        )
    if status.state is not LinkState.CONNECTED:
        return Finding(State.PROBLEM, f"{broker}: {status.detail}", status.remedy)
    version = status.detail
    limits = "" if version == "MQTT 5" else ", which cannot say what is denied"
    fine = Finding(State.FINE, f"{broker} lets us in{who} and takes messages ({version}{limits})")
    return probe.denial() or _lost(broker, (*status.losses, *probe.size_loss())) or fine


def _lost(broker: BrokerAddress, losses: Sequence[str]) -> Finding | None:
    """Returns a finding that says what will be lost at a broker; None for nothing."""
    if not losses:
        return None
    detail = f"{broker} " + "; it ".join(losses)
    return Finding(State.WARNING, detail, "change its settings, or take another broker: docs/mqtt.md compares some")


class _Probe(LinkListener):
    """A connection like the service's, and what the broker answered."""

    def __init__(self, all_settings: Settings, settings: MqttSettings, password: str | None) -> None:
        node = node_name(all_settings)
        self._topics = Topics(settings.base_topic, node)
        self._topic = f"{settings.base_topic}/{node}/doctor"
        self._largest = _largest_message(all_settings, settings, self._topics)
        options = link_options(settings, self._topics)
        options = replace(
            options,
            client_id=options.client_id + "-doctor",
            retry_min_seconds=RETRY_SECONDS,
            retry_max_seconds=RETRY_SECONDS,
            password=lambda: password,
            hang_ups=1,
        )
        self._link = BrokerLink(options)
        self._statuses: SimpleQueue[LinkStatus] = SimpleQueue()
        self._queue: SimpleQueue[tuple[str, Tag, Refusal | None]] = SimpleQueue()
        self._answers: dict[object, Refusal | None] = {}  # by topic, or by LARGE

    def connect(self) -> LinkStatus | None:
        """Opens the connection, publishes, waits for the answers, and closes it.

        Returns:
            First status of the link, None when there was none in time.
        """
        expected = {self._topic, self._topics.listen_set, LARGE}
        self._link.start(self)  # in a thread of its own, so that a slow name server delays this check only for a while
        try:
            status = next(_items(self._statuses), None)
            if status is not None and status.state is LinkState.CONNECTED:
                for topic, tag, refusal in _items(self._queue):
                    self._answers[tag or topic] = refusal
                    if topic == self._topic and tag is None and refusal is not None:
                        expected.discard(LARGE)
                    elif topic == self._topic and tag is None:
                        self._link.send(self._message(b" " * self._largest), LARGE)
                    if expected <= self._answers.keys():
                        break
        finally:
            self._link.close([], CLOSE_SECONDS)
        return status

    def denial(self) -> Finding | None:
        """Returns a finding when access rules deny this device something; None otherwise."""
        below, command = f"{self._topics.base}/{self._topics.node}/#", self._topics.listen_set
        if self._topic not in self._answers:
            remedy = "look into the log of the broker"
            return Finding(State.PROBLEM, "the broker does not acknowledge a message", remedy)
        refusal = self._answers[self._topic]
        if refusal is not None:
            return Finding(
                State.PROBLEM,
                f"the broker does not let us publish to {self._topic}: {refusal.reason}",
                f"its access rules must let this user write {below}, as docs/mqtt.md shows",
            )
        refusal = self._answers.get(command)
        if refusal is not None:
            return Finding(
                State.WARNING,
                f"the broker does not let us hear {command}, where commands come: {refusal.reason}",
                f"its access rules must let this user read {below}, as docs/mqtt.md shows",
            )
        return None

    def size_loss(self) -> Sequence[str]:
        """Returns a sentence when the broker does not take the largest message of the service."""
        refusal = self._answers.get(LARGE)
        if refusal is None and LARGE in self._answers:
            return ()
        reason = "no answer" if refusal is None else refusal.reason
        return [f"takes no message of {self._largest} bytes, the largest of this device ({reason}): such ones are lost"]

    # ---- LinkListener, in the link's thread

    def last_will(self) -> Message:
        return self._message(b"", retain=True)  # an empty one leaves nothing behind

    def first_messages(self) -> list[Message]:
        return [self._message(b"", retain=True)]

    def on_answer(self, topic: str, tag: Tag, refusal: Refusal | None) -> None:
        self._queue.put((topic, tag, refusal))

    def on_status(self, status: LinkStatus) -> None:
        self._statuses.put(status)

    def on_failure(self, error: Exception) -> None:
        self._statuses.put(LinkStatus(LinkState.UNREACHABLE, f"this program has failed: {error!r}"))

    def _message(self, payload: bytes, *, retain: bool = False) -> Message:
        return Message(topic=self._topic, payload=payload, qos=1, retain=retain, properties=(("seq", "0"),))


def _largest_message(all_settings: Settings, settings: MqttSettings, topics: Topics) -> int:
    """Returns the size of the largest payload that the service sends, about, bytes."""
    if not settings.discovery:
        return LARGEST_EVENT_BYTES
    sources = [source_name(source) for source in all_settings.source]
    status = Status(
        node=topics.node,
        ts="",
        state=StatusState.ONLINE,
        version=__version__,
        model="x" * 32,
        provider="",
        host="",
    )
    payload = discovery_message(topics, sources, status, prefix=settings.discovery_prefix).payload
    return max(LARGEST_EVENT_BYTES, len(payload))


def _items(queue: SimpleQueue[T]) -> Iterator[T]:
    """Yields the items that arrive in a queue within ANSWER_SECONDS."""
    deadline = time.monotonic() + ANSWER_SECONDS
    with suppress(Empty):
        while True:
            yield queue.get(timeout=max(0.0, deadline - time.monotonic()))
