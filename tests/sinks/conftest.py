"""Fixtures of the MQTT tests: brokers, subscribers, sinks, and fresh certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from components import require
from mqtt_certificates import Authority
from mqtt_rig import LIMIT_SECONDS, MOSQUITTO, NODE, STATUS, Broker, Subscriber

from edge_sser.settings.sinks import MqttSettings
from edge_sser.sinks.mqtt.sink import MqttSink


@pytest.fixture(autouse=True)
def long_close_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes longer to close a sink."""
    monkeypatch.setattr("edge_sser.sinks.mqtt.sink.CLOSE_SECONDS", LIMIT_SECONDS)
    monkeypatch.setattr("edge_sser.sinks.file.CLOSE_SECONDS", LIMIT_SECONDS)


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Starts brokers, with lines for their configuration."""
    require(MOSQUITTO is not None, "mosquitto not found: apt install mosquitto")
    brokers: list[Broker] = []

    def start(*extra: str, port: int | None = None) -> Broker:
        brokers.append(Broker(tmp_path / f"broker{len(brokers)}", *extra, port=port).start())
        return brokers[-1]

    yield start
    for broker in brokers:
        broker.kill()


@pytest.fixture
def broker(start_broker: Callable[..., Broker]) -> Broker:
    """A broker that lets everybody in."""
    return start_broker()


@pytest.fixture
def start_subscriber() -> Iterator[Callable[..., Subscriber]]:
    """Starts subscribers, by default to everything."""
    subscribers: list[Subscriber] = []

    def start(port: int, *filters: str, **options: Any) -> Subscriber:
        subscribers.append(Subscriber(port, filters or ("#",), **options).start())
        return subscribers[-1]

    yield start
    for subscriber in subscribers:
        subscriber.stop()


@pytest.fixture
def open_sink(tmp_path: Path) -> Iterator[Callable[..., MqttSink]]:
    """Opens sinks with their state in one directory and a short backoff."""
    sinks: list[MqttSink] = []

    def start(
        port: int, *, scheme: str = "mqtt", user: str = "", hooks: dict[str, Any] | None = None, **options: Any
    ) -> MqttSink:
        who = f"{user}@" if user else ""
        settings = MqttSettings(
            url=f"{scheme}://{who}127.0.0.1:{port}",
            **{"retry_min_seconds": 0.05, "retry_max_seconds": 0.3, **options},
        )
        directory = tmp_path / "state"
        sinks.append(MqttSink(settings, node=NODE, status=STATUS, sources=["desk"], directory=directory, **hooks or {}))
        return sinks[-1]

    yield start
    for sink in sinks:
        sink.close()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of our own."""
    return Authority(tmp_path_factory.mktemp("authority"))
