"""Table of the web page."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator, model_validator

from edge_sser.settings.section import Section

CREDENTIAL: Final = "web-password"  # the name in `LoadCredential=` of the unit
MIN_PASSWORD: Final = 8  # characters


class WebSettings(Section):
    """The page of `edge-sser web`. The password stands in a file or a systemd credential, never here."""

    address: str = "127.0.0.1"
    """IP address to serve at. Any but 127.0.0.1 and ::1 is reached by other machines, and needs a password."""
    port: int = Field(default=8321, ge=1, le=65535)
    """Port of http://ADDRESS:PORT/."""
    hosts: tuple[str, ...] = Field(default=(), max_length=64)
    """Further names that the page is called by, of a proxy for example. IP addresses and this machine's names are
    known; any other is refused, so that no foreign site reads the page."""
    password_file: Path | None = None
    """A file whose first line is the password or token; else the systemd credential `web-password`, if there is one."""
    cert_file: Path | None = None
    """Certificate for https (PEM, with those between it and the authority). Needs `key_file`."""
    key_file: Path | None = None
    """The private key of `cert_file` (PEM, without a passphrase)."""

    @field_validator("address")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            ip_address(value)
        except ValueError:
            raise ValueError("must be an IP address: 127.0.0.1, 0.0.0.0 for all, or one of this machine's") from None
        return value

    @model_validator(mode="after")
    def _consistent(self) -> WebSettings:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        return self
