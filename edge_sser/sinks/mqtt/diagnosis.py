"""How it stands with an MQTT broker: what happened, and what to do about it, in words for a person."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from enum import Enum

from edge_sser.errors import EdgeSserError
from edge_sser.settings.schema import BrokerAddress
from edge_sser.sinks.mqtt.connection import Connection

UNSUPPORTED_VERSION = 0x84  # MQTT 5 reason codes
_BAD_LOGIN = {0x86, 0x87}
_FOR_A_PERSON = _BAD_LOGIN | {UNSUPPORTED_VERSION, 0x85, 0x8A, 0x8C}  # refusals that waiting does not cure

# OpenSSL's codes for what is wrong with a certificate
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = {62, 64}  # of a host, of an IP address

_OWN_CERTIFICATE = "it may want mqtt.cert_file and mqtt.key_file, of an authority that it knows"


class LinkState(str, Enum):
    """How it stands with the broker."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    UNTRUSTED = "untrusted"
    REFUSED = "refused"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How it stands with the broker, and why.

    Attributes:
        detail: what happened, as the end of a sentence that the broker begins.
        remedy: what to do; empty when the detail says it, or nothing need be done.
    """

    state: LinkState
    detail: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.detail}; {self.remedy}" if self.remedy else self.detail


def after_error(error: Exception, address: BrokerAddress) -> LinkStatus:
    """What an error while connecting means.

    Args:
        error: an EdgeSserError, OSError or UnicodeError, as `Connection.open` raises them.
        address: of the broker.
    """
    if isinstance(error, EdgeSserError):
        return LinkStatus(LinkState.REFUSED, str(error))
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = f"its certificate cannot be trusted: {error.verify_message.rstrip('.')}"
        return LinkStatus(LinkState.UNTRUSTED, detail, _certificate_remedy(error.verify_code))
    if isinstance(error, (ssl.SSLEOFError, ConnectionResetError)):
        during = "the TLS handshake" if address.tls else "the handshake"
        return LinkStatus(LinkState.UNREACHABLE, f"hangs up during {during}", _port_remedy(address))
    if isinstance(error, ssl.SSLError):
        return _after_tls(error.reason or str(error), address)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        reason = error.strerror if isinstance(error, socket.gaierror) else "no name for DNS"
        detail = f"the host {address.host} is not found: {reason}"
        return LinkStatus(LinkState.UNREACHABLE, detail, "check mqtt.url, and this device's network and name server")
    return LinkStatus(LinkState.UNREACHABLE, *_unreachable(error))


def after_connection(connection: Connection, address: BrokerAddress) -> LinkStatus:
    """Why a connection ended before the broker accepted us.

    Args:
        connection: that is no longer alive.
        address: of the broker.
    """
    if connection.refusal is not None:
        code, name = connection.refusal
        state = LinkState.REFUSED if code in _FOR_A_PERSON else LinkState.UNREACHABLE
        remedy = _login_remedy(address) if code in _BAD_LOGIN else ""
        return LinkStatus(state, f"refuses the connection: {name}", remedy)
    if "SSL" in connection.ended_because:
        return _after_tls(connection.ended_because, address)
    # TLS 1.3 brings a client's certificate after the handshake: a broker that misses it may just be gone then.
    remedy = _OWN_CERTIFICATE if address.tls else _port_remedy(address)
    return LinkStatus(LinkState.UNREACHABLE, f"hangs up: {connection.ended_because}", remedy)


def _after_tls(reason: str, address: BrokerAddress) -> LinkStatus:
    if "ALERT" in reason.upper():  # the broker's way of saying that it is we who are not trusted
        return LinkStatus(LinkState.UNTRUSTED, f"ends the TLS connection: {reason}", _OWN_CERTIFICATE)
    return LinkStatus(LinkState.UNTRUSTED, f"TLS fails: {reason}", _port_remedy(address))


def _certificate_remedy(code: int) -> str:
    today = time.strftime("%Y-%m-%d", time.gmtime())  # no time of day: the same trouble is said in the same words
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
