"""Authentication of both sides: the password, and certificates for TLS."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_sser.errors import SettingsError
from edge_sser.settings.broker import CREDENTIAL
from edge_sser.settings.sinks import MqttSettings

if TYPE_CHECKING:
    import ssl

MAX_PASSWORD_BYTES = 65_535  # what an MQTT packet can carry


def read_password(settings: MqttSettings, environ: Mapping[str, str] = os.environ) -> str | None:
    """Returns the password. Read for every connection, so that it can be changed without a restart.

    Returns:
        The first line of `password_file`, else of the systemd credential, else None. An empty credential counts as
        none, so that a unit can make it optional.

    Raises:
        SettingsError: the file cannot be read, is not text, or is `password_file` and empty.
    """
    path = settings.password_file
    optional = path is None
    if path is None:
        directory = environ.get("CREDENTIALS_DIRECTORY")
        path = Path(directory) / CREDENTIAL if directory else None
        if path is None:
            return None
    try:
        with path.open("rb") as file:
            line = file.read(MAX_PASSWORD_BYTES + 2).removeprefix(BOM_UTF8).split(b"\n", 1)[0].removesuffix(b"\r")
        password = line.decode()
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError):
            return None
        raise SettingsError(
            f"the MQTT password file {path} cannot be read: {error.strerror}: it must hold the password on its first "
            "line, readable by this user"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"the MQTT password file {path} is not UTF-8 text") from None
    if optional and not password:
        return None
    if not password or len(line) > MAX_PASSWORD_BYTES:
        raise SettingsError(f"the MQTT password file {path} must hold the password on its first line")
    return password


def tls_context(settings: MqttSettings) -> ssl.SSLContext:
    """Returns a TLS context that verifies the broker's certificate and host name, TLS 1.2 or newer.

    Raises:
        SettingsError: a certificate or key cannot be read, or the two do not match.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"mqtt.ca_file {settings.ca_file} is no readable PEM file: {_reason(error)}: it must hold the certificate "
            "of the authority that signed the broker's"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.cert_file is not None and settings.key_file is not None:
        try:  # a key with a passphrase is refused: OpenSSL would ask for it on the terminal
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise SettingsError(
                f"mqtt.cert_file {settings.cert_file} and mqtt.key_file {settings.key_file} must be a PEM certificate "
                f"and its key without a passphrase, readable by this user: {_reason(error)}"
            ) from None
    return context


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
