"""Sinks of the settings: opened in one order, closed in the other, reopened alone, asked for trouble together."""

from __future__ import annotations

from pathlib import Path

import pytest
from mqtt_rig import STATUS, emit, reading

from edge_sser.errors import SinkError
from edge_sser.events import Event
from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import FileSinkSettings, MetricsSettings, MqttSettings
from edge_sser.sinks.base import Sink
from edge_sser.sinks.open import OPENERS, TABLES, ConfiguredSinks

ALL = Settings(file=FileSinkSettings(path=Path("a")), metrics=MetricsSettings(), mqtt=MqttSettings(url="mqtt://h"))


class Logged(Sink):
    def __init__(self, table: str, log: list[str]) -> None:
        self.table, self.log = table, log
        log.append(f"{table} opens")

    @property
    def trouble(self) -> str:
        return f"{self.table} is in trouble"

    def emit(self, event: Event, line: bytes) -> None:
        if self.table == "metrics":
            raise SinkError("metrics fails for good")

    def close(self) -> None:
        self.log.append(f"{self.table} closes")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    log: list[str] = []
    for table in TABLES:
        monkeypatch.setitem(OPENERS, table, lambda _, __, table=table: Logged(table, log))
    return log


def configured(settings: Settings) -> ConfiguredSinks:
    return ConfiguredSinks(settings, status=lambda: STATUS, sources=["desk"])


def test_every_table_of_sinks_is_a_setting_that_may_be_absent() -> None:
    assert all(getattr(Settings(), table) is None for table in TABLES)


def test_sinks_open_in_order_and_close_in_reverse(log: list[str]) -> None:
    sinks = configured(ALL)
    assert log == ["file opens", "metrics opens", "mqtt opens"]
    log.clear()
    sinks.close()
    sinks.close()
    assert log == ["mqtt closes", "metrics closes", "file closes"]


def test_a_change_of_settings_reopens_only_the_sinks_that_it_concerns(log: list[str]) -> None:
    sinks = configured(ALL)
    log.clear()
    sinks.apply(ALL.model_copy(update={"file": FileSinkSettings(path=Path("b")), "metrics": None}))
    assert log == ["file closes", "file opens", "metrics closes"]


def test_trouble_of_all_sinks_is_one_line_and_ends_with_the_sink(log: list[str]) -> None:
    sinks = configured(ALL)
    assert sinks.trouble == "mqtt is in trouble; metrics is in trouble; file is in trouble"
    sinks.apply(Settings(metrics=ALL.metrics))
    assert sinks.trouble == "metrics is in trouble"
    for sink in sinks.sinks:
        emit(sink, reading(1))
    assert sinks.trouble == "metrics is in trouble; metrics fails for good"
    sinks.apply(Settings())
    assert sinks.trouble == ""
