"""Access to the page over HTTP: addresses, passwords, other sites, certificates, and requests that make no sense."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mqtt_certificates import Authority
from mqtt_rig import eventually
from web_rig import Device, Page

PASSWORD = "wrong-horse-battery"


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "web-password"
    path.write_text(PASSWORD + "\n")
    return path


@pytest.fixture
def guarded(device: Device, tmp_path: Path, password_file: Path) -> Iterator[Page]:
    """The page for other machines, with a password."""
    page = Page(tmp_path, "--address", "0.0.0.0", settings=f'[web]\npassword_file = "{password_file}"\n')
    try:
        yield page.start()
    finally:
        page.close()


def test_other_machines_are_served_with_a_password_only(tmp_path: Path) -> None:
    status, message = Page(tmp_path, "--address", "0.0.0.0").refused()
    assert status == 2
    assert "needs a password" in message
    assert "web.password_file" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("short\n", "at least 8 characters"),
        ("", "at least 8 characters"),
        (None, "No such file"),
        (b"\xff" * 20, "UTF-8"),
    ],
)
def test_a_useless_password_file_is_refused(tmp_path: Path, content: str | bytes | None, said: str) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    status, message = Page(tmp_path, settings=f'[web]\npassword_file = "{path}"\n').refused()
    assert status == 2
    assert said in message


def test_everything_asks_for_the_password(guarded: Page) -> None:
    for path in ("/", "/static/app.js", "/api/about", "/api/live", "/episodes.csv"):
        status, headers, content = guarded.ask(path)
        assert status == 401
        assert headers["www-authenticate"].startswith("Basic ")
        assert b"password" in content
    before = time.monotonic()
    assert guarded.ask("/", Authorization=basic("wrong"))[0] == 401
    assert time.monotonic() - before > 0.9  # guessing is slow
    for given in (basic(PASSWORD), f"Bearer {PASSWORD}"):
        assert guarded.ask("/", Authorization=given)[0] == 200
    for senseless in ("Basic", "Basic !!!", "Bearer", "Digest x", basic(PASSWORD + "x")):
        assert guarded.ask("/", Authorization=senseless)[0] == 401


def test_guesses_do_not_pile_up(guarded: Page) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(guarded.ask("/", Authorization=basic("wrong"))[0]))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {401, 429}


def test_a_name_that_a_foreign_site_made_up_is_refused(page: Page) -> None:
    for host in ("evil.example", "evil.example:8321", "127.0.0.1.evil.example", ""):
        status, _, content = page.ask("/api/about", Host=host)
        assert status in (400, 421), host
        assert b'"node"' not in content
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8321", socket.gethostname(), "192.0.2.7"):
        assert page.ask("/api/about", Host=host)[0] == 200, host


def test_a_name_from_the_settings_is_known(device: Device, tmp_path: Path) -> None:
    page = Page(tmp_path, settings='[web]\nhosts = ["Stress.example"]\n')
    try:
        page.start()
        assert page.ask("/api/about", Host="stress.example")[0] == 200
    finally:
        page.close()


def test_only_the_page_itself_may_pause(page: Page, device: Device) -> None:
    own = f"http://127.0.0.1:{page.port}"
    foreign = [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": own.replace("http", "https")},
        {"Sec_Fetch_Site": "cross-site", "Origin": own},
        {"Sec_Fetch_Site": "same-site"},
    ]
    for headers in foreign:
        assert page.ask("/api/listening", "POST", body=b"OFF", **headers)[0] == 403
        assert not device.paused.exists()
    assert page.ask("/api/listening", "GET", Origin=own)[0] == 405
    assert page.ask("/api/listening", "POST", body=b"MAYBE", Origin=own)[0] == 400
    assert page.ask("/api/listening", "POST", body=b"OFF", Origin=own)[0] == 200
    assert device.paused.exists()
    assert page.ask("/api/listening", "POST", body=b"ON", Sec_Fetch_Site="same-origin")[0] == 200
    assert not device.paused.exists()


def test_headers_keep_the_browser_from_harm(page: Page) -> None:
    for path in ("/", "/static/app.js", "/api/about", "/nothing", "/api/curves"):
        _, headers, _ = page.ask(path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy  # no other site
        assert headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in headers
        assert "server" not in headers


def test_no_file_beside_the_page_is_served(page: Page) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd", "/docs"):
        assert page.ask(path)[0] == 404, path


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/curves", "since must be a whole number"),
        ("/api/curves?since=0&until=86400&bin=x", "bin must be a whole number"),
        (f"/api/curves?since={10**30}&until={10**30 + 60}&bin=60", "since must be a whole number"),
        ("/api/curves?since=0&until=86400&bin=7", "multiple of 60"),
        ("/api/curves?since=0&until=8640000&bin=60", "more than 3000 bins"),
        ("/api/episodes?since=9&until=8", "until must lie after since"),
        ("/api/episodes?since=0&until=99999999999", "36,500 days"),
        ("/api/episodes?since=0&until=86400&level=angry", "level must be one of low, elevated, high"),
        ("/api/episodes?since=nan&until=1", "since must be a whole number"),
    ],
)
def test_questions_that_make_no_sense_are_answered_in_words(page: Page, path: str, said: str) -> None:
    status, _, content = page.ask(path)
    assert status == 400
    assert said in json.loads(content)["error"]


def test_without_a_history_the_page_tells_what_to_do(tmp_path: Path) -> None:
    page = Page(tmp_path)
    try:
        page.start()
        about = json.loads(page.ask("/api/about")[2])
        assert "[history]" in about["no_history"]
        status, _, content = page.ask("/api/episodes?since=0&until=60")
        assert status == 503
        assert "[history]" in json.loads(content)["error"]
    finally:
        page.close()


def test_https_with_a_certificate(device: Device, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    cert, key = authority.issue("device")
    page = Page(tmp_path, settings=f'[web]\ncert_file = "{cert}"\nkey_file = "{key}"\n')
    try:
        page.start()
        tls = ssl.create_default_context(cafile=authority.ca)
        assert page.ask("/api/about", tls=tls)[0] == 200
    finally:
        page.close()
    other = authority.issue("other")[1]
    status, message = Page(tmp_path, settings=f'[web]\ncert_file = "{cert}"\nkey_file = "{other}"\n').refused()
    assert status == 2
    assert "its key without a passphrase" in message


def test_a_port_that_is_taken_is_named(page: Page, tmp_path: Path) -> None:
    status, message = Page(tmp_path, port=page.port).refused()
    assert status == 1
    assert f"127.0.0.1:{page.port} cannot be opened" in message
    assert "--port" in message


def test_open_pages_do_not_keep_it_from_ending_nor_fill_it(page: Page, device: Device) -> None:
    streams = []
    for _ in range(34):  # two more than may follow
        stream = socket.create_connection(("127.0.0.1", page.port), timeout=30)
        stream.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        streams.append((stream, stream.recv(4096)))
    assert [first.split()[1] for _, first in streams] == [b"200"] * 32 + [b"503"] * 2
    for stream, _ in streams[:2]:
        stream.close()
    eventually(lambda: follows(page), "places of pages that were closed are free again")
    assert page.stop() == 0
    for stream, _ in streams:
        stream.close()


def follows(page: Page) -> bool:
    with socket.create_connection(("127.0.0.1", page.port), timeout=30) as stream:
        stream.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return stream.recv(4096).split()[1] == b"200"
