"""Sink of notifications: episodes and health go through an outbox on disk to each target.

`emit` only decides and queues. The thread of the outbox stores messages, and a thread for each target delivers them, so
that a target which hangs delays neither listening nor the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from edge_sser.errors import SinkError
from edge_sser.events import Episode, Event, Health, Level, Phase
from edge_sser.files import state_directory
from edge_sser.settings.notify import NotifyEvent, NotifySettings, QuietHours
from edge_sser.sinks.base import Sink
from edge_sser.sinks.mqtt.outbox import Entry, Outbox, Record
from edge_sser.sinks.mqtt.worker import OutboxWorker
from edge_sser.sinks.notify.delivery import Lane, NotifyDelivery
from edge_sser.sinks.notify.targets import DeliveryError, open_target

OUTBOX_BYTES: Final = 4 * 2**20  # thousands of messages
CLOSE_SECONDS: Final = 3.0  # for the last messages to be delivered


class NotifySink(Sink):
    """Tells targets of episodes and health.

    Args:
        tables: one for each target.
        directory: for the outbox; `notify` in the state directory when not given.
        clock: monotonic seconds.
        local_time: the time of day.

    Raises:
        SettingsError: a command, file or certificate cannot be used.
        MissingComponentError: httpx or Apprise is not installed.
    """

    def __init__(
        self,
        tables: Sequence[NotifySettings],
        *,
        directory: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        local_time: Callable[[], datetime] = datetime.now,
    ) -> None:
        targets = [open_target(table) for table in tables]
        folder = state_directory() / "notify" if directory is None else directory
        self._filters = [EpisodeFilter(table, clock=clock, local_time=local_time) for table in tables]
        self._closed = False
        self._delivery = NotifyDelivery(
            targets, told_file=folder / "told.json", answer=self._answer, local_time=local_time
        )
        self._worker = OutboxWorker(
            lambda: Outbox(folder / "outbox.db", max_bytes=OUTBOX_BYTES),
            self._delivery,
            on_change=lambda _report: None,
        )
        self._worker.start()

    @property
    def trouble(self) -> str:
        """Faults that endanger messages. A target that does not answer is none: messages wait on disk."""
        trouble = self._worker.report.storage_trouble
        return f"notify: {trouble}" if trouble else ""

    def emit(self, event: Event, line: bytes) -> None:
        """Queues the messages of an event; never waits.

        Raises:
            SinkError: the sink is closed, or has failed for good.
        """
        if self._worker.failure is not None:
            raise SinkError(f"notifications have failed: {self._worker.failure!r}")
        if self._closed:
            raise SinkError("notifications are closed")
        if not isinstance(event, (Episode, Health)):
            return
        for each in self._filters:
            topic = f"{each.settings.name}/{event.type}/{event.source}"
            if isinstance(event, Episode):
                if each.passes(event):
                    self._worker.store(Record(topic, line, retain=False))
            elif NotifyEvent.HEALTH in each.settings.events:
                self._delivery.latest[topic] = line
                self._worker.store(Record(topic, line, retain=False))

    def close(self) -> None:
        """Stores queued messages and waits a little for deliveries; the rest goes out after the next start."""
        if not self._closed:
            self._closed = True
            self._worker.close(CLOSE_SECONDS)
            self._delivery.close()

    def _answer(self, lane: Lane, entry: Entry, failure: DeliveryError | None) -> None:
        self._worker.submit(self._delivery.answer, lane, entry, failure)


class EpisodeFilter:
    """Decides which events of episodes a target is told. An episode is told or left out as a whole.

    Args:
        settings: of the target.
        clock: monotonic seconds.
        local_time: the time of day.
    """

    def __init__(
        self, settings: NotifySettings, *, clock: Callable[[], float], local_time: Callable[[], datetime]
    ) -> None:
        self.settings = settings
        self._quiet = None if settings.quiet_hours is None else QuietHours.parse(settings.quiet_hours)
        self._clock = clock
        self._local_time = local_time
        self._told: dict[str, bool] = {}  # open episodes that have reached the level, by id -> told or left out
        self._told_at: dict[str, float] = {}  # source -> monotonic seconds

    def passes(self, event: Episode) -> bool:
        """Returns True when the target is to be told of the event."""
        begins = event.id not in self._told and _reaches(event.level, self.settings.level)
        if begins:
            self._told[event.id] = self._is_time(event.source)
        ends = event.phase is Phase.END
        told = self._told.pop(event.id, False) if ends else self._told.get(event.id, False)
        wanted = self.settings.events
        return told and ((begins and NotifyEvent.START in wanted) or (ends and NotifyEvent.END in wanted))

    def _is_time(self, source: str) -> bool:
        if self._quiet is not None and self._quiet.seconds_left(self._local_time()):
            return False
        now, told_at = self._clock(), self._told_at.get(source)
        if told_at is not None and now - told_at < self.settings.min_interval_seconds:
            return False
        self._told_at[source] = now
        return True


def _reaches(level: Level, least: Level) -> bool:
    return level.rank >= least.rank
