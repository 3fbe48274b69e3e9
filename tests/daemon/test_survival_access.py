"""A broker that refuses the daemon, for one reason after another, until its configuration is repaired."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from components import require_programs
from mqtt_certificates import Authority
from mqtt_rig import Broker, Cable, eventually, free_port, gaps
from stressed_speech import EPISODE_TOPIC as TOPIC
from stressed_speech import feed_episodes, write_settings

DENIED_TRIES = 4  # of which the log must say nothing after the first
RULES = """
user dashboard
topic readwrite #
user cabinet
topic readwrite homeassistant/#
topic readwrite edge-sser/+/status
topic readwrite edge-sser/+/listen/#
topic readwrite edge-sser/+/+/health
"""
EPISODES_TOO = RULES + "topic readwrite edge-sser/+/+/episode\ntopic readwrite edge-sser/+/+/reading\n"


class Guarded:
    """A broker with a password, access rules and a certificate, each of which can be wrong."""

    def __init__(self, directory: Path) -> None:
        require_programs("mosquitto_passwd", packages="mosquitto")
        self._directory = directory
        self._passwords, self._rules = directory / "passwords", directory / "rules"
        self._certificate, self._key = directory / "broker.pem", directory / "broker.key"
        for secret in (self._passwords, self._rules, self._key):
            secret.touch(mode=0o600)
        self.port, self.port_without_tls = free_port(), free_port()

    def set_password(self, user: str, password: str) -> None:
        subprocess.run(["mosquitto_passwd", "-b", self._passwords, user, password], check=True, capture_output=True)

    def set_rules(self, rules: str) -> None:
        self._rules.write_text(rules)

    def set_certificate(self, authority: Authority) -> None:
        for source, target in zip(authority.issue("broker"), (self._certificate, self._key), strict=True):
            shutil.copyfile(source, target)

    def lines(self) -> list[str]:
        """For the configuration of mosquitto; a second listener lets the dashboard in whatever the certificate is."""
        return [
            "allow_anonymous false",
            f"password_file {self._passwords}",
            f"acl_file {self._rules}",
            f"certfile {self._certificate}",
            f"keyfile {self._key}",
            f"listener {self.port_without_tls} 127.0.0.1",
            "log_type all",
        ]


@pytest.fixture
def guarded(tmp_path: Path, authority: Authority) -> Guarded:
    """Returns a broker that fits the daemon, but for its password and rules."""
    guarded = Guarded(tmp_path)
    guarded.set_password("cabinet", "something else")
    guarded.set_password("dashboard", "d")
    guarded.set_rules(RULES)
    guarded.set_certificate(authority)
    return guarded


def test_each_refusal_is_logged_once_and_everything_is_delivered_after_its_repair(
    guarded, authority, start, start_broker, start_subscriber, sharp_model, tmp_path
):
    broker: Broker = start_broker(*guarded.lines(), port=guarded.port)
    subscriber = start_subscriber(guarded.port_without_tls, TOPIC, login=("dashboard", "d"))
    cable = Cable(broker.port)
    secret = tmp_path / "password"
    secret.write_text("correct\n")
    config = write_settings(
        tmp_path / "config.toml",
        url=f"mqtts://cabinet@127.0.0.1:{cable.port}",
        ca_file=authority.ca,
        password_file=secret,
    )
    daemon = start("--config", config, "--model", sharp_model, "--log-level", "info", fed=True)

    def logged(words: str) -> int:
        return sum(words in line for line in daemon.log)

    def tried_in_vain(words: str) -> None:
        eventually(lambda: logged(words) == 1, "it is logged")
        lines, before = logged("MQTT"), cable.connections
        eventually(lambda: cable.connections >= before + DENIED_TRIES, "it is tried again and again")
        assert logged("MQTT") == lines, daemon.log

    feed_episodes(daemon, 1)
    tried_in_vain("refuses the connection")
    assert logged("check the user 'cabinet' and the password") == 1

    guarded.set_password("cabinet", "correct")
    broker.reload()
    eventually(lambda: logged("connected (MQTT 5)") == 1, "it is let in")
    feed_episodes(daemon, 1)
    refused = "Denied PUBLISH from edge-sser-cab12"
    eventually(lambda: broker.log_text().count(f"{refused} (d0, q1") >= DENIED_TRIES, "an episode is offered again")
    assert logged(f"refuses {TOPIC}: Not authorized; check its access rules") == 1
    assert subscriber.payloads(TOPIC) == []

    guarded.set_rules(EPISODES_TOO)
    broker.reload()
    eventually(lambda: subscriber.payloads(TOPIC) == daemon.episode_lines(), "the episodes are taken")
    eventually(lambda: logged(f"accepts {TOPIC} now") == 1, "which is said")

    broker.stop()
    guarded.set_certificate(Authority(tmp_path / "stranger"))
    broker.start()
    feed_episodes(daemon, 1)
    tried_in_vain("its certificate cannot be trusted")
    assert any("name the certificate of the authority that signed it as mqtt.ca_file" in line for line in daemon.log)

    broker.stop()
    guarded.set_certificate(authority)
    broker.start()
    eventually(lambda: logged("connected (MQTT 5)") == 2, "it is trusted again")
    feed_episodes(daemon, 1)
    eventually(lambda: subscriber.payloads(TOPIC) == daemon.episode_lines(), "all arrives, in order")
    assert daemon.stop() == 0
    assert gaps(subscriber.received) == []
    assert all(line != after for line, after in itertools.pairwise(daemon.log))
    assert "correct" not in "".join(daemon.log)
    cable.close()
