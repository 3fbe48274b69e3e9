"""The cost of all systems of the comparison, measured in one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from components import require_package

ROOT = Path(__file__).parents[2]
MEASURED = ("references/cnn1d-mfcc.facts.json", "references/egemaps-svm.facts.json", "sser-cnn.facts.json")


def test_facts_keep_their_sizes_and_notes_and_get_new_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_package("opensmile", "references")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import reference_cost

    monkeypatch.setattr(reference_cost, "ROUNDS", 1)
    (tmp_path / "references").mkdir()
    before = {name: json.loads((ROOT / "docs/results" / name).read_text("utf-8")) for name in MEASURED}
    for name, facts in before.items():
        (tmp_path / name).write_text(json.dumps({**facts, "cpu_ms": None, "front_end_ms": None, "note": "x"}), "utf-8")
    reference_cost.measure(tmp_path, tmp_path)
    for name, facts in before.items():
        after = json.loads((tmp_path / name).read_text("utf-8"))
        for key in ("parameters", "mflops", "window_s"):
            assert after[key] == facts[key], name
        assert after["note"] == "x"
        assert after["cpu_ms"] > 0.0
        assert after["front_end_ms"] > 0.0
