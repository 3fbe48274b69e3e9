"""Parameters of the connections to the broker, from the settings."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_sser.credentials import client_context, read_password
from edge_sser.settings.broker import CREDENTIAL, BrokerAddress, parse_address
from edge_sser.settings.sinks import MqttSettings, MqttVersion
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
        password=lambda: broker_password(settings),
        tls=lambda: broker_tls(settings, address),
        version=settings.version,
        subscriptions=tuple(subscriptions),
    )


def broker_password(settings: MqttSettings, environ: Mapping[str, str] = os.environ) -> str | None:
    """Returns the password of the user at the broker; errors as for `read_password`."""
    return read_password(settings.password_file, "mqtt.password_file", CREDENTIAL, environ)


def broker_tls(settings: MqttSettings, address: BrokerAddress) -> ssl.SSLContext | None:
    """Returns the TLS context for a broker; None where the address has no TLS. Errors as for `client_context`."""
    if not address.tls:
        return None
    return client_context("mqtt", settings.ca_file, settings.cert_file, settings.key_file)
