"""Moves episodes and health from `emit` to the outbox on disk, to the link, and out of the outbox when acknowledged.

`emit` runs where audio is processed and must not wait. A disk and a network can each take any time, and neither may
delay the other: a broker would declare a device dead whose pings wait for a worn-out SD card, and an event is not safe
while its `put` waits for a name server. So the link has a thread (see link.py), the outbox has the thread here, and the
two exchange data through queues only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from edge_sser.sinks.mqtt.client import NOT_AUTHORIZED, Refusal
from edge_sser.sinks.mqtt.connection import Message, Tag
from edge_sser.sinks.mqtt.diagnosis import LinkStatus, MqttReport
from edge_sser.sinks.mqtt.link import BrokerLink
from edge_sser.sinks.mqtt.outbox import Entry, Key, Outbox, Record

log = logging.getLogger("edge_sser.mqtt")

WINDOW = 16  # entries in flight: below the 20 that paho and mosquitto allow, with room for status and discovery
MAX_UNSTORED = 10_000  # events queued for a disk that does not answer, before the oldest go

_NOTIFIED = ("link", "detail", "lost", "storage_fault", "damaged", "refused")  # changes of these call `on_change`


@dataclass(slots=True)
class _Refused:
    reason: str
    retry_at: float  # monotonic seconds


class EntryDelivery(Protocol):
    """Sender of the entries of an outbox. For the worker's thread.

    Attributes:
        connections: made so far.
        refused: topics with the reason and the time of the next attempt.
        acknowledged: entries to remove from the outbox.
        given_up: entries to remove and to count as lost.
    """

    connections: int
    refused: dict[str, _Refused]
    acknowledged: list[Entry]
    given_up: list[Entry]

    @property
    def unfinished(self) -> bool:
        """True while an answer may come, or has come and is not processed."""

    @property
    def retry_in(self) -> float | None:
        """Seconds until there is something to send without a wake-up; None for never."""

    def send(self, outbox: Outbox) -> None:
        """Sends entries, as far as that is possible now."""


D = TypeVar("D", bound=EntryDelivery)


class Delivery:
    """Entries in flight on the current connection, and the topics that the broker refuses. For the worker's thread.

    Args:
        retry_refused_seconds: until a refused topic is tried again: access rules may be corrected.

    Attributes:
        refused: topics with the reason and the time of the next attempt.
        acknowledged: entries to remove from the outbox.
        given_up: entries to remove and to count as lost, because the broker will never take them.
    """

    def __init__(self, link: BrokerLink, retry_refused_seconds: float) -> None:
        self._link = link
        self._retry_refused_seconds = retry_refused_seconds
        self._generation: int | None = None
        self._in_flight: dict[Key, Entry] = {}
        self.connections = 0
        self.refused: dict[str, _Refused] = {}
        self.acknowledged: list[Entry] = []
        self.given_up: list[Entry] = []

    @property
    def unfinished(self) -> bool:
        """True while an acknowledgement may come, or has come and is not processed."""
        return self._generation is not None and bool(self._in_flight or self.acknowledged or self.given_up)

    @property
    def retry_in(self) -> float | None:
        """Seconds until a refused topic is tried again; None for never."""
        now = time.monotonic()
        return min((it.retry_at - now for it in self.refused.values() if it.retry_at > now), default=None)

    def connect(self, generation: int) -> None:
        """Starts sending on a new connection, refused topics included."""
        self._generation = generation
        self.connections += 1
        for refusal in self.refused.values():
            refusal.retry_at = 0.0

    def disconnect(self) -> None:
        """Stops sending. Entries in flight are still in the outbox."""
        self._generation = None
        self._in_flight.clear()

    def answer(self, topic: str, tag: Tag, refusal: Refusal | None) -> None:
        """Processes an acknowledgement or refusal. A message refused for ever is given up, for those behind it."""
        if isinstance(tag, Entry):
            self._in_flight.pop(tag.key, None)
            if refusal is None:
                self.acknowledged.append(tag)
            elif refusal.final:
                self.given_up.append(tag)
        if refusal is None:
            if self.refused.pop(topic, None) is not None:
                log.warning("MQTT broker accepts %s now", topic)
            return
        if topic not in self.refused:
            hint = "; the message is given up" if refusal.final else ""
            hint = "; check its access rules" if refusal.code == NOT_AUTHORIZED else hint
            log.warning("MQTT broker refuses %s: %s%s", topic, refusal.reason, hint)
        wait_seconds = 0.0 if refusal.final else self._retry_refused_seconds
        self.refused[topic] = _Refused(refusal.reason, time.monotonic() + wait_seconds)

    def send(self, outbox: Outbox) -> None:
        """Sends the oldest entries that are not in flight, as far as the window allows."""
        if self._generation is None:
            return
        now = time.monotonic()
        topics = {entry.record.topic for entry in self._in_flight.values()}
        blocked = {topic for topic, it in self.refused.items() if it.retry_at > now or topic in topics}
        again = True
        while again and (room := WINDOW - len(self._in_flight)) > 0:
            again = False
            for entry in outbox.pending(room, skip=self._in_flight.keys(), skip_topics=blocked):
                topic = entry.record.topic
                if topic in blocked:
                    again = True
                    continue
                if topic in self.refused:  # one to try; the others follow when it was accepted, to keep their order
                    blocked.add(topic)
                self._in_flight[entry.key] = entry
                self._link.send(_message(entry), entry, self._generation)


class OutboxWorker(Generic[D]):
    """The thread that owns the outbox.

    Args:
        open_outbox: called in the thread.
        on_change: called in the thread when a part of the report changed that a person should know of.

    Attributes:
        delivery: as given; its methods are for `submit`.
        report: the state a moment ago.
        failure: the error that ended the thread, a fault in this program; None without one.
    """

    def __init__(
        self, open_outbox: Callable[[], Outbox], delivery: D, *, on_change: Callable[[MqttReport], None]
    ) -> None:
        self._open_outbox = open_outbox
        self.delivery = delivery
        self._on_change = on_change
        self._records: deque[Record] = deque()
        self._records_lock = threading.Lock()
        self._overflow = 0
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._give_up_at = float("inf")
        self.report = MqttReport()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="edge-sser-outbox", daemon=True)

    def start(self) -> None:
        """Opens the outbox and starts to work. Returns at once."""
        self._thread.start()

    def store(self, record: Record) -> None:
        """Queues a record to be stored and delivered. From any thread; never waits."""
        with self._records_lock:
            if len(self._records) >= MAX_UNSTORED:
                self._records.popleft()
                self._overflow += 1
            self._records.append(record)
        self._wake.set()

    def submit(self, job: Callable[..., None], *arguments: object) -> None:
        """Queues a call for the thread. From any thread; never waits."""
        self._jobs.put(partial(job, *arguments))
        self._wake.set()

    def close(self, timeout: float) -> None:
        """Stores the queued records, waits `timeout` seconds for acknowledgements, and ends the thread.

        A disk that hangs gets little more time.
        """
        self._give_up_at = time.monotonic() + timeout
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout + 2.0)

    # ---- in the worker's thread

    def set_status(self, status: LinkStatus) -> None:
        """Takes the link's status into the report. For `submit`."""
        self.report = replace(self.report, link=status.state, detail=str(status))

    def _run(self) -> None:
        try:
            outbox = self._open_outbox()
            lost_before = outbox.lost
            while not self._finished():
                before = self.report
                self._step(outbox, lost_before)
                if any(getattr(self.report, name) != getattr(before, name) for name in _NOTIFIED):
                    self._on_change(self.report)
                self._wake.wait(self._sleep_seconds(outbox))
                self._wake.clear()
            if outbox.waiting:
                log.warning("%s, to be sent when edge-sser runs again", outbox.waiting)
            outbox.close()
        except Exception as error:
            log.exception("the outbox thread has failed")
            self.failure = error

    def _step(self, outbox: Outbox, lost_before: int) -> None:
        """Runs the queued calls, stores the queued records, and sends entries."""
        for _ in range(self._jobs.qsize()):  # calls that come meanwhile wait for the next step: records come first
            self._jobs.get_nowait()()
        with self._records_lock:
            records = list(self._records)
            self._records.clear()
        outbox.put(records)
        outbox.remove(self.delivery.acknowledged)
        outbox.give_up(self.delivery.given_up)
        self.delivery.acknowledged, self.delivery.given_up = [], []
        outbox.retry_if_due()
        self.delivery.send(outbox)
        self.report = replace(
            self.report,
            connections=self.delivery.connections,
            outbox_depth=outbox.depth,
            outbox_bytes=outbox.size_bytes,
            stored=self.report.stored + len(records),
            lost=outbox.lost + self._overflow,
            lost_now=outbox.lost - lost_before + self._overflow,
            storage_fault=outbox.fault,
            damaged=outbox.damaged,
            refused=tuple((topic, it.reason) for topic, it in self.delivery.refused.items()),
        )

    def _finished(self) -> bool:
        if not self._stop.is_set() or self._records or not self._jobs.empty():
            return False
        return not self.delivery.unfinished or time.monotonic() >= self._give_up_at

    def _sleep_seconds(self, outbox: Outbox) -> float | None:
        """Returns the time until there is work without a wake-up; None for never."""
        if self._stop.is_set():
            return 0.02
        times = (self.delivery.retry_in, outbox.retry_in)
        return min((seconds for seconds in times if seconds is not None), default=None)


def _message(entry: Entry) -> Message:
    record = entry.record
    numbers = (("seq", str(entry.seq)), ("stream", entry.stream))
    return Message(topic=record.topic, payload=record.payload, qos=1, retain=record.retain, properties=numbers)
