"""The MQTT broker: one connection as the service would make it, which leaves nothing behind.

It has a client id of its own, so that the running service is not thrown out, and no last will. Whether access rules
let this device publish can only be told by publishing. So one message goes to a topic that nobody uses,
`BASE/NODE/doctor`: empty and not retained. The topics in use are left alone, since subscribers expect events there.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from edge_sser.commands.doctor.finding import CheckContext, Finding, State
from edge_sser.settings.names import node_name
from edge_sser.settings.schema import CREDENTIAL, MqttSettings, parse_address
from edge_sser.sinks.mqtt.access import read_password, tls_context
from edge_sser.sinks.mqtt.connection import Message, Tag
from edge_sser.sinks.mqtt.contract import Topics
from edge_sser.sinks.mqtt.diagnosis import LinkState, LinkStatus
from edge_sser.sinks.mqtt.link import BrokerLink, LinkOptions

ANSWER_SECONDS = 5.0  # for the broker to let us in, and again to acknowledge a message
CLOSE_SECONDS = 1.0
ONCE_SECONDS = 3600.0  # until the link would try again

T = TypeVar("T")


def look_at_secrets(patient: CheckContext) -> Finding:
    """Whether others may read the password or the key."""
    settings = patient.settings.mqtt
    if settings is None:
        return Finding(State.FINE, "not needed without [mqtt]")
    secrets = [path for path in (settings.password_file or _credential(patient), settings.key_file) if path]
    for path in secrets:
        if _readable_by_others(path):
            return Finding(State.WARNING, f"every user may read {path}", f"chmod o-rwx {path}")
    return Finding(State.FINE, ", ".join(map(str, secrets)) or "neither a password nor a key")


def look_at_broker(patient: CheckContext) -> Finding:
    """Whether the broker lets us in, takes messages and would send commands.

    Raises:
        SettingsError: the password, a certificate or a key cannot be used.
    """
    settings = patient.settings.mqtt
    if settings is None:
        return Finding(State.FINE, "no [mqtt] in the settings")
    credential = None if settings.password_file else _credential(patient)
    if credential is not None and not os.access(credential, os.R_OK):
        return Finding(
            State.WARNING,
            f"not tried: this user may not read the service's password, {credential}",
            f"sudo edge-sser doctor --config {patient.settings_file}",
        )
    broker = parse_address(settings.url)
    password = read_password(settings, {"CREDENTIALS_DIRECTORY": str(credential.parent)} if credential else {})
    if broker.tls:
        tls_context(settings)
    node = node_name(patient.settings)
    topics = Topics(settings.base_topic, node)
    client_id = (settings.client_id or f"edge-sser-{node}") + "-doctor"
    visit = _visit(settings, topics, password=password, client_id=client_id)
    if visit.standing is None:
        return Finding(
            State.PROBLEM,
            f"{broker} does not answer within {ANSWER_SECONDS:.0f} s",
            "is that an MQTT broker's host and port (mqtt.url), and does no firewall stand between?",
        )
    if visit.standing.state is not LinkState.CONNECTED:
        return Finding(State.PROBLEM, f"{broker}: {visit.standing.detail}", visit.standing.remedy)
    who = f" as {broker.username}" if broker.username else ""
    version = visit.standing.detail
    limits = "" if version == "MQTT 5" else ", which cannot say what is denied"
    fine = Finding(State.FINE, f"{broker} lets us in{who} and takes messages ({version}{limits})")
    return _judge(visit.answers, topics) or fine


def _judge(answers: Mapping[str, str | None], topics: Topics) -> Finding | None:
    """What is wrong for somebody whom the broker lets in.

    Args:
        answers: topics that the broker answered for, with the reason where it refused.
        topics: of this device.
    """
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


@dataclass(frozen=True, slots=True)
class _Visit:
    """What came of a connection.

    Attributes:
        standing: how it came out; None when nothing was heard in time.
        answers: topics that the broker answered for, with the reason where it refused.
    """

    standing: LinkStatus | None
    answers: Mapping[str, str | None]


def _visit(settings: MqttSettings, topics: Topics, *, password: str | None, client_id: str) -> _Visit:
    address = parse_address(settings.url)
    options = LinkOptions(
        address=address,
        client_id=client_id,
        keepalive_seconds=settings.keepalive_seconds,
        retry_min_seconds=ONCE_SECONDS,
        retry_max_seconds=ONCE_SECONDS,
        password=lambda: password,
        tls=lambda: tls_context(settings) if address.tls else None,
        subscriptions=((topics.listen_set, 1),),
    )
    link, listener = BrokerLink(options), _Listener(topics)
    link.start(listener)  # a thread of its own, so that a name server that does not answer holds up nobody for long
    try:
        standing = next(_arriving(listener.statuses), None)
        answers: dict[str, str | None] = {}
        if standing is not None and standing.state is LinkState.CONNECTED:
            for topic, refusal in _arriving(listener.answers):
                answers[topic] = refusal
                if {_probe(topics), topics.listen_set} <= answers.keys():
                    break
    finally:
        link.close([], CLOSE_SECONDS)
    return _Visit(standing, answers)


class _Listener:
    """Queues the statuses of a link, and the answers to one message. A `LinkListener`."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self.statuses: SimpleQueue[LinkStatus] = SimpleQueue()
        self.answers: SimpleQueue[tuple[str, str | None]] = SimpleQueue()

    def last_will(self) -> None:
        return None

    def first_messages(self) -> list[Message]:
        return [Message(topic=_probe(self._topics), payload=b"", qos=1, retain=False)]

    def on_connect(self, generation: int) -> None:
        pass

    def on_disconnect(self) -> None:
        pass

    def on_answer(self, topic: str, tag: Tag, refusal: str | None) -> None:
        self.answers.put((topic, refusal))

    def on_message(self, topic: str, payload: bytes, retained: bool) -> None:
        pass

    def on_status(self, status: LinkStatus) -> None:
        self.statuses.put(status)

    def on_failure(self, error: Exception) -> None:
        self.statuses.put(LinkStatus(LinkState.UNREACHABLE, f"this program has failed: {error!r}"))


def _probe(topics: Topics) -> str:
    return f"{topics.base}/{topics.node}/doctor"


def _arriving(queue: SimpleQueue[T]) -> Iterator[T]:
    """What comes out of a queue within ANSWER_SECONDS."""
    deadline = time.monotonic() + ANSWER_SECONDS
    with suppress(Empty):
        while True:
            yield queue.get(timeout=max(0.0, deadline - time.monotonic()))


def _credential(patient: CheckContext) -> Path | None:
    """The file of the systemd credential: what this process was handed, else what a service would be.

    Both kinds of service keep it beside their settings.
    """
    handed = os.environ.get("CREDENTIALS_DIRECTORY")
    folder = Path(handed) if handed else patient.settings_file and patient.settings_file.parent
    return folder / CREDENTIAL if folder and (folder / CREDENTIAL).exists() else None


def _readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # not there: the broker's check says so
        return False
