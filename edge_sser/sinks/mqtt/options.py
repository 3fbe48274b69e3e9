"""Parameters of the connections to the broker, from the settings."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from edge_sser.settings.broker import BrokerAddress, parse_address
from edge_sser.settings.sinks import MqttSettings, MqttVersion
from edge_sser.sinks.mqtt.access import read_password, tls_context
from edge_sser.sinks.mqtt.contract import Topics, birth_topic
from edge_sser.sinks.mqtt.negotiation import HANG_UPS


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOptions:
    """Parameters of the connections.

    Attributes:
        password: called for every connection, since the password may have changed.
        tls: likewise; returns None for a connection without TLS.
        hang_ups: so many in a row on MQTT 5 make it try 3.1.1.
        subscriptions: topics and their QoS.
    """

    address: BrokerAddress
    client_id: str
    keepalive_seconds: int
    retry_min_seconds: float
    retry_max_seconds: float
    password: Callable[[], str | None]
    tls: Callable[[], ssl.SSLContext | None]
    version: MqttVersion = MqttVersion.AUTO
    hang_ups: int = HANG_UPS
    subscriptions: tuple[tuple[str, int], ...] = ()


def link_options(settings: MqttSettings, topics: Topics) -> LinkOptions:
    """Returns the parameters of a service's connections.

    Raises:
        SettingsError: the URL has another form.
    """
    address = parse_address(settings.url)
    subscriptions = [(topics.listen_set, 1), (topics.baseline_set, 1)]
    if settings.discovery:
        subscriptions.append((birth_topic(settings.discovery_prefix), 0))
    return LinkOptions(
        address=address,
        client_id=settings.client_id or f"edge-sser-{topics.node}",
        keepalive_seconds=settings.keepalive_seconds,
        retry_min_seconds=settings.retry_min_seconds,
        retry_max_seconds=settings.retry_max_seconds,
        password=lambda: read_password(settings),
        tls=lambda: tls_context(settings) if address.tls else None,
        version=settings.version,
        subscriptions=tuple(subscriptions),
    )
