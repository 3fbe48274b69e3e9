"""Every topic, field and word that the Telegraf and Grafana configurations name exists.

Neither program runs here. The rules of theirs that are checked are written down beside the check.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from edge_sser.events import HealthState, Level, StatusState, json_schema
from edge_sser.sinks.mqtt.contract import Topics

FLEET = Path(__file__).parents[2] / "docs" / "fleet"
ANY = Topics("edge-sser", "NODE")
TOPICS = {  # what a subscriber to every node and source asks for, and what comes then
    topic.replace("NODE", "+").replace("SOURCE", "+"): kind
    for topic, kind in {
        ANY.reading("SOURCE"): "reading",
        ANY.episode("SOURCE"): "episode",
        ANY.health("SOURCE"): "health",
        ANY.status: "status",
        ANY.listen_state: "listening",
    }.items()
}
WORDS = {
    "level": {level.value for level in Level},
    "status": {state.value for state in StatusState},
    "health": {state.value for state in HealthState},
}


def schema_fields(kind: str) -> dict[str, Any]:
    """The fields of an event, each with its schema."""
    return dict(json_schema()["$defs"][kind.capitalize()]["properties"])


# ---- Telegraf


@pytest.fixture(scope="module")
def telegraf() -> dict[str, Any]:
    return tomllib.loads((FLEET / "telegraf.conf").read_text())


def consumers(telegraf: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The inputs, by what they take."""
    found = {}
    for consumer in telegraf["inputs"]["mqtt_consumer"]:
        (topic,) = consumer["topics"]
        found[TOPICS[topic]] = consumer
    return found


def parsed(consumer: dict[str, Any]) -> dict[str, Any]:
    """Returns the parser's settings of an input."""
    (parser,) = consumer["json_v2"]
    (content,) = parser["object"]
    return {"measurement": parser["measurement_name"], **content}


def written(telegraf: dict[str, Any]) -> dict[str, set[str]]:
    """Returns the fields and tags of each measurement in InfluxDB."""
    found = {"listening": {"node", "value"}}
    for consumer in consumers(telegraf).values():
        if consumer["data_format"] == "json_v2":
            content = parsed(consumer)
            (topic,) = consumer["topic_parsing"]
            tags = set(topic["tags"].split("/")) - {"_"}
            keys = {*content["included_keys"], *content.get("tags", [])} - {content.get("timestamp_key")}
            found[content["measurement"]] = keys | tags
    return found


def test_telegraf_takes_every_topic_that_is_published(telegraf: dict[str, Any]) -> None:
    assert sorted(consumers(telegraf)) == sorted(TOPICS.values())


def test_telegraf_takes_fields_that_events_have(telegraf: dict[str, Any]) -> None:
    for kind, consumer in consumers(telegraf).items():
        if kind == "listening":
            assert (consumer["data_format"], consumer["data_type"]) == ("value", "string")
            assert consumer["name_override"] == kind
            continue
        content = parsed(consumer)
        assert content["measurement"] == kind
        assert set(content["included_keys"]) <= schema_fields(kind).keys()
        assert set(content.get("tags", [])) <= schema_fields(kind).keys()
        # The time must be among the keys that are included, or it is not looked at.
        assert content.get("timestamp_key", content["included_keys"][0]) in content["included_keys"]


def test_telegraf_takes_the_time_of_events_but_not_of_a_status_whose_time_is_that_of_the_connection(
    telegraf: dict[str, Any],
) -> None:
    stamped = {kind for kind, it in consumers(telegraf).items() if "timestamp_key" in str(it)}
    assert stamped == {"reading", "episode", "health"}
    for kind in stamped:
        content = parsed(consumers(telegraf)[kind])
        assert content["timestamp_key"] == "ts"
        assert content["timestamp_format"] == "2006-01-02T15:04:05Z07:00"  # RFC 3339 as Go writes a layout


def test_telegraf_reads_node_and_source_where_they_stand_in_the_topic(telegraf: dict[str, Any]) -> None:
    for consumer in consumers(telegraf).values():
        (parsing,) = consumer["topic_parsing"]
        assert [parsing["topic"]] == consumer["topics"]
        levels, names = parsing["topic"].split("/"), parsing["tags"].split("/")
        assert len(levels) == len(names)  # else Telegraf does not start
        wild = [name for level, name in zip(levels, names, strict=True) if level == "+"]
        assert wild == ["node", "source"][: len(wild)]
        assert {name for level, name in zip(levels, names, strict=True) if level != "+"} == {"_"}
        assert consumer["topic_tag"] == ""


def test_what_is_kept_is_kept_for_telegraf_and_its_sessions_stay_apart(
    telegraf: dict[str, Any],
) -> None:
    by_kind = consumers(telegraf)
    assert by_kind.pop("reading")["qos"] == 0
    assert all(it["qos"] == 1 and it["persistent_session"] for it in by_kind.values())
    clients = [it["client_id"] for it in consumers(telegraf).values()]
    assert len(set(clients)) == len(TOPICS)


def test_telegraf_connects_as_the_user_of_the_access_rules_and_holds_no_secret(telegraf: dict[str, Any]) -> None:
    (output,) = telegraf["outputs"]["influxdb_v2"]
    assert output["token"] == "${INFLUX_TOKEN}"
    for consumer in consumers(telegraf).values():
        assert consumer["password"] == "${MQTT_PASSWORD}"
        assert f"user {consumer['username']}\n" in (FLEET / "mosquitto.acl").read_text()
        assert all(server.startswith("ssl://") for server in consumer["servers"])


# ---- Grafana


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return dict(json.loads((FLEET / "grafana-dashboard.json").read_text()))


def queries(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """The title and the query of each panel."""
    return [(panel["title"], target["query"]) for panel in dashboard["panels"] for target in panel["targets"]]


def test_every_panel_asks_for_what_telegraf_writes(dashboard: dict[str, Any], telegraf: dict[str, Any]) -> None:
    written_by = written(telegraf)
    for title, query in queries(dashboard):
        (measurement,) = set(re.findall(r'r\._measurement == "(\w+)"', query))
        fields = set(re.findall(r'r\._field == "(\w+)"', query))
        assert fields, title
        columns = {name for part in re.findall(r"columns: \[([^]]*)\]", query) for name in re.findall(r'"(\w+)"', part)}
        made = set(re.findall(r"(\w+): (?:r\.|float)", query))
        known = written_by[measurement]
        assert fields <= known, title
        assert columns - {"_time", "_value"} <= known | made, title
        assert set(re.findall(r"\br\.([a-z]\w*)", query)) <= known | made, title


def test_every_panel_compares_with_words_that_events_use(dashboard: dict[str, Any]) -> None:
    for title, query in queries(dashboard):
        words = set(re.findall(r'r\.(?:_value|state) [!=]= "(\w+)"', query))
        kind = "health" if 'measurement == "health"' in query else "status" if '"status"' in query else "level"
        assert words <= WORDS[kind], title
    assert any('"ok"' in query for _, query in queries(dashboard))


def test_the_dashboard_shows_what_it_promises(dashboard: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in dashboard["panels"]]
    for title in ("Stress", "Share of nodes elevated", "Episodes", "Offline or stopped", "Microphones", "Latency"):
        assert title in titles
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(titles)


def test_every_panel_uses_the_data_source_that_is_asked_for_at_import(dashboard: dict[str, Any]) -> None:
    (source,) = dashboard["__inputs"]
    expected = {"type": source["pluginId"], "uid": f"${{{source['name']}}}"}
    assert all(it["datasource"] == expected for panel in dashboard["panels"] for it in (panel, *panel["targets"]))
    assert all(variable["datasource"] == expected for variable in dashboard["templating"]["list"])


def test_panels_lie_beside_each_other(dashboard: dict[str, Any]) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not own & cells, panel["title"]
        cells |= own
