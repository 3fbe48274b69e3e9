"""Address of an MQTT broker, from its URL."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from edge_sser.errors import SettingsError

CREDENTIAL = "mqtt-password"  # the name in `LoadCredential=` of the unit
DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
_URL_FORM = "mqtt.url must look like mqtts://user@host:8883"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """The parts of a broker's URL.

    Attributes:
        host: name or IP address.
        port: TCP port.
        tls: True when the connection is encrypted and the broker's certificate verified. TLS without verification does
            not exist.
        username: the client's; None to send none.
    """

    host: str
    port: int
    tls: bool
    username: str | None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(url: str) -> BrokerAddress:
    """Parses `mqtt://[USER@]HOST[:PORT]` or `mqtts://…`.

    Raises:
        SettingsError: the URL has another form. The message never repeats the URL, which may hold a password.
    """
    if any(not char.isprintable() or char.isspace() for char in url):
        raise SettingsError(f"{_URL_FORM}; it has a space or a control character in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsError(f"{_URL_FORM}; its host or port cannot be read (ports are 1 to 65535)") from None
    if parts.password is not None:
        raise SettingsError(
            "mqtt.url has a password in it, where process lists and logs would show it: "
            f"put it in a file and name that as mqtt.password_file, or use the systemd credential {CREDENTIAL}"
        )
    if parts.scheme not in DEFAULT_PORTS:
        raise SettingsError(f"{_URL_FORM}; it must start with mqtt:// or mqtts://")
    if not parts.hostname:
        raise SettingsError(f"{_URL_FORM}; it has no host")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise SettingsError(f"{_URL_FORM}; nothing may follow the port (topics start with mqtt.base_topic)")
    if port == 0:
        raise SettingsError(f"{_URL_FORM}; port 0 cannot be used")
    return BrokerAddress(
        host=parts.hostname,
        port=port or DEFAULT_PORTS[parts.scheme],
        tls=parts.scheme == "mqtts",
        username=unquote(parts.username) if parts.username else None,
    )
