"""Dockerfile and compose.yaml: nothing runs as root or is reached from outside, and each file that is named exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_sser.settings.load import load_settings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "packaging" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_the_image_runs_as_an_ordinary_user_and_installs_by_hashes() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "\nUSER edge-sser\n" in last
    assert last.index("\nUSER ") < last.index("\nENTRYPOINT ")
    assert "--require-hashes" in DOCKERFILE
    assert "gcc" not in last


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    ]
    assert len(sources) > 7
    for name in sources:
        assert (ROOT / name).exists(), name
        assert name.split("/")[0] in kept, name


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_is_fenced_in(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "ports" not in service
    assert "privileged" not in service
    if "build" in service:  # the Dockerfile's user
        assert "user" not in service
    else:
        assert service["user"].split(":")[0] not in ("", "0", "root")


def test_compose_asks_for_nothing_without_a_profile() -> None:
    """Compose puts variables into every service, also into those whose profile is off: `${NAME:?}` would end it."""
    assert re.findall(r"(?<!\$)\$\{\w+:?\?", (DOCKER / "compose.yaml").read_text().partition("services:")[2]) == []
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == [
        "edge-sser",
        "web",
        "mosquitto",
    ]


@pytest.mark.parametrize(
    ("name", "variable"), [("telegraf", "INFLUX_TOKEN"), ("grafana", "GF_SECURITY_ADMIN_PASSWORD")]
)
def test_a_container_without_its_password_says_which_to_set(name: str, variable: str) -> None:
    script = SERVICES[name]["entrypoint"][2].replace("$$", "$")
    assert variable in SERVICES[name]["environment"]
    environment = {"PATH": "/usr/bin:/bin", variable: ""}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert re.search(r"set (INFLUX_TOKEN|GRAFANA_PASSWORD)$", done.stderr.strip())


@pytest.mark.parametrize("name", SERVICES)
def test_files_and_volumes_of_a_container_exist(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume


def test_every_server_listens_on_loopback_only() -> None:
    assert re.findall(r"^listener .*", (DOCKER / "mosquitto.conf").read_text(), re.MULTILINE) == [
        "listener 1883 127.0.0.1"
    ]
    assert "--web.listen-address=127.0.0.1:9090" in SERVICES["prometheus"]["command"]
    assert SERVICES["influxdb"]["environment"]["INFLUXD_HTTP_BIND_ADDRESS"] == "127.0.0.1:8086"
    assert SERVICES["grafana"]["environment"]["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"


def test_the_settings_are_valid_and_fit_the_other_containers() -> None:
    settings = load_settings(DOCKER / "config.toml", environ={}).settings
    assert settings.mqtt is not None
    assert settings.mqtt.url == "mqtt://127.0.0.1:1883"
    assert settings.metrics is not None
    prometheus = yaml.safe_load((ROOT / "packaging" / "prometheus" / "prometheus.yml").read_text())
    assert prometheus["scrape_configs"][0]["static_configs"] == [{"targets": [f"127.0.0.1:{settings.metrics.port}"]}]


def test_the_fleets_files_become_those_of_this_host(tmp_path: Path) -> None:
    """Runs what the containers run to change them."""
    for name in ("telegraf", "grafana"):
        script = SERVICES[name]["entrypoint"][2].replace("$$", "$").rpartition(" && exec")[0]
        script = script.replace("/tmp/", f"{tmp_path}/")
        for place, folder in (("/fleet/", ROOT / "docs" / "fleet"), ("/dashboards/", ROOT / "packaging" / "grafana")):
            script = script.replace(f" {place}", f" {folder}/")
        environment = {**os.environ, "INFLUX_TOKEN": "token", "GF_SECURITY_ADMIN_PASSWORD": "password"}
        subprocess.run(["sh", "-c", script], check=True, timeout=60, env=environment)
    text = (tmp_path / "telegraf.conf").read_text()
    telegraf = tomllib.loads(text)
    assert ".example" not in text
    assert telegraf["outputs"]["influxdb_v2"][0]["organization"] == "edge-sser"
    for consumer in telegraf["inputs"]["mqtt_consumer"]:
        assert consumer["servers"] == ["tcp://127.0.0.1:1883"]
        assert not consumer.keys() & {"tls_ca", "username", "password"}
    known = {
        source["uid"] for source in yaml.safe_load((DOCKER / "grafana" / "datasources.yaml").read_text())["datasources"]
    }
    fleet = json.loads((tmp_path / "dashboards" / "fleet.json").read_text())
    assert {panel["datasource"]["uid"] for panel in fleet["panels"]} <= known
    assert (tmp_path / "dashboards" / "edge-sser.json").exists()
