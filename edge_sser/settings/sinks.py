"""Tables of the sinks beside standard output, each with the unit in each name."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from edge_sser.events import Word
from edge_sser.settings.broker import parse_address
from edge_sser.settings.section import Section

TOPIC_PREFIX = r"^[^/+#$\x00-\x1f]([^+#\x00-\x1f]*[^/+#\x00-\x1f])?$"  # no wildcards, no slash at the ends


class MqttVersion(Word):
    """Version of the protocol."""

    AUTO = "auto"
    """5, and 3.1.1 to a broker that does not know it or hangs up on it."""
    V5 = "5"
    V311 = "3.1.1"


class MqttSettings(Section):
    """A broker to publish to. The password stands in a file or a systemd credential, never here."""

    url: str = Field(examples=["mqtts://cabinet@broker.example"])
    """`mqtt://[USER@]HOST[:PORT]`, or `mqtts://` for TLS; ports 1883 and 8883 unless given. No password here."""
    password_file: Path | None = None
    """A file whose first line is the password; else the systemd credential `mqtt-password`, when there is one."""
    ca_file: Path | None = None
    """Certificates of the authority that signed the broker's (PEM); the system's authorities when not given."""
    cert_file: Path | None = None
    """Certificate of this device (PEM), for brokers that ask for one. Needs `key_file`."""
    key_file: Path | None = None
    """The private key of `cert_file` (PEM, without a passphrase)."""
    client_id: str | None = Field(default=None, min_length=1, max_length=128)
    """Two clients with one id throw each other out. `edge-sser-NODE` when not given."""
    base_topic: str = Field(default="edge-sser", max_length=128, pattern=TOPIC_PREFIX)
    """First levels of every topic."""
    version: MqttVersion = MqttVersion.AUTO
    """Version of MQTT: auto, 5 or 3.1.1."""
    keepalive_seconds: int = Field(default=30, ge=5, le=3600)
    """A broker that says nothing for about twice this long counts as gone."""
    retry_min_seconds: float = Field(default=1.0, ge=0.05, le=3600.0)
    """Wait before the first reconnection; it doubles with each further attempt."""
    retry_max_seconds: float = Field(default=60.0, ge=0.05, le=3600.0)
    """Longest wait between attempts to connect."""
    outbox_bytes: int = Field(default=64 * 2**20, ge=2**16, le=2**40)
    """Disk space for episodes and health that the broker has not acknowledged; beyond it the oldest are dropped."""
    discovery: bool = True
    """Publish the discovery message of Home Assistant."""
    discovery_prefix: str = Field(default="homeassistant", max_length=128, pattern=TOPIC_PREFIX)
    """Home Assistant's prefix of discovery topics."""

    @field_validator("url")
    @classmethod
    def _broker_url(cls, value: str) -> str:
        parse_address(value)  # its SettingsError passes through pydantic unchanged, without the URL
        return value

    @field_validator("version", mode="before")
    @classmethod
    def _version_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value  # version = 5

    @model_validator(mode="after")
    def _consistent(self) -> MqttSettings:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if self.url.lower().startswith("mqtt://") and (self.ca_file or self.cert_file):
            raise ValueError("ca_file and cert_file are for TLS: write mqtts:// in the url")
        if self.retry_max_seconds < self.retry_min_seconds:
            raise ValueError("retry_max_seconds must not be below retry_min_seconds")
        return self


class FileSinkSettings(Section):
    """Events in a rotating file as well."""

    path: Path
    """File of the newest events; older files are PATH.1, PATH.2 and so on. A relative path is below the state
    directory: /var/lib/edge-sser for the system service, else ~/.local/state/edge-sser."""
    max_bytes: int = Field(default=16 * 2**20, ge=4096, le=2**40)
    """Size at which the file is rotated."""
    keep: int = Field(default=4, ge=0, le=1000)
    """Older files kept; the oldest is deleted."""

    @field_validator("path")
    @classmethod
    def _names_file(cls, value: Path) -> Path:
        if not value.name:
            raise ValueError("must name a file, not a folder")
        return value


class MetricsSettings(Section):
    """Figures for Prometheus over HTTP: on this machine only, or with a token."""

    port: int = Field(default=9742, ge=1, le=65535)
    """Port of http://ADDRESS:PORT/metrics."""
    address: str = "127.0.0.1"
    """IP address to serve on. Another one than 127.0.0.1 or ::1 needs `token_file`: the stress of people is private."""
    token_file: Path | None = None
    """A file whose first line is a bearer token that each scrape must carry. A relative path is the name of a systemd
    credential."""
    cert_file: Path | None = None
    """Certificate for HTTPS (PEM), so that nobody on the network can read the token. Needs `key_file`."""
    key_file: Path | None = None
    """The private key of `cert_file` (PEM, without a passphrase)."""

    @field_validator("address")
    @classmethod
    def _ip_address(cls, value: str) -> str:
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("must be an IP address, as 127.0.0.1 or ::1") from None
        return value

    @model_validator(mode="after")
    def _guarded(self) -> MetricsSettings:
        if self.token_file is None and self.address not in ("127.0.0.1", "::1"):
            raise ValueError("address must be 127.0.0.1 or ::1 without token_file: metrics of people are private")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        return self


class HistorySettings(Section):
    """Levels by the minute, episodes and health, kept on this device for `edge-sser history` and the web page."""

    enabled: bool = True
    """Keep a history."""
    path: Path = Path("history.sqlite")
    """The SQLite file. A relative path is below the state directory: /var/lib/edge-sser for the system service, else
    ~/.local/state/edge-sser."""
    keep_days: int = Field(default=90, ge=1, le=36_500)
    """Days after which rows are deleted."""
    max_mb: int = Field(default=256, ge=1, le=1_000_000)
    """Size in megabytes (of 1,000,000 bytes) beyond which the oldest days are deleted."""
    readings: bool = False
    """Keep each reading as well: about 70 MB a day for each source."""

    @field_validator("path")
    @classmethod
    def _names_file(cls, value: Path) -> Path:
        if not value.name:
            raise ValueError("must name a file, not a folder")
        return value
