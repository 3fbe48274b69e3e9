"""Files of the settings that say who is who: secrets, and certificates for TLS."""

from __future__ import annotations

import os
import stat
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_sser.errors import SettingsError

if TYPE_CHECKING:
    import ssl

MAX_SECRET_BYTES: Final = 65_535  # what an MQTT packet can carry


def read_secret(path: Path, key: str, environ: Mapping[str, str] = os.environ) -> str:
    """Returns the first line of a file with a secret. Read for every use, so that it can change without a restart.

    Args:
        path: the file; a relative path is the name of a systemd credential.
        key: of the setting that names it, for messages.
        environ: with CREDENTIALS_DIRECTORY.

    Raises:
        SettingsError: the file cannot be read, or its first line is no text.
    """
    place = secret_path(path, key, environ)
    line = _first_line(place, key, "secret").strip()
    if not line.isprintable():
        raise SettingsError(f"{key} {place} must hold the secret on its first line, without control characters")
    return _checked(line, place, key, "secret")


def secret_path(path: Path, key: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Returns the file of a secret; arguments and errors as for `read_secret`."""
    path = Path(os.path.expanduser(path))
    if path.is_absolute():
        return path
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        raise SettingsError(f"{key} {path}: there are no systemd credentials here: write the whole path of a file")
    return Path(folder) / path


def read_password(
    path: Path | None, key: str, credential: str = "", environ: Mapping[str, str] = os.environ, *, least: int = 1
) -> str | None:
    """Returns a password: the first line of a file, with its spaces. Read for every use, as other secrets.

    Args:
        path: the file; None for the systemd credential.
        key: of the setting that names it, for messages.
        credential: name of the systemd credential.
        environ: with CREDENTIALS_DIRECTORY.
        least: characters of a password, at least.

    Returns:
        None without a credential. An empty one counts as none, so that a unit can make it optional.

    Raises:
        SettingsError: the file cannot be read, is not text, or has a first line that is too short.
    """
    if path is not None:
        return _checked(_first_line(path, key, "password"), path, key, "password", least)
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / credential
    line = _first_line(path, key, "password", optional=True)
    return _checked(line, path, key, "password", least) if line else None


def readable_by_all(path: Path) -> bool:
    """Returns True when every user may read a file."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # missing: its reader says so
        return False


def server_context(table: str, cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """Returns the TLS context of a server, TLS 1.2 or newer.

    Args:
        table: of the settings, for messages.
        cert_file: certificate, PEM.
        key_file: its key, PEM.

    Raises:
        SettingsError: certificate or key cannot be used.
    """
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(context, table, cert_file, key_file)
    return context


def client_context(
    table: str, ca_file: Path | None, cert_file: Path | None = None, key_file: Path | None = None
) -> ssl.SSLContext:
    """Returns a TLS context that verifies the server's certificate and host name, TLS 1.2 or newer.

    Args:
        table: of the settings, for messages.
        ca_file: certificate of the server's authority, PEM; None for the authorities of the system.
        cert_file: certificate of this client, PEM; None for none.
        key_file: its key, PEM.

    Raises:
        SettingsError: a certificate or key cannot be used.
    """
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{table}.ca_file {ca_file} is no readable PEM file: {_reason(error)}: it must hold the certificate of the "
            "authority that signed the server's"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None and key_file is not None:
        _load_certificate(context, table, cert_file, key_file)
    return context


def _load_certificate(context: ssl.SSLContext, table: str, cert_file: Path, key_file: Path) -> None:
    try:  # a key with a passphrase is refused: OpenSSL would ask for it on the terminal
        context.load_cert_chain(cert_file, key_file, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingsError(
            f"{table}.cert_file {cert_file} and {table}.key_file {key_file} must be a PEM certificate and its key "
            f"without a passphrase, readable by this user: {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)


def _first_line(path: Path, key: str, noun: str, *, optional: bool = False) -> str:
    """Returns the first line of a file; of one that is optional and missing, an empty one."""
    try:
        with path.open("rb") as file:
            line = file.read(MAX_SECRET_BYTES + len(BOM_UTF8) + 2).removeprefix(BOM_UTF8).split(b"\n", 1)[0]
        return line.removesuffix(b"\r").decode()
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError):
            return ""
        raise SettingsError(
            f"{key} {path} cannot be read: {error.strerror}: it must hold the {noun} on its first line, readable by "
            "this user"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{key} {path} is not UTF-8 text") from None


def _checked(line: str, path: Path, key: str, noun: str, least: int = 1) -> str:
    if least <= len(line) and len(line.encode()) <= MAX_SECRET_BYTES:
        return line
    if least > 1:
        raise SettingsError(
            f"{key} {path} must hold at least {least} characters on its first line: openssl rand -hex 16 > {path}"
        )
    raise SettingsError(f"{key} {path} must hold the {noun} on its first line")
