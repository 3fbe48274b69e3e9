"""The sinks that settings name beside standard output: opened, replaced while listening goes on, closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from edge_sser.errors import EdgeSserError
from edge_sser.events import Status, to_line
from edge_sser.files import resolve_path
from edge_sser.settings.names import node_name
from edge_sser.settings.schema import Settings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.swap import SwappableSink

if TYPE_CHECKING:
    from edge_sser.sinks.file import RotatingFileSink
    from edge_sser.sinks.metrics import MetricsSink
    from edge_sser.sinks.mqtt.sink import MqttReport, MqttSink

log = logging.getLogger("edge_sser.output")

TABLES: Final = ("file", "metrics", "mqtt")  # of the settings; one makes one sink


class ConfiguredSinks:
    """One replaceable sink for each table of the settings. A sink's module is imported only when it is configured.

    Args:
        settings: tables of the sinks.
        status: returns the current status of the program.

    Attributes:
        sinks: one for each table, to get every event.

    Raises:
        EdgeSserError: a sink cannot be opened.
    """

    def __init__(self, settings: Settings, *, status: Callable[[], Status], sources: Sequence[str]) -> None:
        self._settings = settings
        self._status = status
        self._sources = tuple(sources)
        self._file: RotatingFileSink | None = None
        self._metrics: MetricsSink | None = None
        self._mqtt: MqttSink | None = None
        self._listening = True
        self._slots = {table: SwappableSink() for table in TABLES}
        self.sinks: Sequence[Sink] = tuple(self._slots.values())
        try:
            for table in TABLES:
                self._slots[table].attach(self._open(table, settings))
        except BaseException:
            self.close()
            raise

    @property
    def listening(self) -> bool:
        """True unless a command from the broker has paused listening."""
        mqtt = self._mqtt
        if mqtt is not None:
            self._listening = mqtt.listening
        return self._listening

    @property
    def trouble(self) -> str:
        """One line for a person on events that may get lost; empty without trouble."""
        file, mqtt = self._file, self._mqtt
        parts = [] if mqtt is None else [mqtt.report.storage_trouble]
        if file is not None and file.fault is not None:
            parts.append(f"the event file cannot be written: {file.fault}")
        parts += [slot.failure for slot in self._slots.values()]
        return "; ".join(filter(None, parts))

    def apply(self, settings: Settings) -> None:
        """Reopens the sinks whose settings differ. May take seconds; events are queued meanwhile.

        Raises:
            EdgeSserError: a sink cannot be opened. The sinks of before are restored as far as possible.
        """
        before = self._settings
        changed = [table for table in TABLES if getattr(settings, table) != getattr(before, table)]
        try:
            for table in changed:
                self._reopen(table, settings)
        except EdgeSserError:
            for table in changed:
                self._restore(table, before)
            raise
        self._settings = settings
        if self._mqtt is None:
            self._listening = True
            self._set_metrics_listening(True)

    def close(self) -> None:
        """Delivers queued events where that is possible now, and closes all sinks. Safe to call twice."""
        for table in reversed(TABLES):
            self._close(table)

    def _restore(self, table: str, settings: Settings) -> None:
        try:
            self._reopen(table, settings)
        except EdgeSserError as error:
            self._slots[table].attach(None)
            log.error("%s; the other outputs go on", error)

    def _reopen(self, table: str, settings: Settings) -> None:
        slot = self._slots[table]
        slot.detach()
        self._close(table)
        slot.attach(self._open(table, settings))  # on failure events are queued until `_restore`

    def _open(self, table: str, settings: Settings) -> Sink | None:
        if table == "file" and settings.file is not None:
            from edge_sser.sinks.file import RotatingFileSink

            path = resolve_path(settings.file.path)
            self._file = RotatingFileSink(settings.file.model_copy(update={"path": path}))
            return self._file
        if table == "metrics" and settings.metrics is not None:
            from edge_sser.sinks.metrics import MetricsSink

            self._metrics = MetricsSink(address=settings.metrics.address, port=settings.metrics.port)
            self._metrics.watch_mqtt(self._mqtt_report)
            self._metrics.set_listening(self.listening)
            status = self._status()
            self._metrics.emit(status, to_line(status))
            return self._metrics
        if table == "mqtt" and settings.mqtt is not None:
            from edge_sser.sinks.mqtt.sink import MqttSink

            self._mqtt = MqttSink(
                settings.mqtt,
                node=node_name(settings),
                status=self._status(),
                sources=self._sources,
                on_listen=self._set_metrics_listening,
            )
            self._set_metrics_listening(self._mqtt.listening)
            return self._mqtt
        return None

    def _close(self, table: str) -> None:
        if table == "file" and self._file is not None:
            self._file.close()
            self._file = None
        elif table == "metrics" and self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        elif table == "mqtt" and self._mqtt is not None:
            self._listening = self._mqtt.listening
            mqtt, self._mqtt = self._mqtt, None
            mqtt.close()

    def _set_metrics_listening(self, on: bool) -> None:
        metrics = self._metrics
        if metrics is not None:
            metrics.set_listening(on)

    def _mqtt_report(self) -> MqttReport | None:
        mqtt = self._mqtt
        return None if mqtt is None else mqtt.report
