"""The sinks that settings name beside standard output: opened, replaced while listening goes on, closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_sser.errors import EdgeSserError, SettingsError
from edge_sser.events import BaselineCommand, Status, to_line
from edge_sser.files import resolve_path, state_directory
from edge_sser.settings.names import node_name
from edge_sser.settings.notify import NotifySettings
from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import FileSinkSettings, HistorySettings, MetricsSettings, MqttSettings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.pause import PAUSE_FILE, PauseSwitch
from edge_sser.sinks.swap import SwappableSink

if TYPE_CHECKING:
    from edge_sser.sinks.metrics import MetricsSink
    from edge_sser.sinks.mqtt.sink import MqttReport, MqttSink

log = logging.getLogger("edge_sser.output")


class ConfiguredSinks:
    """One replaceable sink for each table of the settings. A sink's module is imported only when it is configured.

    Args:
        settings: tables of the sinks.
        status: returns the current status of the program.

    Attributes:
        sinks: one for each table, to get every event.
        switch: what pauses listening.

    Raises:
        EdgeSserError: a sink cannot be opened.
    """

    def __init__(self, settings: Settings, *, status: Callable[[], Status], sources: Sequence[str]) -> None:
        self._settings = settings
        self._status = status
        self._sources = tuple(sources)
        self._open_sinks: dict[str, Sink] = {}
        self._metrics: MetricsSink | None = None  # the last one opened, also when it is closed
        self._mqtt: MqttSink | None = None  # likewise
        self.switch = PauseSwitch(_pause_file())
        self._slots = {table: SwappableSink() for table in TABLES}
        self.sinks: Sequence[Sink] = tuple(self._slots.values())
        try:
            for table in TABLES:
                self._slots[table].attach(self._open(table, settings))
        except BaseException:
            self.close()
            raise

    def announce_pause(self) -> None:
        """Lets subscribers know soon that the switch was turned, also by another program."""
        if self._mqtt is not None and "mqtt" in self._open_sinks:
            self._mqtt.announce_listening()

    def take_baseline_commands(self) -> list[tuple[str, BaselineCommand]]:
        """Returns the commands of the broker for baselines since the last call, each with the name of its source."""
        return [] if self._mqtt is None else self._mqtt.take_baseline_commands()

    @property
    def trouble(self) -> str:
        """One line for a person on events that may get lost; empty without trouble."""
        sinks = [self._open_sinks.get(table) for table in reversed(TABLES)]
        parts = [sink.trouble for sink in sinks if sink is not None]
        return "; ".join(filter(None, (*parts, *(slot.failure for slot in self._slots.values()))))

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
        if "mqtt" not in self._open_sinks:
            self._mqtt = None

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
        section = getattr(settings, table)
        if section is not None and getattr(section, "enabled", True):
            self._open_sinks[table] = OPENERS[table](self, section)
        return self._open_sinks.get(table)

    def _close(self, table: str) -> None:
        sink = self._open_sinks.pop(table, None)
        if sink is not None:
            sink.close()

    def _open_file(self, section: FileSinkSettings) -> Sink:
        from edge_sser.sinks.file import RotatingFileSink

        return RotatingFileSink(section.model_copy(update={"path": resolve_path(section.path)}))

    def _open_history(self, section: HistorySettings) -> Sink:
        from edge_sser.sinks.history import HistorySink

        section = section.model_copy(update={"path": resolve_path(section.path)})
        return HistorySink(section, hop_seconds=self._settings.window.hop_seconds)

    def _open_metrics(self, section: MetricsSettings) -> Sink:
        from edge_sser.sinks.metrics import MetricsSink

        self._metrics = MetricsSink.of_settings(section)
        self._metrics.watch_mqtt(self._mqtt_report)
        self._metrics.watch_listening(lambda: not self.switch.reasons)
        status = self._status()
        self._metrics.emit(status, to_line(status))
        return self._metrics

    def _open_notify(self, section: Sequence[NotifySettings]) -> Sink:
        from edge_sser.sinks.notify.sink import NotifySink

        return NotifySink(section)

    def _open_mqtt(self, section: MqttSettings) -> Sink:
        from edge_sser.sinks.mqtt.sink import MqttSink

        self._mqtt = MqttSink(
            section,
            node=node_name(self._settings),
            status=self._status(),
            sources=self._sources,
            switch=self.switch,
        )
        return self._mqtt

    def _mqtt_report(self) -> MqttReport | None:
        mqtt = self._mqtt
        return mqtt.report if mqtt is not None and "mqtt" in self._open_sinks else None


def _pause_file() -> Path | None:
    try:
        return state_directory() / PAUSE_FILE
    except SettingsError:  # no place for state
        return None


# One line for each table of the settings. Sinks open in this order and close in reverse. MQTT opens last, so that a
# program that cannot open another sink never shows at the broker.
OPENERS: Final[dict[str, Callable[[ConfiguredSinks, Any], Sink]]] = {
    "file": ConfiguredSinks._open_file,
    "history": ConfiguredSinks._open_history,
    "metrics": ConfiguredSinks._open_metrics,
    "notify": ConfiguredSinks._open_notify,
    "mqtt": ConfiguredSinks._open_mqtt,
}
TABLES: Final = tuple(OPENERS)
