"""Carries episodes and health from `emit` to the disk, from the disk to the link, and off the disk when acknowledged.

`emit` runs where audio is processed and must not wait. Two things behind it can take any time, a disk and a network,
and neither may delay the other: a broker would declare a device dead whose pings wait for a worn-out SD card, and an
event is not safe while its `put` waits for a name server. So each has one thread that owns it, the link's (see
broker.py) and the one here, and they meet only in queues.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

from edge_sser.sinks.mqtt.connection import Message, Tag
from edge_sser.sinks.mqtt.diagnosis import LinkState
from edge_sser.sinks.mqtt.outbox import Entry, Key, Outbox, Record

log = logging.getLogger("edge_sser.mqtt")

WINDOW = 16  # entries in flight: below the 20 that paho and mosquitto allow, with room for status and discovery
UNSTORED = 10_000  # events held for a disk that does not answer, before the oldest go


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttReport:
    """How the sink is doing.

    Attributes:
        link: how it stands with the broker, and `detail` why, for a person.
        connections: how often a connection came about.
        outbox_depth: episodes and health that wait for an acknowledgement.
        outbox_bytes: what they take.
        stored: taken into the outbox by this process; from then on an event is safe.
        lost: dropped from the outbox for want of room or to damage, since its file was begun.
        lost_now: of these, by this process.
        readings_dropped: readings that came while there was no broker, or faster than the network.
        storage_fault: why events are in memory only; None when they are safe on disk.
        damaged: damaged outbox files moved aside by this process.
        refused: topics that the broker does not let us use, each with its reason.
    """

    link: LinkState = LinkState.CONNECTING
    detail: str = ""
    connections: int = 0
    outbox_depth: int = 0
    outbox_bytes: int = 0
    stored: int = 0
    lost: int = 0
    lost_now: int = 0
    readings_dropped: int = 0
    storage_fault: str | None = None
    damaged: int = 0
    refused: tuple[tuple[str, str], ...] = ()

    @property
    def trouble(self) -> str:
        """One line for a person on what is wrong; empty when nothing is."""
        broker = ""
        if self.link in (LinkState.UNREACHABLE, LinkState.UNTRUSTED, LinkState.REFUSED):
            broker = f"MQTT broker {self.link.value}: {self.detail}"
        return "; ".join(filter(None, (broker, self.storage_trouble)))

    @property
    def storage_trouble(self) -> str:
        """The same, of what endangers events that were promised: an absent broker does not, they wait on disk."""
        parts = []
        if self.storage_fault is not None:
            parts.append(f"episodes are in memory only: {self.storage_fault}")
        if self.refused:
            parts.append("the broker refuses " + ", ".join(topic for topic, _ in self.refused))
        if self.lost_now:
            parts.append(f"{self.lost_now} events were lost from the outbox since the program started")
        return "; ".join(parts)


_NEWS = ("link", "detail", "lost", "storage_fault", "damaged", "refused")  # what `on_change` is called for


class Sender(Protocol):
    """The side of a link that takes messages."""

    def send(self, message: Message, tag: Tag = None, generation: int | None = None) -> None:
        """See BrokerLink.send."""


@dataclass(slots=True)
class _Refusal:
    reason: str
    retry_at: float  # monotonic seconds


class OutboxWorker:
    """The thread that owns the outbox.

    Args:
        path: the outbox's file.
        max_bytes: its bound.
        retry_refused_seconds: when to offer again what the broker refused: access rules get corrected.
        link: where entries go.
        on_change: called in the thread when a part of the report changed that a person should know of.
        on_failure: called in the thread when it ends because of a fault in this program.

    Attributes:
        report: how things stand, a moment ago.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        retry_refused_seconds: float,
        link: Sender,
        on_change: Callable[[MqttReport], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._retry_refused_seconds = retry_refused_seconds
        self._link = link
        self._on_change = on_change
        self._on_failure = on_failure
        self._records: deque[Record] = deque()
        self._records_lock = threading.Lock()
        self._overflow = 0
        self._lost_before = 0
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._give_up_at = float("inf")
        self._generation: int | None = None
        self._handed: dict[Key, Entry] = {}  # given to the link, not answered yet
        self._acknowledged: list[Entry] = []
        self._refused: dict[str, _Refusal] = {}
        self.report = MqttReport()
        self._announced = self.report
        self._thread = threading.Thread(target=self._run, name="edge-sser-outbox", daemon=True)

    def start(self) -> None:
        """Opens the outbox and begins to work. Returns at once."""
        self._thread.start()

    def keep(self, record: Record) -> None:
        """Takes a record to store and deliver. From any thread; never waits."""
        with self._records_lock:
            if len(self._records) >= UNSTORED:
                self._records.popleft()
                self._overflow += 1
            self._records.append(record)
        self._wake.set()

    def do(self, job: Callable[[], None]) -> None:
        """Runs something in the thread, soon."""
        self._jobs.put(job)
        self._wake.set()

    def close(self, timeout: float) -> None:
        """Stores what is left, waits for acknowledgements, and ends the thread.

        Args:
            timeout: seconds for the acknowledgements. A disk that hangs is not waited for much longer either.
        """
        self._give_up_at = time.monotonic() + timeout
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout + 2.0)

    # ---- what the link says, in its thread

    def link_up(self, generation: int) -> None:
        """A connection stands."""
        self.do(partial(self._up, generation))

    def link_down(self) -> None:
        """It is gone."""
        self.do(self._down)

    def link_changed(self, state: LinkState, detail: str) -> None:
        """How it stands with the broker has changed."""
        self.do(partial(self._changed, state, detail))

    def link_answered(self, topic: str, tag: Tag, refusal: str | None) -> None:
        """The broker took a message, or refused it for a reason."""
        self.do(partial(self._answered, topic, tag, refusal))

    # ---- the thread

    def _run(self) -> None:
        try:
            outbox = Outbox(self._path, max_bytes=self._max_bytes)
            self._lost_before = outbox.lost
            while not self._finished():
                self._turn(outbox)
                self._wake.wait(self._nap_seconds(outbox))
                self._wake.clear()
            outbox.close()
        except Exception as error:
            log.exception("the outbox thread has failed")
            self._on_failure(error)

    def _turn(self, outbox: Outbox) -> None:
        """Hears the link, stores what was emitted, hands on what is due."""
        for _ in range(self._jobs.qsize()):  # those that come meanwhile wait: events must get their turn
            self._jobs.get_nowait()()
        with self._records_lock:
            records = list(self._records)
            self._records.clear()
        outbox.put(records)
        outbox.remove(self._acknowledged)
        self._acknowledged = []
        outbox.tend()
        if self._generation is not None:
            self._hand_on(outbox, self._generation)
        self._tell(outbox, len(records))

    def _hand_on(self, outbox: Outbox, generation: int) -> None:
        now = time.monotonic()
        in_flight = {entry.record.topic for entry in self._handed.values()}
        resting = {topic for topic, it in self._refused.items() if it.retry_at > now or topic in in_flight}
        skipped = True
        while skipped and (room := WINDOW - len(self._handed)) > 0:
            skipped = False
            for entry in outbox.waiting(room, skip=self._handed.keys(), skip_topics=resting):
                topic = entry.record.topic
                if topic in resting:
                    skipped = True
                    continue
                if topic in self._refused:  # one to try; the others when it was taken, so that their order is kept
                    resting.add(topic)
                self._handed[entry.key] = entry
                self._link.send(_message(entry), entry, generation)

    def _finished(self) -> bool:
        if not self._stop.is_set() or self._records or not self._jobs.empty():
            return False
        waits = self._generation is not None and (self._handed or self._acknowledged)
        return not waits or time.monotonic() >= self._give_up_at

    def _nap_seconds(self, outbox: Outbox) -> float | None:
        """How long there is nothing to do unless something happens; None for ever."""
        if self._stop.is_set():
            return 0.02
        now = time.monotonic()
        times = [refusal.retry_at - now for refusal in self._refused.values() if refusal.retry_at > now]
        if outbox.retry_in is not None:
            times.append(outbox.retry_in)
        return min(times, default=None)

    def _tell(self, outbox: Outbox, stored: int) -> None:
        self.report = now = replace(
            self.report,
            outbox_depth=outbox.depth,
            outbox_bytes=outbox.size_bytes,
            stored=self.report.stored + stored,
            lost=outbox.lost + self._overflow,
            lost_now=outbox.lost - self._lost_before + self._overflow,
            storage_fault=outbox.fault,
            damaged=outbox.damaged,
            refused=tuple((topic, refusal.reason) for topic, refusal in self._refused.items()),
        )
        before, self._announced = self._announced, now
        if any(getattr(now, name) != getattr(before, name) for name in _NEWS):
            self._on_change(now)

    def _up(self, generation: int) -> None:
        self._generation = generation
        for refusal in self._refused.values():
            refusal.retry_at = 0.0
        self.report = replace(self.report, connections=self.report.connections + 1)

    def _down(self) -> None:
        self._generation = None
        self._handed.clear()  # all of it is still in the outbox

    def _changed(self, state: LinkState, detail: str) -> None:
        self.report = replace(self.report, link=state, detail=detail)

    def _answered(self, topic: str, tag: Tag, refusal: str | None) -> None:
        if isinstance(tag, Entry):
            self._handed.pop(tag.key, None)
            if refusal is None:
                self._acknowledged.append(tag)
        if refusal is None:
            if self._refused.pop(topic, None) is not None:
                log.warning("MQTT broker takes %s now", topic)
            return
        if topic not in self._refused:
            hint = "; check its access rules" if "uthorized" in refusal else ""
            log.warning("MQTT broker refuses %s: %s%s", topic, refusal, hint)
        self._refused[topic] = _Refusal(refusal, time.monotonic() + self._retry_refused_seconds)


def _message(entry: Entry) -> Message:
    record = entry.record
    numbers = (("seq", str(entry.seq)), ("stream", entry.stream))
    return Message(topic=record.topic, payload=record.payload, qos=1, retain=record.retain, properties=numbers)
