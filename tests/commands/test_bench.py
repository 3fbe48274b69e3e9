"""`edge-sser bench` gives every figure it promises. How large they are is no matter of a test."""

from __future__ import annotations

import json

import pytest
from models import changed_card, write_model

from edge_sser.commands.bench import Figure, Latency, figure_table, latency_table


@pytest.fixture(autouse=True)
def few_inferences(monkeypatch):
    monkeypatch.setattr("edge_sser.commands.bench.INFERENCES", 20)
    monkeypatch.setattr("edge_sser.commands.bench.BATCH_INFERENCES", {1: 3, 8: 2, 32: 2})


def test_every_figure_is_there_for_each_model(call, tmp_path, model):
    other = write_model(tmp_path / "other.onnx", card=changed_card(name="other"))
    result = call("bench", model, other, "--json")
    assert (result.status, result.err) == (0, "")
    report = json.loads(result.out)
    assert report["machine"].keys() == {"machine", "date", "versions"}
    figures = {figure["name"]: figure["value"] for figure in report["figures"]}
    latencies = {f"{label.partition('@')[0]}@": each for label, each in report["latencies"].items()}
    for label in ("tiny@", "other@"):
        costs = {name.partition(": ")[2]: value for name, value in figures.items() if name.startswith(label)}
        whole = costs["one whole hop of speech"]
        parts = [value for name, value in costs.items() if name.startswith("  ")]
        assert sum(parts) == pytest.approx(whole)
        assert costs["streams per core, all speaking"] == pytest.approx(500.0 / whole)
        assert [(each["threads"], each["batch"]) for each in latencies[label]] == [
            (threads, batch) for threads in (1, 2) for batch in (1, 8, 32)
        ]
        assert all(each["p95_ms"] >= each["median_ms"] > 0 for each in latencies[label])
    assert figures["memory of this process, peak"] > 0


def test_quick_is_taken_with_a_warning(call, model):
    result = call("bench", model, "--quick")
    assert result.status == 0
    assert result.err == "edge-sser: warning: bench is always quick, so --quick has no effect and will go\n"
    assert "one whole hop of speech" in result.out
    assert "| 2 threads, batch 32 |" in result.out


def test_a_figure_without_a_value_says_why():
    figures = [Figure("one", 1.5, "ms"), Figure("two or more", None, "s", "it needs torch")]
    assert figure_table(figures).splitlines() == [
        "one                 1.5 ms",
        "two or more  not measured: it needs torch",
    ]


def test_latencies_of_several_files_stand_side_by_side():
    latency = Latency(threads=2, batch=8, median_ms=1.5, p95_ms=2.25)
    assert latency_table({"a@1": [latency], "b@2": [latency]}).splitlines() == [
        "| ms a batch: median (p95) | a@1 | b@2 |",
        "|---|---|---|",
        "| 2 threads, batch 8 | 1.500 (2.250) | 1.500 (2.250) |",
    ]
