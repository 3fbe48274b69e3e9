"""Delivery of queued messages to targets: one at a time for each, with retries, held back while it is quiet."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from edge_sser.errors import EdgeSserError, SinkError
from edge_sser.events import HealthState, epoch_seconds
from edge_sser.files import write_file
from edge_sser.settings.notify import NotifySettings, QuietHours
from edge_sser.sinks.mqtt.outbox import Entry, Key, Outbox
from edge_sser.sinks.notify.message import message_of
from edge_sser.sinks.notify.targets import DeliveryError, Target

log = logging.getLogger("edge_sser.notify")

FIRST_RETRY_SECONDS: Final = 2.0
AT_ONCE: Final = 16  # entries looked at in one query

Answer = Callable[["Lane", Entry, "DeliveryError | None"], None]


class Lane:
    """The way to one target: a thread that delivers one entry at a time.

    Args:
        target: of the messages.
        answer: called in the thread with the outcome.

    Attributes:
        entry: on its way, None when the lane is free.
    """

    def __init__(self, target: Target, answer: Answer) -> None:
        self.target = target
        self.settings: NotifySettings = target.settings
        self.quiet = None if self.settings.quiet_hours is None else QuietHours.parse(self.settings.quiet_hours)
        self.entry: Entry | None = None
        self.retry_at = 0.0  # monotonic seconds
        self.delay = 0.0
        self.fault = ""
        self.told_at: dict[str, float] = {}  # topic of health -> monotonic seconds
        self._answer = answer
        self._queue: SimpleQueue[Entry | None] = SimpleQueue()
        name = f"edge-sser-notify-{self.settings.name}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def send(self, entry: Entry) -> None:
        """Delivers an entry in the thread."""
        self.entry = entry
        self._queue.put(entry)

    def close(self) -> None:
        """Ends the thread; does not wait for a server that hangs."""
        self._queue.put(None)
        self.target.close()
        self._thread.join(0.5)

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            failure: DeliveryError | None = None
            try:
                key = f"{entry.stream}-{self.settings.name}-{entry.seq}"
                self.target.deliver(message_of(entry.record.payload), key)
            except DeliveryError as error:
                failure = error
            except EdgeSserError as error:
                failure = DeliveryError(str(error))
            except Exception as error:  # of a library: the others go on, and it is tried again
                failure = DeliveryError(f"failed: {type(error).__name__}")
            self._answer(self, entry, failure)


class NotifyDelivery:
    """Entries on their way to the targets; an `EntryDelivery`, for the thread of the outbox.

    Topics of entries are `name/episode/source` and `name/health/source`, by the name of the target.

    Args:
        targets: with different names.
        told_file: keeps the health that each target was told last, so that a restart tells nothing twice.
        answer: queues a call of the method `answer` for the thread.
        local_time: the time of day.

    Attributes:
        latest: the latest health of each topic, JSON; older entries are left out.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        told_file: Path,
        answer: Answer,
        local_time: Callable[[], datetime],
    ) -> None:
        self.lanes = {target.settings.name: Lane(target, answer) for target in targets}
        self._told_file = told_file
        self._told = _read_told(told_file)
        self._local_time = local_time
        self._wake_at = float("inf")  # monotonic seconds
        self.latest: dict[str, bytes] = {}
        self.connections = 0
        self.refused: dict[str, Any] = {}
        self.acknowledged: list[Entry] = []
        self.given_up: list[Entry] = []

    @property
    def unfinished(self) -> bool:
        """True while a delivery is under way, or has ended and is not processed."""
        return bool(self._busy or self.acknowledged or self.given_up)

    @property
    def retry_in(self) -> float | None:
        """Seconds until something is to do; None for never."""
        if self.acknowledged or self.given_up:
            return 0.0
        return None if self._wake_at == float("inf") else max(0.0, self._wake_at - time.monotonic())

    def send(self, outbox: Outbox) -> None:
        """Gives each free lane the oldest entry that is due."""
        self._wake_at = float("inf")
        # Health on its way decides what its target knows: a later state of the same source waits for the answer.
        blocked = {entry.record.topic for entry in self._busy if is_health(entry.record.topic)}
        again = True
        while again:
            again = False
            for entry in outbox.pending(AT_ONCE, skip=self._taken(), skip_topics=blocked):
                topic = entry.record.topic
                lane = self.lanes.get(topic.partition("/")[0])
                if topic in blocked:
                    again = True
                elif lane is None or self._is_settled(entry):
                    self.acknowledged.append(entry)
                elif self._is_too_old(entry, lane):
                    self.given_up.append(entry)
                else:
                    if self._is_due(entry, lane):
                        lane.send(entry)
                    blocked.add(topic)
                    again = True

    def answer(self, lane: Lane, entry: Entry, failure: DeliveryError | None) -> None:
        """Processes the outcome of a delivery. Called in the thread of the outbox."""
        lane.entry = None
        settings, label = lane.settings, lane.target.settings.name
        if failure is None:
            self.acknowledged.append(entry)
            self._remember(entry, lane)
            if lane.fault:
                log.warning("notify %s works again", label)
            lane.fault, lane.delay, lane.retry_at = "", 0.0, 0.0
            return
        if failure.final:
            self.given_up.append(entry)
            log.warning("notify %s: %s; the message is given up", label, failure)
            return
        if str(failure) != lane.fault:
            log.warning("notify %s: %s; messages wait on disk", label, failure)
        lane.fault = str(failure)
        lane.delay = min(max(2.0 * lane.delay, FIRST_RETRY_SECONDS), settings.retry_max_seconds)
        asked = min(failure.retry_after or 0.0, settings.retry_max_seconds)
        lane.retry_at = time.monotonic() + max(lane.delay, asked)

    def close(self) -> None:
        """Ends the lanes."""
        for lane in self.lanes.values():
            lane.close()

    @property
    def _busy(self) -> list[Entry]:
        return [lane.entry for lane in self.lanes.values() if lane.entry is not None]

    def _taken(self) -> set[Key]:
        return {entry.key for entry in (*self._busy, *self.acknowledged, *self.given_up)}

    def _is_settled(self, entry: Entry) -> bool:
        """Returns True for health that is out of date, or that the target knows."""
        topic = entry.record.topic
        if not is_health(topic):
            return False
        latest = self.latest.get(topic, entry.record.payload)
        known = self._told.get(topic, HealthState.OK.value)
        return latest != entry.record.payload or _state(entry) == known

    def _is_too_old(self, entry: Entry, lane: Lane) -> bool:
        age = time.time() - epoch_seconds(json.loads(entry.record.payload)["ts"])
        if age <= lane.settings.max_age_seconds:
            return False
        log.warning("notify %s: a message is older than max_age_seconds and is given up", lane.settings.name)
        return True

    def _is_due(self, entry: Entry, lane: Lane) -> bool:
        """Returns True when the lane may send the entry now; else sets the time to look again."""
        if lane.entry is not None:  # its answer wakes the thread
            return False
        now = time.monotonic()
        due_at = lane.retry_at
        if is_health(entry.record.topic):
            told_at = lane.told_at.get(entry.record.topic)
            if told_at is not None:
                due_at = max(due_at, told_at + lane.settings.min_interval_seconds)
            if lane.quiet is not None:
                quiet_seconds = lane.quiet.seconds_left(self._local_time())
                due_at = max(due_at, now + quiet_seconds) if quiet_seconds else due_at
        if due_at <= now:
            return True
        self._wake_at = min(self._wake_at, due_at)
        return False

    def _remember(self, entry: Entry, lane: Lane) -> None:
        topic = entry.record.topic
        if is_health(topic):
            lane.told_at[topic] = time.monotonic()
            self._told[topic] = _state(entry)
            with suppress(SinkError):  # a message may then come twice
                write_file(self._told_file, json.dumps(self._told), SinkError, mode=0o600, folder_mode=0o700)


def is_health(topic: str) -> bool:
    """Returns True for the topic of health messages."""
    return topic.split("/")[1] == "health"


def _state(entry: Entry) -> str:
    return str(json.loads(entry.record.payload)["state"])


def _read_told(path: Path) -> dict[str, str]:
    try:
        told = json.loads(path.read_text("utf-8"))
        return {str(topic): str(state) for topic, state in told.items()}
    except (OSError, ValueError, AttributeError):
        return {}
