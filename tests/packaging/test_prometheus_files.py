"""Alerts and dashboard for Prometheus ask for figures that the endpoint serves, with labels that it gives."""

from __future__ import annotations

import json
import re
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from mqtt_rig import STATUS, emit, health, reading
from prometheus_client.parser import text_string_to_metric_families

from edge_sser.sinks.metrics import MetricsSink
from edge_sser.sinks.mqtt.diagnosis import LinkState, MqttReport

PACKAGING = Path(__file__).parents[2] / "packaging"
ALERTS = yaml.safe_load((PACKAGING / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((PACKAGING / "grafana" / "edge-sser.json").read_text())
BY_PROMETHEUS = {"up", "job", "instance"}  # what every scrape adds
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in ALERTS},
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    },
}


@pytest.fixture(scope="module")
def served() -> dict[str, dict[str, set[str]]]:
    """Metrics of the endpoint: name -> label -> values."""
    sink = MetricsSink(address="127.0.0.1", port=0)
    try:
        sink.watch_mqtt(lambda: MqttReport(link=LinkState.CONNECTED))
        emit(sink, STATUS, reading(1), health())
        with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=60) as answer:
            text = answer.read().decode()
    finally:
        sink.close()
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, defaultdict(set))
            for name, value in sample.labels.items():
                labels[name].add(value)
    return found


def selectors(expression: str) -> list[tuple[str, str]]:
    """The metrics of an expression, each with what stands in its braces."""
    return re.findall(r"\b(edge_sser_\w+|up\b)(?:\{([^}]*)\})?", expression)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_asks_for_what_is_served(name: str, served: dict[str, dict[str, set[str]]]) -> None:
    found = selectors(EXPRESSIONS[name])
    assert found
    for metric, matchers in found:
        assert metric in served.keys() | BY_PROMETHEUS
        for label, operator, value in re.findall(r'(\w+)\s*(=~|=)\s*"([^"]*)"', matchers):
            assert label in served.get(metric, {}).keys() | BY_PROMETHEUS, metric
            if label in ("state", "level"):
                assert set(value.split("|") if operator == "=~" else [value]) <= served[metric][label]


def test_an_alert_says_which_device_and_what_to_do() -> None:
    assert len(ALERTS) == len({rule["alert"] for rule in ALERTS}) > 5
    for rule in ALERTS:
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
        assert rule["annotations"]["remedy"]
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) - BY_PROMETHEUS
        kept = set(re.findall(r"by \(([^)]*)\)", rule["expr"]) or [", ".join(labels)])
        assert all(labels <= set(re.split(r",\s*", names)) for names in kept), rule["alert"]


def test_the_rules_that_prometheus_reads_are_the_ones_that_are_tested() -> None:
    folder = PACKAGING / "prometheus"
    settings: dict[str, Any] = yaml.safe_load((folder / "prometheus.yml").read_text())
    tests: dict[str, Any] = yaml.safe_load((folder / "alerts-test.yml").read_text())
    assert settings["rule_files"] == tests["rule_files"] == ["alerts.yml"]
    known = {rule["alert"] for rule in ALERTS}
    assert {case["alertname"] for part in tests["tests"] for case in part["alert_rule_test"]} <= known


def test_panels_do_not_overlap_and_ask_the_chosen_data_source() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not own & cells, panel["title"]
        cells |= own
        assert {it["datasource"]["uid"] for it in (panel, *panel["targets"])} == {"${source}"}
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
