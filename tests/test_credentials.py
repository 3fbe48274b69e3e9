"""Secrets and certificates of the settings: one reader each, whoever needs them."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sser.commands.doctor.broker import check_secrets
from edge_sser.commands.doctor.finding import CheckContext, State, not_tried, secret_file
from edge_sser.credentials import MAX_SECRET_BYTES, client_context, read_password, read_secret, server_context
from edge_sser.errors import SettingsError
from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import MetricsSettings
from edge_sser.settings.web import WebSettings

READERS: dict[str, Callable[[Path], str | None]] = {
    "secret": lambda path: read_secret(path, "table.key"),
    "password": lambda path: read_password(path, "table.key"),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "first line"),
        (b"\nsecond", "first line"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * (MAX_SECRET_BYTES + 1), "first line"),
        (None, "cannot be read: No such file"),
    ],
    ids=["empty", "an empty line", "no text", "too long", "missing"],
)
def test_a_file_without_a_secret_is_named(tmp_path: Path, kind: str, content: bytes | None, said: str) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"table\.key {path} .*{said}"):
        READERS[kind](path)


@pytest.mark.parametrize(("kind", "read"), [("secret", "a b"), ("password", " a b ")])
def test_spaces_around_belong_to_a_password_alone(tmp_path: Path, kind: str, read: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbf a b \r\nmore")
    assert READERS[kind](path) == read


def test_a_control_character_is_no_part_of_a_secret_that_goes_into_a_header(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a\x07b\n")
    with pytest.raises(SettingsError, match="without control characters"):
        read_secret(path, "table.key")
    assert read_password(path, "table.key") == "a\x07b"


def test_an_optional_credential_may_be_missing_or_empty_but_not_beyond_reach(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert read_password(None, "table.key", "name", {}) is None
    assert read_password(None, "table.key", "name", environ) is None
    (tmp_path / "name").write_text("\n")
    assert read_password(None, "table.key", "name", environ) is None
    (tmp_path / "name").write_text("word\n")
    assert read_password(None, "table.key", "name", environ) == "word"
    with pytest.raises(SettingsError, match="Not a directory"):
        read_password(None, "table.key", "below", {"CREDENTIALS_DIRECTORY": str(tmp_path / "name")})


def test_certificates_that_cannot_be_used_are_named_with_their_table(tmp_path: Path) -> None:
    none = tmp_path / "none.pem"
    with pytest.raises(SettingsError, match=rf"web\.cert_file {none} and web\.key_file .* must be a PEM certificate"):
        server_context("web", none, none)
    with pytest.raises(SettingsError, match=rf"mqtt\.cert_file {none} and mqtt\.key_file"):
        client_context("mqtt", None, none, none)
    with pytest.raises(SettingsError, match=rf"notify\.ca_file {none} is no readable PEM file: No such file"):
        client_context("notify", none)
    assert client_context("notify", None).verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("table", ["metrics", "web"])
def test_doctor_sees_a_token_or_password_that_everybody_may_read(tmp_path: Path, table: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("long enough\n")
    tables = {"metrics": MetricsSettings(token_file=secret), "web": WebSettings(password_file=secret)}
    context = CheckContext(Settings(**{table: tables[table]}), (), microphone_configured=False, settings_file=None)
    secret.chmod(0o604)
    finding = check_secrets(context)
    assert (finding.state, finding.remedy) == (State.WARNING, f"chmod o-rwx {secret}")
    secret.chmod(0o600)
    assert check_secrets(context).state is State.FINE


def test_a_secret_that_a_whole_path_names_is_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reader says why it cannot be read; `~` is a whole path, too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)
    file = tmp_path / "token"
    file.write_text("x", "utf-8")
    context = CheckContext(Settings(), (), microphone_configured=False, settings_file=None)
    for given in (file, Path("~/token")):
        assert secret_file(context, given) == file
        assert not_tried(context, "token", file, given) is None
    found = not_tried(context, "token", file, Path("token"))
    assert found is not None
    assert "may not read the service's token" in found.detail
