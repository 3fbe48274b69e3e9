"""Checks of the MQTT broker, with one connection like that of the service.

The connection has a client id of its own, so that the broker does not disconnect the running service, and no last will.
Only publishing shows if the access rules allow it. So one message, empty and not retained, goes to the unused topic
`BASE/NODE/doctor`. Topics in use get none, since subscribers expect events there.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from edge_sser.commands.doctor.finding import CheckContext, Finding, State
from edge_sser.settings.broker import CREDENTIAL, parse_address
from edge_sser.settings.names import node_name
from edge_sser.settings.schema import MqttSettings
from edge_sser.sinks.mqtt.access import read_password, tls_context
from edge_sser.sinks.mqtt.client import Refusal
from edge_sser.sinks.mqtt.connection import Message, Tag
from edge_sser.sinks.mqtt.contract import Topics
from edge_sser.sinks.mqtt.diagnosis import LinkState, LinkStatus
from edge_sser.sinks.mqtt.link import BrokerLink, LinkListener, LinkOptions

ANSWER_SECONDS = 5.0  # timeout of the connection, and again of the acknowledgement of a message
CLOSE_SECONDS = 1.0
RETRY_SECONDS = 3600.0  # longer than the check lasts: one attempt is enough

T = TypeVar("T")


def check_secrets(context: CheckContext) -> Finding:
    """Checks that other users cannot read the password or the key."""
    settings = context.settings.mqtt
    if settings is None:
        return Finding(State.FINE, "not needed without [mqtt]")
    secrets = [path for path in (settings.password_file or _credential(context), settings.key_file) if path]
    for path in secrets:
        if _readable_by_others(path):
            return Finding(State.WARNING, f"every user may read {path}", f"chmod o-rwx {path}")
    return Finding(State.FINE, ", ".join(map(str, secrets)) or "neither a password nor a key")


def check_broker(context: CheckContext) -> Finding:
    """Checks that the broker accepts the connection, takes messages and would send commands.

    Raises:
        SettingsError: the password, a certificate or a key cannot be used.
    """
    settings = context.settings.mqtt
    if settings is None:
        return Finding(State.FINE, "no [mqtt] in the settings")
    credential = None if settings.password_file else _credential(context)
    if credential is not None and not os.access(credential, os.R_OK):
        return Finding(
            State.WARNING,
            f"not tried: this user may not read the service's password, {credential}",
            f"sudo edge-sser doctor --config {context.settings_file}",
        )
    broker = parse_address(settings.url)
    password = read_password(settings, {"CREDENTIALS_DIRECTORY": str(credential.parent)} if credential else {})
    if broker.tls:
        tls_context(settings)
    node = node_name(context.settings)
    topics = Topics(settings.base_topic, node)
    client_id = (settings.client_id or f"edge-sser-{node}") + "-doctor"
    status, answers = _connect(settings, topics, password=password, client_id=client_id)
    if status is None:
        return Finding(
            State.PROBLEM,
            f"{broker} does not answer within {ANSWER_SECONDS:.0f} s",
            "is that an MQTT broker's host and port (mqtt.url), and does no firewall stand between?",
        )
    if status.state is not LinkState.CONNECTED:
        return Finding(State.PROBLEM, f"{broker}: {status.detail}", status.remedy)
    who = f" as {broker.username}" if broker.username else ""
    version = status.detail
    limits = "" if version == "MQTT 5" else ", which cannot say what is denied"
    fine = Finding(State.FINE, f"{broker} lets us in{who} and takes messages ({version}{limits})")
    return _denial(answers, topics) or fine


def _denial(answers: Mapping[str, str | None], topics: Topics) -> Finding | None:
    """Returns a finding when access rules deny this device something, by the answers of `_connect`; None otherwise."""
    below, probe = f"{topics.base}/{topics.node}/#", _probe(topics)
    if probe not in answers:
        return Finding(State.PROBLEM, "the broker does not acknowledge a message", "look into the log of the broker")
    if answers[probe] is not None:
        return Finding(
            State.PROBLEM,
            f"the broker does not let us publish to {probe}: {answers[probe]}",
            f"its access rules must let this user write {below}, as docs/mqtt.md shows",
        )
    if answers.get(topics.listen_set) is not None:
        return Finding(
            State.WARNING,
            f"the broker does not let us hear {topics.listen_set}, where commands come: {answers[topics.listen_set]}",
            f"its access rules must let this user read {below}, as docs/mqtt.md shows",
        )
    return None


def _connect(
    settings: MqttSettings, topics: Topics, *, password: str | None, client_id: str
) -> tuple[LinkStatus | None, Mapping[str, str | None]]:
    """Opens a connection and closes it.

    Returns:
        First status of the link, None when there was none in time; and the topics that the broker answered for, with
        the reason where it refused.
    """
    address = parse_address(settings.url)
    options = LinkOptions(
        address=address,
        client_id=client_id,
        keepalive_seconds=settings.keepalive_seconds,
        retry_min_seconds=RETRY_SECONDS,
        retry_max_seconds=RETRY_SECONDS,
        password=lambda: password,
        tls=lambda: tls_context(settings) if address.tls else None,
        subscriptions=((topics.listen_set, 1),),
    )
    link, listener = BrokerLink(options), _Listener(topics)
    link.start(listener)  # in a thread of its own, so that a slow name server delays this check only for a while
    try:
        status = next(_items(listener.statuses), None)
        answers: dict[str, str | None] = {}
        if status is not None and status.state is LinkState.CONNECTED:
            for topic, refusal in _items(listener.answers):
                answers[topic] = refusal
                if {_probe(topics), topics.listen_set} <= answers.keys():
                    break
    finally:
        link.close([], CLOSE_SECONDS)
    return status, answers


class _Listener(LinkListener):
    """Queues the statuses of a link, and the answers to one message."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self.statuses: SimpleQueue[LinkStatus] = SimpleQueue()
        self.answers: SimpleQueue[tuple[str, str | None]] = SimpleQueue()

    def first_messages(self) -> list[Message]:
        return [Message(topic=_probe(self._topics), payload=b"", qos=1, retain=False)]

    def on_answer(self, topic: str, tag: Tag, refusal: Refusal | None) -> None:
        self.answers.put((topic, refusal))

    def on_status(self, status: LinkStatus) -> None:
        self.statuses.put(status)

    def on_failure(self, error: Exception) -> None:
        self.statuses.put(LinkStatus(LinkState.UNREACHABLE, f"this program has failed: {error!r}"))


def _probe(topics: Topics) -> str:
    return f"{topics.base}/{topics.node}/doctor"


def _items(queue: SimpleQueue[T]) -> Iterator[T]:
    """Yields the items that arrive in a queue within ANSWER_SECONDS."""
    deadline = time.monotonic() + ANSWER_SECONDS
    with suppress(Empty):
        while True:
            yield queue.get(timeout=max(0.0, deadline - time.monotonic()))


def _credential(context: CheckContext) -> Path | None:
    """Returns the file of the systemd credential: of this process, else the one beside the settings for a service."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    folder = Path(directory) if directory else context.settings_file and context.settings_file.parent
    return folder / CREDENTIAL if folder and (folder / CREDENTIAL).exists() else None


def _readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # missing: check_broker says so
        return False
