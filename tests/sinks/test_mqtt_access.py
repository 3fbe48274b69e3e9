"""Passwords, certificates, access rules, and the messages about them."""

from __future__ import annotations

import contextlib
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from components import require_programs
from hypothesis import given, settings
from hypothesis import strategies as st
from mqtt_certificates import Authority
from mqtt_rig import NODE, STATUS, Broker, Cable, Subscriber, emit, episode, eventually, health, reading
from pydantic import ValidationError

from edge_sser.errors import SettingsError
from edge_sser.settings.broker import CREDENTIAL, BrokerAddress, parse_address
from edge_sser.settings.schema import Settings
from edge_sser.settings.sinks import MqttSettings
from edge_sser.sinks.mqtt.contract import Topics
from edge_sser.sinks.mqtt.options import broker_password
from edge_sser.sinks.mqtt.sink import LinkState, MqttReport, MqttSink

Start = Callable[..., MqttSink]
StartBroker = Callable[..., Broker]
Subscribe = Callable[..., Subscriber]

EPISODE_TOPIC = f"edge-sser/{NODE}/desk/episode"


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "edge_sser.mqtt"]


@pytest.fixture
def password_broker(start_broker: StartBroker, tmp_path: Path) -> Broker:
    """A broker that knows cabinet (password: correct) and a dashboard."""
    require_programs("mosquitto_passwd", packages="mosquitto")
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    for user, password in (("cabinet", "correct"), ("dashboard", "d")):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, password], check=True, capture_output=True)
    rules = tmp_path / "rules"
    rules.write_text("user cabinet\ntopic readwrite #\nuser dashboard\ntopic readwrite #\n")
    rules.chmod(0o600)
    return start_broker("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")


def password_file(directory: Path, password: str) -> Path:
    path = directory / "mqtt-password"
    path.write_text(password + "\n")
    return path


def test_a_wrong_password_is_said_once_and_episodes_wait_until_it_is_corrected(
    password_broker: Broker,
    start_subscriber: Subscribe,
    open_sink: Start,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = password_file(tmp_path, "mistaken-secret")
    reports: list[MqttReport] = []
    cable = Cable(password_broker.port)
    with caplog.at_level(logging.INFO):
        sink = open_sink(cable.port, user="cabinet", password_file=secret, hooks={"on_change": reports.append})
        emit(sink, episode(1))
        eventually(lambda: cable.connections > 3 and sink.report.outbox_depth == 1, "it is tried again and again")
        eventually(lambda: sink.report.link is LinkState.REFUSED and reports, "is refused")
        assert "'cabinet'" in sink.report.trouble
        assert [report.link for report in reports] == [LinkState.REFUSED]
        secret.write_text("correct\n")
        subscriber = start_subscriber(password_broker.port, login=("dashboard", "d"))
        eventually(lambda: len(subscriber.episodes()) == 1, "the episode arrives, without a restart")
    assert len([line for line in log_lines(caplog) if "refuses the connection" in line]) == 1
    assert not any("secret" in record.getMessage() for record in caplog.records)
    cable.close()


def test_a_broker_that_wants_a_user_says_so_to_one_without(password_broker: Broker, open_sink: Start) -> None:
    sink = open_sink(password_broker.port)
    eventually(lambda: sink.report.link is LinkState.REFUSED, "is refused")
    assert "may want a user" in sink.report.detail


def test_the_password_comes_from_a_systemd_credential(
    password_broker: Broker, open_sink: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / CREDENTIAL).write_text("correct")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    sink = open_sink(password_broker.port, user="cabinet")
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")


def test_a_topic_that_access_rules_deny_is_said_once_kept_and_delivered_when_they_allow_it(
    start_broker: StartBroker,
    start_subscriber: Subscribe,
    open_sink: Start,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rules = tmp_path / "rules"
    allowed = "topic read #\ntopic readwrite homeassistant/#\ntopic readwrite edge-sser/+/status\n"
    allowed += "topic readwrite edge-sser/+/listen/#\ntopic readwrite edge-sser/+/+/health\n"
    rules.write_text(allowed)
    rules.chmod(0o600)
    broker = start_broker("allow_anonymous true", f"acl_file {rules}")
    subscriber = start_subscriber(broker.port)
    with caplog.at_level(logging.INFO):
        sink = open_sink(broker.port)
        emit(sink, episode(1))
        emit(sink, health())
        eventually(lambda: sink.report.refused == ((EPISODE_TOPIC, "Not authorized"),), "is refused")
        emit(sink, episode(2))  # not on its way beside the first: rules that change then let it overtake
        eventually(lambda: subscriber.on(f"edge-sser/{NODE}/desk/health"), "other topics are not held up")
        eventually(lambda: sink.report.outbox_depth == 2, "the others wait")
        assert EPISODE_TOPIC in sink.report.trouble
        rules.write_text(allowed + "topic readwrite edge-sser/+/+/episode\n")
        broker.reload()
        eventually(lambda: len(subscriber.episodes()) == 2, "delivered")
        eventually(lambda: sink.report.refused == () and sink.report.outbox_depth == 0, "no longer refused")
    assert [message.json["id"] for message in subscriber.episodes()] == [episode(1).id, episode(2).id]
    lines = [line for line in log_lines(caplog) if EPISODE_TOPIC in line]
    assert len(lines) == 2
    assert "refuses" in lines[0]
    assert "accepts" in lines[1]


def test_a_message_larger_than_the_broker_takes_does_not_hold_up_others(
    start_broker: StartBroker, start_subscriber: Subscribe, open_sink: Start
) -> None:
    broker = start_broker("allow_anonymous true", "max_packet_size 600")
    subscriber = start_subscriber(broker.port)
    sink = open_sink(broker.port, discovery=False)
    emit(sink, health(detail="x" * 600))
    emit(sink, episode(1))
    eventually(lambda: len(subscriber.episodes()) == 1, "the episode arrives")
    eventually(lambda: sink.report.outbox_depth == 0, "nothing waits")
    assert "at most 600 bytes" in dict(sink.report.refused)[f"edge-sser/{NODE}/desk/health"]
    assert sink.report.lost_now == 1


def tls_lines(authority: Authority, name: str = "broker", *, address: str = "127.0.0.1") -> list[str]:
    cert, key = authority.issue(name, address=address)
    return ["allow_anonymous true", f"certfile {cert}", f"keyfile {key}"]


def test_tls_with_the_right_authority(start_broker: StartBroker, open_sink: Start, authority: Authority) -> None:
    broker = start_broker(*tls_lines(authority))
    sink = open_sink(broker.port, scheme="mqtts", ca_file=authority.ca)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "connects")
    for number in range(200):
        emit(sink, episode(number))
        emit(sink, reading(number))
    eventually(lambda: sink.report.stored == 200 and sink.report.outbox_depth == 0, "all acknowledged")


@pytest.mark.parametrize("case", ["another authority", "the system's authorities", "another host's name"])
def test_a_certificate_that_cannot_be_trusted_is_refused_and_said_once(
    case: str,
    start_broker: StartBroker,
    open_sink: Start,
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    address = "192.0.2.1" if case == "another host's name" else "127.0.0.1"
    broker = start_broker(*tls_lines(authority, case.replace(" ", "-"), address=address))
    cable = Cable(broker.port)
    ca = {
        "another authority": Authority(tmp_path / "other").ca,
        "the system's authorities": None,
        "another host's name": authority.ca,
    }[case]
    with caplog.at_level(logging.INFO):
        sink = open_sink(cable.port, scheme="mqtts", ca_file=ca)
        emit(sink, episode(1))
        eventually(lambda: cable.connections > 3 and sink.report.outbox_depth == 1, "it is tried again")
        eventually(lambda: sink.report.link is LinkState.UNTRUSTED, "is refused")
        remedy = "write the host in mqtt.url" if case == "another host's name" else "as mqtt.ca_file"
        assert remedy in sink.report.detail
    assert len(log_lines(caplog)) == 1
    cable.close()


def test_mutual_tls(
    start_broker: StartBroker, start_subscriber: Subscribe, open_sink: Start, authority: Authority
) -> None:
    broker = start_broker(*tls_lines(authority), f"cafile {authority.ca}", "require_certificate true")
    stranger = open_sink(broker.port, scheme="mqtts", ca_file=authority.ca)
    eventually(lambda: stranger.report.link is LinkState.UNTRUSTED, "a device without a certificate is refused")
    assert "mqtt.cert_file" in stranger.report.detail
    stranger.close()
    cert, key = authority.issue("device")
    sink = open_sink(broker.port, scheme="mqtts", ca_file=authority.ca, cert_file=cert, key_file=key)
    eventually(lambda: sink.report.link is LinkState.CONNECTED, "one with a certificate is let in")


def test_tls_to_a_port_without_it_says_so(broker: Broker, open_sink: Start, authority: Authority) -> None:
    sink = open_sink(broker.port, scheme="mqtts", ca_file=authority.ca)
    eventually(lambda: sink.report.link not in (LinkState.CONNECTING, LinkState.CONNECTED), "fails")
    assert "TLS" in sink.report.detail


def test_two_devices_with_one_client_id_are_told(broker: Broker, open_sink: Start) -> None:
    first = open_sink(broker.port, client_id="twin")
    open_sink(broker.port, client_id="twin")
    eventually(lambda: "does another client use the id twin?" in first.report.detail, "is reported")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"url": "mqtts://h", "ca_file": "/nowhere/ca.pem"}, r"mqtt\.ca_file /nowhere/ca\.pem .*No such file"),
        ({"url": "mqtts://h", "cert_file": "/nowhere/c", "key_file": "/nowhere/k"}, r"mqtt\.cert_file /nowhere/c"),
        ({"url": "mqtt://u@h", "password_file": "/nowhere/password"}, r"/nowhere/password .*No such file"),
    ],
)
def test_files_that_cannot_be_used_are_named_at_the_start(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        MqttSink(MqttSettings(**settings), node=NODE, status=STATUS, sources=[])


def test_a_ca_file_that_is_no_certificate_is_named(tmp_path: Path, open_sink: Start) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("not a certificate")
    with pytest.raises(SettingsError, match=r"mqtt\.ca_file .*ca\.pem"):
        open_sink(1, scheme="mqtts", ca_file=ca)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\n"], ids=["empty", "an empty line", "no text"])
def test_a_password_file_without_a_password_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"mqtt\.password_file .*(password on its first line|not UTF-8)"):
        broker_password(MqttSettings(url="mqtt://u@h", password_file=path))


def test_an_empty_credential_is_none(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_text("")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert broker_password(MqttSettings(url="mqtt://u@h"), environ) is None
    assert broker_password(MqttSettings(url="mqtt://u@h"), {"CREDENTIALS_DIRECTORY": str(tmp_path / "none")}) is None


def test_a_credential_that_may_not_be_read_is_said_with_its_name(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).mkdir()  # root may read every file, but nobody a directory
    with pytest.raises(SettingsError, match=f"{CREDENTIAL} cannot be read: Is a directory"):
        broker_password(MqttSettings(url="mqtt://u@h"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_only_the_first_line_of_a_password_file_counts_and_spaces_belong_to_it(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b" a b \r\nsecond\n")
    assert broker_password(MqttSettings(url="mqtt://u@h", password_file=path)) == " a b "


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://localhost", BrokerAddress("localhost", 1883, False, None)),
        ("mqtts://cabinet@broker.example:8884/", BrokerAddress("broker.example", 8884, True, "cabinet")),
        ("mqtts://a%40b@[::1]", BrokerAddress("::1", 8883, True, "a@b")),
    ],
)
def test_addresses_that_are_understood(url: str, address: BrokerAddress) -> None:
    assert parse_address(url) == address
    assert MqttSettings(url=url).url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("broker.example", "must start with"),
        ("http://broker.example", "must start with"),
        ("mqtt://", "no host"),
        ("mqtt://h:99999", "1 to 65535"),
        ("mqtt://h:0", "port 0"),
        ("mqtt://h:x", "1 to 65535"),
        ("mqtt://[::1", "cannot be read"),
        ("mqtt://h/topic", "mqtt.base_topic"),
        ("mqtt://h h", "space"),
        ("mqtt://h\n", "space"),
    ],
)
def test_addresses_that_are_not_are_explained(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.model_validate({"mqtt": {"url": url}})


@pytest.mark.parametrize("url", ["mqtts://user:hunter2@host", "mqtt://:hunter2@host", "amqp://user:hunter2@host"])
def test_a_password_in_the_address_is_refused_and_never_repeated(url: str) -> None:
    with pytest.raises(SettingsError, match=r"mqtt\.password_file") as caught:
        Settings.model_validate({"mqtt": {"url": url}})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_an_address_or_explained(text: str) -> None:
    for url in (text, f"mqtt://{text}", f"mqtts://u@{text}:1"):
        with contextlib.suppress(SettingsError):
            address = parse_address(url)
            assert 0 < address.port < 65536
            assert address.host


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cert_file": "c"}, "go together"),
        ({"url": "mqtt://h", "ca_file": "c"}, "mqtts://"),
        ({"base_topic": "a/"}, "base_topic"),
        ({"base_topic": "/a"}, "base_topic"),
        ({"base_topic": "a/+"}, "base_topic"),
        ({"base_topic": "$SYS"}, "base_topic"),
        ({"discovery_prefix": "#"}, "discovery_prefix"),
        ({"retry_min_seconds": 9, "retry_max_seconds": 3}, "retry_max_seconds"),
        ({"outbox_bytes": 10}, "outbox_bytes"),
        ({"password": "x"}, "password"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MqttSettings(**{"url": "mqtts://h", **wrong})


@pytest.mark.parametrize("node", ["", "a/b", "a+b", "#", "ü"])
def test_a_node_that_cannot_be_in_a_topic_is_refused(node: str) -> None:
    with pytest.raises(SettingsError, match="cannot name this device"):
        Topics("edge-sser", node)


def test_the_access_rules_of_the_documentation_are_enough_and_keep_devices_apart(
    start_broker: StartBroker, start_subscriber: Subscribe, open_sink: Start, tmp_path: Path
) -> None:
    require_programs("mosquitto_passwd", packages="mosquitto")
    text = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text()
    (block,) = [block for block in text.split("```") if "pattern readwrite" in block]
    rules, passwords = tmp_path / "rules", tmp_path / "passwords"
    for path, content in ((rules, block.lstrip()), (passwords, "")):
        path.write_text(content)
        path.chmod(0o600)
    for user in (NODE, "dashboard", "other"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "p"], check=True, capture_output=True)
    broker = start_broker("allow_anonymous false", f"password_file {passwords}", f"acl_file {rules}")
    subscriber = start_subscriber(broker.port, "edge-sser/#", login=("dashboard", "p"))
    secret = password_file(tmp_path, "p")
    sink = open_sink(broker.port, user=NODE, password_file=secret)
    for event in (episode(1), health()):
        emit(sink, event)
    eventually(lambda: sink.report.stored == 2 and sink.report.outbox_depth == 0, "taken")
    emit(sink, reading(1))
    eventually(lambda: subscriber.on(f"edge-sser/{NODE}/desk/reading"), "a reading arrives")
    subscriber.publish(f"edge-sser/{NODE}/listen/set", "OFF")
    eventually(lambda: not sink.switch.on, "a command arrives")
    assert sink.report.refused == ()
    sink.close()
    stranger = open_sink(broker.port, user="other", password_file=secret)
    eventually(lambda: EPISODE_TOPIC in dict(stranger.report.refused) or stranger.report.refused, "is refused")
    assert f"edge-sser/{NODE}/status" in dict(stranger.report.refused)


def test_a_byte_order_mark_is_no_part_of_a_password(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(b"\xef\xbb\xbfsecret\r\n")
    assert broker_password(MqttSettings(url="mqtt://u@h", password_file=path)) == "secret"
