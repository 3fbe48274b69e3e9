"""The outputs that settings name beside standard output: opened, exchanged while listening goes on, closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from edge_sser.errors import EdgeSserError
from edge_sser.events import Status, to_line
from edge_sser.files import resolve_path
from edge_sser.settings.node import node_name
from edge_sser.settings.schema import Settings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.swap import SwappableSink

if TYPE_CHECKING:
    from edge_sser.sinks.file import RotatingFileSink
    from edge_sser.sinks.metrics import MetricsSink
    from edge_sser.sinks.mqtt.sink import MqttReport, MqttSink

log = logging.getLogger("edge_sser.output")

TABLES: Final = ("file", "metrics", "mqtt")  # of the settings; one makes one output


class Outputs:
    """See the module. A sink's module is imported when the settings ask for it.

    Args:
        settings: which outputs there are.
        status: what runs here, as it is now.
        sources: names of what is listened to.

    Attributes:
        sinks: to be given every event.

    Raises:
        EdgeSserError: one cannot be opened.
    """

    def __init__(self, settings: Settings, *, status: Callable[[], Status], sources: Sequence[str]) -> None:
        self._settings = settings
        self._status = status
        self._sources = tuple(sources)
        self._file: RotatingFileSink | None = None
        self._metrics: MetricsSink | None = None
        self._mqtt: MqttSink | None = None
        self._listening = True
        self._places = {table: SwappableSink() for table in TABLES}
        self.sinks: Sequence[Sink] = tuple(self._places.values())
        try:
            for table in TABLES:
                self._places[table].put(self._open(table, settings))
        except BaseException:
            self.close()
            raise

    @property
    def listening(self) -> bool:
        """Whether somebody on the bus wants audio to be listened to; True without a bus."""
        mqtt = self._mqtt
        if mqtt is not None:
            self._listening = mqtt.listening
        return self._listening

    @property
    def trouble(self) -> str:
        """What keeps promised events from being kept, in one line; empty when nothing does."""
        file, mqtt = self._file, self._mqtt
        parts = [] if mqtt is None else [mqtt.report.storage_trouble]
        if file is not None and file.fault is not None:
            parts.append(f"the event file cannot be written: {file.fault}")
        parts += [place.failure for place in self._places.values()]
        return "; ".join(filter(None, parts))

    def apply(self, settings: Settings) -> None:
        """Exchanges the outputs whose settings differ. It may take seconds; events wait meanwhile.

        Raises:
            EdgeSserError: one cannot be opened. All are as they were before, as far as they can be.
        """
        before = self._settings
        changed = [table for table in TABLES if getattr(settings, table) != getattr(before, table)]
        try:
            for table in changed:
                self._exchange(table, settings)
        except EdgeSserError:
            for table in changed:
                self._restore(table, before)
            raise
        self._settings = settings
        if self._mqtt is None:
            self._listening = True
            self._tell_metrics(True)

    def close(self) -> None:
        """Delivers what can be delivered now and closes all. Safe to call twice."""
        for table in reversed(TABLES):
            self._close(table)

    def _restore(self, table: str, settings: Settings) -> None:
        try:
            self._exchange(table, settings)
        except EdgeSserError as error:
            self._places[table].put(None)
            log.error("%s; the other outputs go on", error)

    def _exchange(self, table: str, settings: Settings) -> None:
        place = self._places[table]
        place.hold()
        self._close(table)
        place.put(self._open(table, settings))  # should it fail, events wait until what was before is restored

    def _open(self, table: str, settings: Settings) -> Sink | None:
        if table == "file" and settings.file is not None:
            from edge_sser.sinks.file import RotatingFileSink

            path = resolve_path(settings.file.path)
            self._file = RotatingFileSink(settings.file.model_copy(update={"path": path}))
            return self._file
        if table == "metrics" and settings.metrics is not None:
            from edge_sser.sinks.metrics import open_metrics

            self._metrics = open_metrics(settings.metrics)
            self._metrics.watch_mqtt(self._mqtt_report)
            self._metrics.set_listening(self.listening)
            status = self._status()
            self._metrics.emit(status, to_line(status))
            return self._metrics
        if table == "mqtt" and settings.mqtt is not None:
            from edge_sser.sinks.mqtt.sink import open_mqtt

            self._mqtt = open_mqtt(
                settings.mqtt,
                node=node_name(settings),
                status=self._status(),
                sources=self._sources,
                on_listen=self._tell_metrics,
            )
            self._tell_metrics(self._mqtt.listening)
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

    def _tell_metrics(self, on: bool) -> None:
        metrics = self._metrics
        if metrics is not None:
            metrics.set_listening(on)

    def _mqtt_report(self) -> MqttReport | None:
        mqtt = self._mqtt
        return None if mqtt is None else mqtt.report
