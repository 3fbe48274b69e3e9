"""Status of the MQTT link and sink, and the remedy for each fault, in words for a person."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from enum import Enum

from edge_sser.errors import EdgeSserError
from edge_sser.settings.broker import BrokerAddress
from edge_sser.sinks.mqtt.connection import Connection
from edge_sser.sinks.mqtt.negotiation import UNSUPPORTED_VERSION

_BAD_LOGIN = {0x86, 0x87}  # MQTT 5 reason codes
_PERMANENT = _BAD_LOGIN | {UNSUPPORTED_VERSION, 0x85, 0x8A, 0x8C}  # refusals that a retry does not cure

# OpenSSL's codes for what is wrong with a certificate
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = {62, 64}  # of a host, of an IP address

_OWN_CERTIFICATE = "it may want mqtt.cert_file and mqtt.key_file, of an authority that it knows"


class LinkState(str, Enum):
    """States of the link to the broker."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"
    REFUSED = "refused"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """State of the link to the broker, and the reason.

    Attributes:
        detail: what happened, as the end of a sentence that begins with the broker.
        remedy: what to do; empty when the detail says it, or nothing needs to be done.
        losses: what a connected broker does not support, as ends of sentences that begin with the broker.
    """

    state: LinkState
    detail: str
    remedy: str = ""
    losses: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.detail}; {self.remedy}" if self.remedy else self.detail


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttReport:
    """State of the MQTT sink.

    Attributes:
        link: state of the link to the broker, and `detail` the reason, for a person.
        outbox_depth: episodes and health that wait for an acknowledgement.
        outbox_bytes: their size.
        stored: events put into the outbox by this process; from then on an event is safe.
        lost: events dropped from the outbox for lack of space or by damage, since its file was created.
        lost_now: those of this process.
        readings_dropped: readings that came without a connection, or faster than the network.
        storage_fault: why events are in memory only; None when they are safe on disk.
        damaged: damaged outbox files renamed by this process.
        refused: topics that the broker refuses, each with the reason.
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
        """All faults in one line for a person; empty without a fault."""
        broker = ""
        if self.link in (LinkState.UNREACHABLE, LinkState.UNTRUSTED, LinkState.REFUSED):
            broker = f"MQTT broker {self.link.value}: {self.detail}"
        return "; ".join(filter(None, (broker, self.storage_trouble)))

    @property
    def storage_trouble(self) -> str:
        """Faults that endanger events, in one line. An absent broker is none: events wait on disk."""
        parts = []
        if self.storage_fault is not None:
            parts.append(f"episodes are in memory only: {self.storage_fault}")
        if self.refused:
            parts.append("the broker refuses " + ", ".join(topic for topic, _ in self.refused))
        if self.lost_now:
            parts.append(f"{self.lost_now} events were lost from the outbox since the program started")
        return "; ".join(parts)


def status_of_error(error: Exception, address: BrokerAddress) -> LinkStatus:
    """Returns the status after an EdgeSserError, OSError or UnicodeError of `Connection.open`."""
    if isinstance(error, EdgeSserError):
        return LinkStatus(LinkState.REFUSED, str(error))
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = f"its certificate cannot be trusted: {error.verify_message.rstrip('.')}"
        return LinkStatus(LinkState.UNTRUSTED, detail, _certificate_remedy(error.verify_code))
    if isinstance(error, (ssl.SSLEOFError, ConnectionResetError)):
        during = "the TLS handshake" if address.tls else "the handshake"
        return LinkStatus(LinkState.UNREACHABLE, f"hangs up during {during}", _port_remedy(address))
    if isinstance(error, ssl.SSLError):
        return _status_of_tls_error(error.reason or str(error), address)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        reason = error.strerror if isinstance(error, socket.gaierror) else "no name for DNS"
        detail = f"the host {address.host} is not found: {reason}"
        return LinkStatus(LinkState.UNREACHABLE, detail, "check mqtt.url, and this device's network and name server")
    return LinkStatus(LinkState.UNREACHABLE, *_unreachable(error))


def status_of_end(connection: Connection, address: BrokerAddress) -> LinkStatus:
    """Returns the status after the end of a connection."""
    if connection.accepted:
        return LinkStatus(LinkState.UNREACHABLE, f"connection lost: {connection.end_reason}")
    if connection.refusal is not None:
        code, name = connection.refusal
        state = LinkState.REFUSED if code in _PERMANENT else LinkState.UNREACHABLE
        remedy = _login_remedy(address) if code in _BAD_LOGIN else ""
        return LinkStatus(state, f"refuses the connection: {name}", remedy)
    if "SSL" in connection.end_reason:
        return _status_of_tls_error(connection.end_reason, address)
    # In TLS 1.3 the client's certificate follows the handshake: a broker that misses it may just hang up.
    remedy = _OWN_CERTIFICATE if address.tls else _port_remedy(address)
    return LinkStatus(LinkState.UNREACHABLE, f"hangs up: {connection.end_reason}", remedy)


def _status_of_tls_error(reason: str, address: BrokerAddress) -> LinkStatus:
    if "ALERT" in reason.upper():  # the broker does not trust this client
        return LinkStatus(LinkState.UNTRUSTED, f"ends the TLS connection: {reason}", _OWN_CERTIFICATE)
    return LinkStatus(LinkState.UNTRUSTED, f"TLS fails: {reason}", _port_remedy(address))


def _certificate_remedy(code: int) -> str:
    today = time.strftime("%Y-%m-%d", time.gmtime())  # no time of day: a fault that lasts is logged once
    if code == _EXPIRED:
        return f"renew it on the broker; or is this device's clock wrong? It says {today} (UTC)"
    if code == _NOT_YET_VALID:
        return f"set this device's clock: it says {today} (UTC)"
    if code in _OTHER_NAME:
        return "write the host in mqtt.url as the certificate names it; mqtt.ca_file is not the cause"
    return "name the certificate of the authority that signed it as mqtt.ca_file"


def _login_remedy(address: BrokerAddress) -> str:
    if address.username is None:
        return "it may want a user and a password: mqtt://USER@HOST as mqtt.url, and mqtt.password_file"
    return f"check the user {address.username!r} and the password"


def _port_remedy(address: BrokerAddress) -> str:
    if address.tls:
        return f"is {address.port} its port for TLS? Without TLS, mqtt.url starts with mqtt://"
    return f"is {address.port} its port for TLS? Then mqtt.url starts with mqtts://"


def _unreachable(error: Exception) -> tuple[str, str]:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens there: {reason}", "start the broker, or correct host and port in mqtt.url"
    if isinstance(error, TimeoutError):
        return f"does not answer: {reason}", "check mqtt.url, the network, and a firewall on the way"
    return reason, "check mqtt.url, and this device's network"
