"""Baselines on disk: what is kept, and what is dropped with one line."""

from __future__ import annotations

import json
import logging
import stat
from pathlib import Path

import pytest

from edge_sser.errors import SourceError
from edge_sser.monitor.baselines import (
    BaselineStore,
    baseline_path,
    load_baseline,
    remove_baseline,
    save_baseline,
    saved_names,
)
from edge_sser.pipeline.baseline import Baseline
from edge_sser.pipeline.calm_level import normal

MODEL = "sser-cnn@ab12cd34"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def store() -> BaselineStore:
    return BaselineStore(MODEL)


def learned(log_odds: float = -2.5) -> Baseline:
    baseline = Baseline()
    for _ in range(40):
        baseline.follow(normal(log_odds, 0.2), 1.0, 0.0)
    return baseline


def test_a_baseline_is_kept_private_and_whole(state: Path, store: BaselineStore) -> None:
    assert store.load("desk") is None
    assert store.sync("desk", learned()) is None
    store.close()
    path = state / "baselines" / "desk.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    again = BaselineStore(MODEL).load("desk")
    assert again is not None
    assert again.to_dict() == learned().to_dict()
    assert list(json.loads(path.read_text())) == [
        "schema", "source", "model", "anchor", "value", "deviation", "heard_seconds", "declared", "updated",
    ]  # fmt: skip


def test_nothing_is_written_before_speech_nor_without_a_change(state: Path, store: BaselineStore) -> None:
    store.load("desk")
    store.sync("desk", Baseline())
    assert not state.exists()
    save_baseline("hall", MODEL, learned())
    kept = store.load("hall")
    before = baseline_path("hall").stat()
    assert kept is not None
    store.sync("hall", kept)
    store.close()
    assert baseline_path("hall").stat() == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "other@00000000"}, "it belongs to the model other@00000000"),
        ({"source": "hall"}, "of another source"),
        ({"updated": "2099-01-02T03:04:05.678Z"}, "lies in the future"),
        ({"updated": "yesterday"}, "Invalid isoformat"),
        ({"schema": 1}, "schema 2"),
        ({"value": 7.0}, "outside the bounds"),
        ({"value": None}, "missing"),
        ({"model": 5}, "model or date is missing"),
    ],
)
def test_a_baseline_that_cannot_be_used_is_dropped_with_one_line(
    store: BaselineStore, caplog: pytest.LogCaptureFixture, change: dict[str, object], reason: str
) -> None:
    path = save_baseline("desk", MODEL, learned())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert store.load("desk") is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert reason in record.getMessage()
    assert store.sync("desk", learned(-2.0)) is None  # and it is replaced
    store.close()
    assert load_baseline("desk").baseline.value == learned(-2.0).value


@pytest.mark.parametrize("content", [b"", b'{"schema": 1, "sou', b"\xff\xfe", b"[]", b"[" * 4000, b" " * 9000, b"null"])
def test_a_damaged_file_is_dropped_with_one_line(
    store: BaselineStore, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    save_baseline("desk", MODEL, learned()).write_bytes(content)
    assert store.load("desk") is None
    assert len(caplog.records) == 1
    assert "\n" not in caplog.records[0].getMessage()
    with pytest.raises(SourceError, match="cannot be used"):
        load_baseline("desk")


def test_a_file_that_another_program_changed_or_removed_wins(store: BaselineStore) -> None:
    own = learned()
    store.load("desk")
    store.sync("desk", own)
    store.close()
    store = BaselineStore(MODEL)
    own = store.load("desk") or own
    other = Baseline()
    other.declare([-0.8] * 60, [0.5] * 60)
    save_baseline("desk", MODEL, other)
    own.follow(normal(-2.0, 0.2), 1.0, 0.0)
    taken = store.sync("desk", own)
    assert taken is not None
    assert taken.to_dict() == other.to_dict()
    remove_baseline("desk")
    taken = store.sync("desk", taken)
    assert taken is not None
    assert taken.to_dict() == Baseline().to_dict()
    assert saved_names() == []


def test_a_folder_that_cannot_be_written_costs_one_line(
    state: Path, store: BaselineStore, caplog: pytest.LogCaptureFixture
) -> None:
    state.write_text("a file stands there")
    for value in (-2.0, -2.2, -2.4):
        assert store.sync("desk", learned(value)) is None
        store._worker.submit(int).result()
    assert len(caplog.records) == 1
    assert "baselines are lost when listening ends" in caplog.records[0].getMessage()
